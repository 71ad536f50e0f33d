"""The best paces where requests stay: Newton's method on linear programs.

Around a plan and its paces the program is linear but for products of a pace and what is served;
with their tangents in their place (``Paced.linearised``) one linear program moves plan and paces
together, and one to three of them settle. The search sets out from the relaxed program's answer, its
paces brought down to the token times that were promised. Where one of those binds, a pool may be
closed to the class at one pace and open just below, so what is earned jumps: if the end is worth
noticeably less than what no paces outdo, the search starts again from the answer's own paces, from the
slowest and from each promise, and the best end counts. With one pool a promise may tell the pace by itself.

Where it ends no small change of the paces earns more. Nothing else is claimed; the relaxed program
bounds what another end could earn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from sluice.model.plan import Verdict
from sluice.planning.certificate import certify
from sluice.planning.decode import mean_step_seconds
from sluice.planning.formulate import Formulation
from sluice.planning.paced import Paced
from sluice.planning.program import Program, Vector
from sluice.planning.promises import Promise, PromiseKind
from sluice.planning.refine import at_corner
from sluice.planning.solver import Basis, Solution, solve

_ROUNDS = 8
"""Linear programs of one search; more than three are rare."""
_STILL = 1e-4
"""Change of every pace, relative to its range, at which the search has settled."""
_SAME = 1e-6
"""Relative difference of two values that is not worth another linear program."""
_CLOSE = 5e-3
"""Part of what no paces outdo within which one start is enough: more starts hardly ever find more of it."""
_TURNS_TO_PROVE = 3
"""Turns after which an answer that has settled is solved for: two more bring it as near as a proof wants, mostly."""
_SMALL_KERNEL = 64
_MOST_STARTS = 8
_NEAR = 1e-6
"""Relative distance from a promised token time that is rounding: the pace is the promise then."""
_BELOW = 1.0 - 1e-12
"""Just below a promise, where rounding does not break it."""


class Proven(Protocol):
    """An answer that was proved at its paces."""

    @property
    def formulation(self) -> Formulation:
        """The program it answers."""

    @property
    def solution(self) -> Solution:
        """Where it stands."""

    @property
    def value(self) -> float:
        """Money per second."""


Found = TypeVar("Found", bound=Proven)


class Proofs(NamedTuple, Generic[Found]):
    """How an answer at given paces is proved; each gives None where it is not."""

    check: Callable[[Formulation, Solution], Found | None]
    """Checks columns and prices."""
    prove: Callable[[Formulation, Basis], Found | None]
    """Checks a corner, and solves from it on."""
    solve: Callable[[Formulation, Basis], Found | None]
    """Solves from a corner on, and checks."""


class _Start(NamedTuple):
    """A plan around which the program is made linear, and its paces."""

    paces: Vector
    primal: Vector
    basis: Basis


def search(paced: Paced, start: Solution, most: float, proofs: Proofs[Found]) -> Found | None:
    """The best answer found at any paces; None where none is feasible.

    It sets out from ``start``, the solution of the relaxed program or a guess of it; no paces earn more than ``most``.
    """
    if (best := _at_promise(paced, start.basis, proofs)) is not None:
        return best
    own = own_paces(paced, start.primal)
    kept = _keeping(paced, own)
    best = _settled(paced, _Start(kept, start.primal, start.basis), proofs)
    if best is not None and (not paced.timed_rows or best.value >= most - _CLOSE * abs(most)):
        return best
    ends = [] if best is None else [best]
    if kept is not own and (settled := _settled(paced, _Start(own, start.primal, start.basis), proofs)) is not None:
        ends.append(settled)
    for paces in _others(paced):
        ends += _ends(paced, paces, start.basis, proofs)
    if not ends:
        ends = _ends(paced, paced.lowest, start.basis, proofs)
    return max(ends, key=lambda found: found.value, default=None)


def _keeping(paced: Paced, paces: Vector) -> Vector:
    """``paces`` brought down to the promised token times in pools that can keep them; the same where all are kept."""
    for seconds in _promised(paced):
        if (late := (paced.lowest < seconds) & (paces > seconds)).any():
            paces = np.where(late, seconds * _BELOW, paces)
    return paces


def _at_promise(paced: Paced, basis: Basis, proofs: Proofs[Found]) -> Found | None:
    """The answer at a promised token time, where it is certain that it is the best; else None.

    No slower pace is feasible where one pool is all there is and some of the class must be served. At a
    faster one row (16) has less room and the others have more: where these have no price, none earns more.
    """
    promised = {promise.class_name: seconds for promise, seconds in _token_times(paced) if promise.hard}
    needed = {
        promise.class_name
        for promise in paced.formulation.problem.promises
        if promise.kind in {PromiseKind.SERVED, PromiseKind.GUARANTEED} and promise.hard and promise.target > 0
    }
    seconds = min((promised[name] for name in needed & promised.keys()), default=np.inf)
    if len(paced.formulation.pools) > 1 or not paced.lowest[0] <= seconds < paced.highest[0]:
        return None
    found = proofs.solve(paced.at(np.array([seconds * _BELOW])), basis)
    return None if found is None or paced.is_priced(found.solution.dual) else found


def _ends(paced: Paced, paces: Vector, basis: Basis, proofs: Proofs[Found]) -> list[Found]:
    """The answer at ``paces``, if there is one, and the one to which it leads."""
    made = proofs.solve(paced.at(paces), basis)
    if made is None:
        return []
    settled = _settled(paced, _Start(paces, made.solution.primal, made.solution.basis), proofs)
    return [made] if settled is None else [settled, made]


def own_paces(paced: Paced, primal: Vector) -> Vector:
    """The mean time per decode step of each tied group as a plan has it, its fastest modes filled first."""
    found = [mean_step_seconds(paced.formulation, columns, primal) for columns in paced.tied]
    return np.clip(found, paced.lowest, paced.highest)


def _settled(paced: Paced, start: _Start, proofs: Proofs[Found]) -> Found | None:
    """The answer at the paces to which the linearised programs lead from ``start``."""
    paces, primal, basis, value = start.paces, start.primal, paced.with_paces(start.basis), np.inf
    count, settled = paced.formulation.program.columns, 0
    width = np.maximum(paced.width, _STILL * paced.lowest)
    for turn in range(_ROUNDS):
        program = paced.linearised(paces, primal)
        found = (_same_corner(program, basis) if turn else None) or solve(program, start=basis)
        if found.verdict is not Verdict.OPTIMAL:
            return None
        primal, moved, basis = found.primal[:count], found.primal[count:], found.basis
        paces = np.clip(paces + moved, paced.lowest, paced.highest)
        before, value = value, float(program.objective @ found.primal)
        settled += bool((np.abs(moved) <= _STILL * width).all() or abs(value - before) <= _SAME * abs(value))
        if settled:
            formulation, corner = paced.at(_kept(paced, paces)), paced.without_paces(basis)
            proved = proofs.check(formulation, replace(found, primal=primal, basis=corner))
            if proved is None and settled >= _TURNS_TO_PROVE:
                proved = proofs.prove(formulation, corner)
            if proved is not None:
                return proved
    return None


def _same_corner(program: Program, basis: Basis) -> Solution | None:
    """The answer at the corner of the program before, where that is still optimal: no solver is needed then."""
    found = at_corner(program, basis, rounds=0, largest=_SMALL_KERNEL)
    if found is None or not certify(program, found.primal, found.dual).holds:
        return None
    return replace(found, verdict=Verdict.OPTIMAL)


def _others(paced: Paced) -> Iterator[Vector]:
    """Paces to start from where the relaxed answer may not lead to the best: the slowest, and the promises."""
    yield paced.highest
    for seconds in _promised(paced)[:_MOST_STARTS]:
        yield np.clip(seconds * _BELOW, paced.lowest, paced.highest)


def _kept(paced: Paced, paces: Vector) -> Vector:
    """``paces`` that are promised token times but for rounding, on the side where the promise holds."""
    for seconds in _promised(paced):
        paces = np.where(np.abs(paces - seconds) <= _NEAR * seconds, seconds * _BELOW, paces)
    return np.clip(paces, paced.lowest, paced.highest)


def _promised(paced: Paced) -> list[float]:
    """Seconds per decode step that some class was promised, where a pool could take more and less."""
    inside = (paced.lowest.min(initial=np.inf), paced.highest.max(initial=0.0))
    return sorted({seconds for _, seconds in _token_times(paced) if inside[0] < seconds < inside[1]})


def _token_times(paced: Paced) -> list[tuple[Promise, float]]:
    """The promised token times of classes, with their seconds per decode step."""
    rates = {entry.name: entry.tokens_per_step for entry in paced.formulation.problem.classes}
    return [
        (entry.promise, entry.promise.target * rates[entry.promise.class_name])
        for entry in paced.formulation.promises
        if entry.row is not None and entry.promise.kind is PromiseKind.TPOT and entry.promise.class_name is not None
    ]
