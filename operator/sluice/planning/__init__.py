"""Planning: from demand, prices and replicas to the plan that earns the most.

``plan`` is the whole room in one call::

    Problem -> formulate -> open -> solve -> certify -> untie -> compose -> Outcome(plan)

``formulate`` states the linear program; ``opening`` guesses its optimal corner from prices alone;
``solver`` hands what the guess leaves to GLOP; ``certificate`` checks the answer without asking
either; ``ties`` chooses among equal optima; ``decode`` makes the sums classes again; ``compose``
writes the plan and ``explain`` says why. Where promises cannot hold together ``conflict`` relaxes
them in the declared order and says which and how much. Everything is pure: the same problem gives
the same plan.
"""

from __future__ import annotations

from dataclasses import replace

from sluice.model.plan import ConflictPlan, Verdict
from sluice.model.reasons import Reason
from sluice.planning.answer import Answer, answer
from sluice.planning.compose import compose
from sluice.planning.conflict import SMALLEST_MARGIN, Relaxation, minimal_sets, quantity, relaxed, remedy, within_reach
from sluice.planning.outcome import Outcome
from sluice.planning.problem import Fault, Problem
from sluice.planning.promises import PromiseKind

__all__ = ["Fault", "Outcome", "Problem", "plan"]

_LONGEST_LINE = 512
"""Characters of one entry of a list in the plan."""
_LARGEST_MARGIN = 1e-4
"""Relative room beyond the least relaxation at which looking for a feasible plan ends."""


def plan(problem: Problem, *, now: float) -> Outcome:
    """The optimal plan of ``problem`` at ``now`` (seconds since the epoch), or why there is none."""
    if (refused := _refused(problem)) is not None:
        return refused
    reachable = within_reach(problem)
    found, conflict = answer(reachable), None
    if found.solution.verdict is Verdict.INFEASIBLE and any(promise.hard for promise in problem.promises):
        found, conflict = _without_conflict(reachable)
    elif reachable is not problem and found.is_optimal:
        conflict = _report(reachable, found)
    if not found.solution.verdict.may_actuate:
        reason = Reason.INFEASIBLE if found.solution.verdict is Verdict.INFEASIBLE else Reason.SOLVER_FAILED
        return Outcome(
            verdict=found.solution.verdict, reason=reason, message=found.solution.message, notes=problem.notes
        )
    certificate = found.certificate
    if certificate is None or not certificate.holds:
        return Outcome(
            verdict=Verdict.UNDECIDED,
            reason=Reason.CERTIFICATE_FAILED,
            message="no certificate" if certificate is None else certificate.failure,
            certificate=certificate,
            notes=problem.notes,
        )
    return Outcome(
        verdict=Verdict.OPTIMAL,
        reason=Reason.OPTIMAL if conflict is None else Reason.INFEASIBLE,
        message=f"{certificate.value:.6g} per second" if conflict is None else _conflict_message(conflict),
        plan=compose(found.formulation, found.solution, certificate, now, conflict, found.notes),
        certificate=certificate,
        notes=(*found.notes, *problem.notes),
        answer=found if conflict is None else None,
        applied=found,
    )


def _refused(problem: Problem) -> Outcome | None:
    """Why ``problem`` cannot be planned at all, or None."""
    if faults := problem.faults():
        return Outcome(
            verdict=Verdict.UNDECIDED,
            reason=Reason.INVALID if problem.classes else Reason.EMPTY_FLEET,
            message="; ".join(map(str, faults)),
            faults=faults,
            notes=problem.notes,
        )
    if not any(pool.replicas > 0 or pool.external is not None for pool in problem.pools):
        message = "no pool has a ready replica: " + ", ".join(pool.name for pool in problem.pools)
        return Outcome(verdict=Verdict.UNDECIDED, reason=Reason.NO_REPLICAS, message=message, notes=problem.notes)
    return None


def _without_conflict(problem: Problem) -> tuple[Answer, ConflictPlan | None]:
    """The answer with promises relaxed in the order of sacrifice, and the report about it."""
    margin = SMALLEST_MARGIN
    feasible, relaxation = relaxed(problem, margin)
    found = answer(feasible)
    while not found.is_optimal and margin < _LARGEST_MARGIN:
        margin *= 10
        feasible, relaxation = relaxed(problem, margin)
        found = answer(feasible)
    if not found.is_optimal:
        return found, None
    return found, _report(feasible, found, relaxation)


def _report(problem: Problem, found: Answer, relaxation: Relaxation | None = None) -> ConflictPlan:
    """What clashes, what was relaxed in ``problem``, and what the promises cost as applied."""
    clashes = () if relaxation is None else minimal_sets(relaxation)
    named = {promise.name for clash in clashes for promise in clash}
    remedies = tuple(
        remedy(relaxation, promise, [other for apart in clashes if apart is not clash for other in apart])
        for clash in clashes
        for promise in clash
        if relaxation is not None
    )
    free = answer(replace(problem, promises=tuple(p for p in problem.promises if not p.hard)), ties=False)
    changed = [promise for promise in problem.promises if promise.asked is not None]
    alone = tuple(
        f"{promise.name}: the fastest prefill alone takes {quantity(promise, promise.target)}"
        for promise in changed
        if promise.name not in named and promise.kind is PromiseKind.TTFT
    )
    return ConflictPlan(
        promises=tuple(promise.name for promise in (clashes[0] if clashes else changed))[:64],
        others=tuple(_line([promise.name for promise in clash]) for clash in clashes[1:]),
        remedies=(*remedies, *alone)[:64],
        relaxed=tuple(
            f"{promise.name}: {quantity(promise, promise.asked)} relaxed to {quantity(promise, promise.target)}"
            for promise in changed
            if promise.asked is not None
        )[:64],
        cost_per_second=max(0.0, free.value - found.value),
    )


def _line(names: list[str]) -> str:
    """Names with commas, as many as a line of the plan has room for."""
    text = ", ".join(names)
    return text if len(text) <= _LONGEST_LINE else text[: _LONGEST_LINE - 1] + "\u2026"


def _conflict_message(conflict: ConflictPlan) -> str:
    sets = "; nor can ".join((", ".join(conflict.promises), *conflict.others))
    return (
        f"these promises cannot hold together: {sets}; planned meanwhile with "
        f"{'; '.join(conflict.relaxed)}; the promises as applied cost {conflict.cost_per_second:.4g} per second"
    )
