"""Formulate, solve, certify: one problem to one checked answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sluice.model.plan import Verdict
from sluice.planning.certificate import Certificate, certify
from sluice.planning.comparison_rows import slot_ratio
from sluice.planning.formulate import Formulation, formulate
from sluice.planning.opening import opening
from sluice.planning.pace import at_best, excesses, stays, tied
from sluice.planning.pace_search import Proofs, own_paces, search
from sluice.planning.paced import Paced
from sluice.planning.problem import Problem
from sluice.planning.promises import PromiseKind
from sluice.planning.refine import at_corner
from sluice.planning.solver import Basis, Effort, Solution, solve
from sluice.planning.ties import untied

_FIRST_CUTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_MOST_CUTS = 40
_CUT_TOLERANCE = 1e-10
_SMALL_KERNEL = 64
"""Up to this size a corner is computed faster than the solver is told of it."""

_SMALL_PROGRAM = 256
"""Columns up to which a plan with shared iterations says exactly what moving decodes would earn."""
_SAME = 1e-6
"""Relative difference of two values that nobody need know of."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The solver's answer to one problem, and our check of it."""

    formulation: Formulation
    solution: Solution
    certificate: Certificate | None
    """None where the solver had no solution to check."""
    notes: tuple[str, ...] = ()
    """What a reader of the plan must know of how it was found."""

    @property
    def is_optimal(self) -> bool:
        """Whether the solver says optimal and the certificate agrees."""
        return self.solution.verdict.may_actuate and self.certificate is not None and self.certificate.holds

    @property
    def value(self) -> float:
        """The objective, money per second; NaN without a certificate."""
        return float("nan") if self.certificate is None else self.certificate.value


def answer(problem: Problem, *, ties: bool = True) -> Answer:
    """The checked answer to ``problem``, which must be free of faults.

    ``ties`` breaks ties between equal optima by the stated rule; what only needs the value goes without.
    """
    curved = any(promise.kind is PromiseKind.SLOT_TPOT and not promise.hard for promise in problem.promises)
    if curved:
        return _by_cuts(problem, ties=ties)
    return _placed(problem, (), ties=ties)


def _placed(problem: Problem, cuts: Sequence[float], *, ties: bool) -> Answer:
    """The answer, with one iteration time for all classes of a pool where requests stay and it matters."""
    if any(stays(problem)):
        return _staying(problem, cuts, ties=ties)
    return _once(formulate(problem, cuts=cuts), ties=ties)


def _staying(problem: Problem, cuts: Sequence[float], *, ties: bool) -> Answer:
    """The answer where requests stay on the engine that prefilled them."""
    paced = Paced.of(problem, cuts)
    start = opening(paced.formulation)
    # The guess gives memory and token times no price, so it is the same corner at all paces.
    guess = None if start is None else at_corner(paced.formulation.program, start, rounds=0, largest=_SMALL_KERNEL)
    if guess is not None and (ample := _check(paced.at(paced.highest), guess)) is not None:
        return _untied(ample) if ties else ample
    relaxed = found = None
    if guess is not None and len(paced.formulation.pools) == 1 and _is_small(paced) and not paced.timed_rows:
        found = _shared(paced, guess, np.inf, guess)
    if found is None:
        relaxed = _relaxed(paced, start, guess)
        found = _shared(paced, relaxed.solution, relaxed.value, guess) if relaxed.is_optimal else None
    if found is None:
        best = _once(formulate(problem, cuts=cuts), ties=ties)
        over = excesses(best.formulation, best.solution.primal) if best.is_optimal else ()
        return replace(best, notes=(at_best(over),)) if over else best
    return _bounded(paced, found, relaxed, cuts, ties=ties)


def _is_small(paced: Paced) -> bool:
    """Whether a plan says exactly what moving decodes would earn."""
    return paced.formulation.program.columns <= _SMALL_PROGRAM


def _shared(paced: Paced, start: Solution, most: float, guess: Solution | None) -> Answer | None:
    """The answer with shared iterations to which a plan without leads; no paces earn more than ``most``."""
    return _as_it_is(paced, start, guess) or search(paced, start, most, Proofs(_check, _from_near, _from_afar))


def _bounded(paced: Paced, found: Answer, relaxed: Answer | None, cuts: Sequence[float], *, ties: bool) -> Answer:
    """``found`` with what is lost by shared iterations at most: exactly in a small program, else by the relaxed one."""
    chosen, best = _untied(found) if ties else found, relaxed
    if not paced.matters(found.solution.dual):
        return chosen
    if best is None or (_is_small(paced) and not _as_good(found, best)):
        free = _once(formulate(paced.formulation.problem, cuts=cuts), ties=False)
        best = free if free.is_optimal else relaxed or _relaxed(paced, None, None)
    if _as_good(found, best) or best.certificate is None or chosen.certificate is None:
        return chosen
    bound = max(chosen.certificate.upper_bound, best.certificate.upper_bound)
    proof = replace(chosen.certificate, upper_bound=bound)
    return replace(chosen, certificate=proof, notes=(tied(found.value, bound),))


def _as_good(found: Answer, best: Answer) -> bool:
    """Whether nobody need know of the difference."""
    return found.value >= best.value - _SAME * abs(best.value)


def _relaxed(paced: Paced, start: Basis | None, guess: Solution | None) -> Answer:
    """The answer to the relaxed program: the guess where that is right, the solver's else."""
    formulation, found = paced.relaxed(), None
    if guess is not None and not paced.is_overfilled(guess.primal, paced.lowest):
        found = _check(formulation, guess)
    return found or _solved(formulation, start)


def _as_it_is(paced: Paced, start: Solution, guess: Solution | None) -> Answer | None:
    """A plan without shared iterations as one with them, where every class may take its pool's own time per token."""
    own = own_paces(paced, start.primal)
    if paced.is_overfilled(start.primal, own):
        return None
    quickest = replace(start, primal=paced.quickest(start.primal))
    # A memory or a promise with a price is used up already: slower iterations would overfill it. So they did the guess.
    slower = () if guess is not None or paced.is_priced(start.dual) else (paced.highest,)
    for paces in (*slower, own):
        if (found := _check(paced.at(paces), quickest)) is not None:
            return found
    return None


def _check(formulation: Formulation, solution: Solution) -> Answer | None:
    """The answer with columns and prices that were found otherwise, where it can be proved."""
    found = _checked(formulation, solution)
    return found if found.is_optimal else None


def _from_near(formulation: Formulation, start: Basis) -> Answer | None:
    """The answer from a corner on that may well be the right one, where there is one."""
    found = _guessed(formulation, start) or _solved(formulation, start)
    return found if found.is_optimal else None


def _from_afar(formulation: Formulation, start: Basis) -> Answer | None:
    """The answer from any corner on, where there is one."""
    found = _solved(formulation, start)
    return found if found.is_optimal else None


def _once(formulation: Formulation, *, ties: bool) -> Answer:
    start = opening(formulation)
    found = _guessed(formulation, start) or _solved(formulation, start)
    return _untied(found) if ties and found.is_optimal else found


def _untied(found: Answer) -> Answer:
    """The optimum that the rule about ties prefers."""
    if found.certificate is not None:
        settled = untied(found.formulation, found.solution, found.certificate)
        if settled is not None:
            checked = certify(found.formulation.program, settled, found.solution.dual)
            if checked.holds:
                return Answer(found.formulation, replace(found.solution, primal=settled), checked)
    return found


def _guessed(formulation: Formulation, start: Basis | None) -> Answer | None:
    """The answer at the corner ``start``, where it is one: no solver is needed then."""
    if start is None:
        return None
    solution = at_corner(formulation.program, start, rounds=0, largest=_SMALL_KERNEL)
    if solution is None:
        return None
    found = _checked(formulation, solution)
    return found if found.is_optimal else None


def _solved(formulation: Formulation, start: Basis | None) -> Answer:
    """The solver's answer, from ``start`` on; a second way where the first was imprecise."""
    found = _proved(formulation, Effort.USUAL, start)
    if not found.is_optimal and found.solution.verdict is not Verdict.INFEASIBLE:
        again = _proved(formulation, Effort.CAREFUL)
        found = again if again.is_optimal else found
    return found


def _proved(formulation: Formulation, effort: Effort, start: Basis | None = None) -> Answer:
    """One solve and our proof. An answer that we can prove is optimal, whatever the solver calls it."""
    program = formulation.program
    solution = solve(program, effort, start)
    if not len(solution.primal):
        return Answer(formulation, solution, None)
    found = _checked(formulation, solution)
    if not found.is_optimal and (sharper := at_corner(program, solution.basis)) is not None:
        checked = _checked(formulation, sharper)
        found = checked if checked.is_optimal else found
    return found


def _checked(formulation: Formulation, solution: Solution) -> Answer:
    """``solution`` with its certificate, and called optimal where that holds."""
    certificate = certify(formulation.program, solution.primal, solution.dual)
    if certificate.holds and solution.verdict is not Verdict.OPTIMAL:
        solution = solution.proved()
    return Answer(formulation, solution, certificate)


def _by_cuts(problem: Problem, *, ties: bool) -> Answer:
    """Support the convex penalty (48) where the last answer stands, until the tangent meets the curve."""
    cuts = list(_FIRST_CUTS)
    for _ in range(_MOST_CUTS):
        found = _placed(problem, cuts, ties=ties)
        if not found.is_optimal:
            return found
        share, missing = _curve_gap(found)
        if missing <= _CUT_TOLERANCE:
            return found
        cuts.append(share)
    return found


def _curve_gap(found: Answer) -> tuple[float, float]:
    """The answer's mixed share, and by how much its tangents underestimate the ratio there."""
    (columns,) = (columns for columns in found.formulation.pools if columns.group.first.external is None)
    engines = found.solution.primal[columns.engines]
    mixed = np.array([mode.mixed for mode in columns.group.modes])
    share = float(engines[mixed].sum()) / max(columns.group.replicas, 1e-9)
    (entry,) = (entry for entry in found.formulation.promises if entry.promise.kind is PromiseKind.SLOT_TPOT)
    ratio = slot_ratio(columns.group, share)[0]
    missing = 0.0
    if entry.slack is not None:
        missing = ratio - entry.promise.target - float(found.solution.primal[entry.slack])
    return share, missing / ratio
