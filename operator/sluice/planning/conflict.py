"""When hard promises cannot hold together: which, what would do, and what is planned meanwhile.

Nobody is told "infeasible". Every hard promise gets a slack in its own unit, and the slacks
are made small in the declared order of sacrifice: first those of the most important
promises, then, with these held, those of the next, the least important last. Within one
level what is worth least gives way: violations count by the money of the requests they
concern. The plan is then the best one that keeps the promises as relaxed. Beside it stand
minimal set of promises that cannot all hold (found by leaving out one after the other), and
for each of them the least relaxation that alone would do.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from sluice.planning.formulate import Formulation, formulate
from sluice.planning.groups import equal_pools
from sluice.planning.pool_rows import prefill_seconds
from sluice.planning.problem import Problem
from sluice.planning.program import Vector
from sluice.planning.promise_place import PromiseRow
from sluice.planning.promise_rows import reachable_target
from sluice.planning.promises import Promise, PromiseKind
from sluice.planning.solver import Effort, Solution, solve

_NOTHING = 1e-7
"""Relative violation that is rounding."""
SMALLEST_MARGIN = 1e-7
"""How much further than the least relaxation a promise is relaxed, relative: the next solve rounds too."""
_MOST_FILTERED = 64
"""Largest set of suspects that is reduced to a minimal one."""
_MOST_SETS = 16
"""Independent conflicts that are told apart."""


class Relaxation:
    """The elastic program of one problem, solved for one question after another."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.formulation: Formulation = formulate(problem, elastic=True)
        self._entries = {
            entry.slack: entry for entry in self.formulation.promises if entry.promise.hard and entry.slack is not None
        }
        self.slacks: tuple[int, ...] = tuple(self._entries)
        self._worth = {slack: self._money(entry) for slack, entry in self._entries.items()}

    def without(self, promises: Collection[Promise]) -> Relaxation:
        """The same for the problem without some promises."""
        left = tuple(promise for promise in self.problem.promises if not _among(promise, promises))
        return Relaxation(replace(self.problem, promises=left))

    @property
    def rowless(self) -> list[Promise]:
        """Promises that only close pools: the TTFT of those who wait for ever."""
        return [
            entry.promise
            for entry in self.formulation.promises
            if entry.promise.hard and entry.promise.kind is PromiseKind.TTFT and entry.row is None
        ]

    def worth(self, slack: int) -> float:
        """Money per second that one unit of the violation ``slack`` concerns."""
        return self._worth[slack]

    def entry(self, slack: int) -> PromiseRow:
        """The promise whose violation ``slack`` is."""
        return self._entries[slack]

    def _money(self, entry: PromiseRow) -> float:
        """Money per second that one unit of violation concerns: the value of the requests it fails."""
        data, promise = self.formulation.data, entry.promise
        places = [i for i, c in enumerate(self.problem.classes) if promise.class_name in {None, c.name}]
        worth = max(float((data.value * data.high)[places].sum()), 1e-9)
        match promise.kind:
            case PromiseKind.WAIT | PromiseKind.TTFT:
                theta = float(data.theta[places[0]])
                return worth * theta * math.exp(-theta * promise.target)
            case PromiseKind.TPOT | PromiseKind.SLOT_TPOT:
                return worth / max(promise.target, 1e-6)
            case _:
                return worth

    def least(self, slacks: Collection[int], limits: dict[int, float]) -> Solution:
        """Minimise what the violations of ``slacks`` concern, in money, with ``limits`` on any of them."""
        program = self.formulation.program
        objective, upper = np.zeros(program.columns), program.upper.copy()
        for slack in slacks:
            objective[slack] = -self._worth[slack]
        for slack, limit in limits.items():
            upper[slack] = limit
        asked = replace(program, objective=objective, upper=upper)
        solution = solve(asked)
        return solution if solution.verdict.may_actuate else solve(asked, Effort.CAREFUL)

    def violation(self, slack: int, primal: Vector) -> float:
        """Violation of one promise in its own unit; rounding is none."""
        scale = float(self.formulation.program.scale[slack])
        value = float(primal[slack])
        return value if value > _NOTHING * scale else 0.0


def within_reach(problem: Problem) -> Problem:
    """The problem with every hard TTFT target raised to what the fastest pool's prefill alone takes; itself if none."""
    if not any(promise.kind is PromiseKind.TTFT and promise.hard for promise in problem.promises):
        return problem
    groups = equal_pools(problem)
    promises = tuple(
        _retargeted(promise, reachable_target(promise, groups, problem)) if promise.hard else promise
        for promise in problem.promises
    )
    return problem if promises == problem.promises else replace(problem, promises=promises)


def relaxed(problem: Problem, margin: float = SMALLEST_MARGIN) -> tuple[Problem, Relaxation]:
    """``problem`` with its hard promises relaxed as little as the order of sacrifice allows, and ``margin`` more."""
    relaxation = Relaxation(problem)
    limits: dict[int, float] = {}
    levels = sorted({relaxation.entry(slack).promise.importance for slack in relaxation.slacks}, reverse=True)
    primal = None
    for level in levels:
        members = [s for s in relaxation.slacks if relaxation.entry(s).promise.importance == level]
        solution = relaxation.least(members, limits)
        if not solution.verdict.may_actuate:
            break
        primal = solution.primal
        for slack in members:
            violation = relaxation.violation(slack, primal)
            room = margin * float(relaxation.formulation.program.scale[slack])
            limits[slack] = violation + room if violation > 0 else 0.0
    if primal is None:
        return relaxation.problem, relaxation
    targets = {
        relaxation.entry(slack).promise.name: _target_after(relaxation, slack, limit, primal, margin)
        for slack, limit in limits.items()
        if limit > 0
    }
    promises = tuple(
        _retargeted(promise, targets[promise.name]) if promise.hard and promise.name in targets else promise
        for promise in relaxation.problem.promises
    )
    return replace(relaxation.problem, promises=promises), relaxation


def _retargeted(promise: Promise, target: float) -> Promise:
    """The promise with another target that remembers what was asked."""
    if target == promise.target:
        return promise
    return replace(promise, target=target, asked=promise.target if promise.asked is None else promise.asked)


def _target_after(relaxation: Relaxation, slack: int, violation: float, primal: Vector, margin: float = 0.0) -> float:
    """The target that a violation of the elastic row amounts to."""
    promise, problem = relaxation.entry(slack).promise, relaxation.problem
    match promise.kind:
        case PromiseKind.WAIT | PromiseKind.TTFT:
            theta = next(c.abandonment_rate for c in problem.classes if c.name == promise.class_name)
            left = 1.0 - theta * violation
            # The row is linear in the violation, the wait is not: e^(-theta T') = e^(-theta T) (1 - theta v).
            return promise.target - math.log(max(left, 1e-15)) / theta
        case PromiseKind.SERVED | PromiseKind.GUARANTEED:
            return max(0.0, promise.target - violation)
        case PromiseKind.TPOT | PromiseKind.SLOT_TPOT:
            return _ratio_target(relaxation, slack, primal, margin)
        case _:
            return promise.target + violation


def _ratio_target(relaxation: Relaxation, slack: int, primal: Vector, margin: float) -> float:
    """Token times are ratios: the target that the elastic solution keeps."""
    entry, program = relaxation.entry(slack), relaxation.formulation.program
    inside = (program.entry_rows == entry.row) & (program.entry_columns != slack)
    columns = program.entry_columns[inside]
    terms = program.entries[inside] * primal[columns]
    target = entry.promise.target
    # activity = amount - target * weight; the amount at another target tells the weight.
    loose = formulate(_with_target(relaxation.problem, entry.promise, target + 1.0), elastic=True).program
    weight = float(terms.sum() - (loose.entries[inside] * primal[columns]).sum())
    return target * (1 + margin) + max(0.0, float(terms.sum()) / weight) if weight > 0 else target


def _with_target(problem: Problem, promise: Promise, target: float) -> Problem:
    promises = tuple(replace(p, target=target) if p is promise else p for p in problem.promises)
    return replace(problem, promises=promises)


def minimal_sets(relaxation: Relaxation) -> tuple[tuple[Promise, ...], ...]:
    """Sets of hard promises that cannot all hold, although each can as soon as any one of it is left out.

    No promise is in two of them: once a set is found it is looked for more among the others, so
    that conflicts that have nothing to do with each other are all named.
    """
    found: list[tuple[Promise, ...]] = []
    while len(found) < _MOST_SETS and (clash := _minimal(relaxation)):
        found.append(clash)
        # A promise shapes the program beyond its row (a TTFT closes pools), so the rest is stated anew.
        relaxation = relaxation.without(clash)
    return tuple(found)


def _minimal(relaxation: Relaxation) -> tuple[Promise, ...]:
    """One minimal set of promises that cannot hold together; empty where all can."""
    everything = relaxation.least(relaxation.slacks, {})
    if not everything.verdict.may_actuate or not _is_violated(relaxation, everything):
        return ()
    suspects = [
        relaxation.entry(slack).promise
        for slack in relaxation.slacks
        if abs(_row_price(relaxation, slack, everything)) > _NOTHING
        or relaxation.violation(slack, everything.primal) > 0
    ]
    suspects += relaxation.rowless
    if len(suspects) <= _MOST_FILTERED:
        for promise in tuple(suspects):
            rest = [other for other in suspects if other is not promise]
            if _clash(relaxation, rest):
                suspects = rest
    return tuple(suspects[:_MOST_FILTERED])


def _row_price(relaxation: Relaxation, slack: int, solution: Solution) -> float:
    """Price of the slack's row, as a share of what one unit of its violation is worth."""
    entry, program = relaxation.entry(slack), relaxation.formulation.program
    own = (program.entry_rows == entry.row) & (program.entry_columns == slack)
    step = float(program.entries[own][0]) / relaxation.worth(slack)
    return 0.0 if entry.row is None else float(solution.dual[entry.row]) * step


def _clash(relaxation: Relaxation, promises: Collection[Promise]) -> bool:
    """Whether ``promises`` alone cannot all hold."""
    alone = relaxation.without([p for p in relaxation.problem.promises if p.hard and not _among(p, promises)])
    if not alone.slacks:
        return False
    solution = alone.least(alone.slacks, {})
    return not solution.verdict.may_actuate or _is_violated(alone, solution)


def _is_violated(relaxation: Relaxation, solution: Solution) -> bool:
    return any(relaxation.violation(slack, solution.primal) > 0 for slack in relaxation.slacks)


def _among(promise: Promise, promises: Collection[Promise]) -> bool:
    """Whether it is one of them: by identity, for two may be equal."""
    return any(promise is other for other in promises)


def remedy(relaxation: Relaxation, promise: Promise, elsewhere: Collection[Promise] = ()) -> str:
    """The least relaxation of ``promise`` that alone would end its conflict, in words.

    ``elsewhere`` are the promises of other conflicts, which have remedies of their own.
    """
    if _among(promise, relaxation.rowless):
        return _slower_prefill(relaxation, promise, elsewhere)
    (slack,) = (s for s in relaxation.slacks if relaxation.entry(s).promise is promise)
    others = {
        other: 0.0
        for other in relaxation.slacks
        if other != slack and not _among(relaxation.entry(other).promise, elsewhere)
    }
    solution = relaxation.least([slack], others)
    if not solution.verdict.may_actuate:
        return f"{promise.name}: no relaxation of it alone would do"
    target = _target_after(relaxation, slack, float(solution.primal[slack]), solution.primal)
    return f"{promise.name}: {quantity(promise, promise.target)} to {quantity(promise, target)} would do"


def _slower_prefill(relaxation: Relaxation, promise: Promise, elsewhere: Collection[Promise]) -> str:
    """The same for a promise that only closes pools: the target that opens enough of them."""
    problem = relaxation.problem
    (uncached,) = (c.uncached_prompt_tokens for c in problem.classes if c.name == promise.class_name)
    for target in sorted({prefill_seconds(group, uncached) for group in equal_pools(problem)}):
        if target > promise.target:
            changed = _retargeted(promise, target)
            promises = tuple(changed if p is promise else p for p in problem.promises if not _among(p, elsewhere))
            loose = Relaxation(replace(problem, promises=promises))
            if not _clash(loose, promises):
                return f"{promise.name}: {quantity(promise, promise.target)} to {quantity(promise, target)} would do"
    return f"{promise.name}: no relaxation of it alone would do"


def quantity(promise: Promise, value: float) -> str:
    """A target with its unit."""
    if promise.kind.in_seconds:
        return f"{value:.4g} s"
    return f"{value:.1%}" if promise.kind.is_floor or promise.kind is PromiseKind.SERVED_FAIRNESS else f"{value:.4g}"
