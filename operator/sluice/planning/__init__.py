"""Planning: from demand, prices and replicas to the plan that earns the most.

``plan`` is the whole room in one call::

    Problem -> formulate -> solve -> certify -> compose -> Outcome(plan)

``formulate`` states the linear program; ``solver`` hands it to GLOP; ``certificate`` checks the
answer without asking the solver; ``decode`` makes the sums classes again; ``compose`` writes the
plan and ``explain`` says why. Everything is pure: the same problem gives the same plan.
"""

from __future__ import annotations

from sluice.model.plan import Verdict
from sluice.model.reasons import Reason
from sluice.planning.certificate import certify
from sluice.planning.compose import compose
from sluice.planning.formulate import formulate
from sluice.planning.outcome import Outcome
from sluice.planning.problem import Fault, Problem
from sluice.planning.solver import solve

__all__ = ["Fault", "Outcome", "Problem", "plan"]


def plan(problem: Problem, *, now: float) -> Outcome:
    """The optimal plan of ``problem`` at ``now`` (seconds since the epoch), or why there is none."""
    if faults := problem.faults():
        reason = Reason.INVALID if problem.classes else Reason.EMPTY_FLEET
        return Outcome(
            verdict=Verdict.UNDECIDED,
            reason=reason,
            message="; ".join(map(str, faults)),
            faults=faults,
            notes=problem.notes,
        )
    if not any(pool.replicas > 0 for pool in problem.pools):
        message = "no pool has a ready replica: " + ", ".join(pool.name for pool in problem.pools)
        return Outcome(verdict=Verdict.UNDECIDED, reason=Reason.NO_REPLICAS, message=message, notes=problem.notes)
    formulation = formulate(problem)
    solution = solve(formulation.program)
    if not solution.verdict.may_actuate:
        reason = Reason.INFEASIBLE if solution.verdict is Verdict.INFEASIBLE else Reason.SOLVER_FAILED
        return Outcome(verdict=solution.verdict, reason=reason, message=solution.message, notes=problem.notes)
    certificate = certify(formulation.program, solution.primal, solution.dual)
    if not certificate.holds:
        return Outcome(
            verdict=Verdict.UNDECIDED,
            reason=Reason.CERTIFICATE_FAILED,
            message=certificate.failure,
            certificate=certificate,
            notes=problem.notes,
        )
    return Outcome(
        verdict=Verdict.OPTIMAL,
        reason=Reason.OPTIMAL,
        message=f"{certificate.value:.6g} per second; gap {certificate.gap:.1g}",
        plan=compose(formulation, solution, certificate, now),
        certificate=certificate,
        notes=problem.notes,
    )
