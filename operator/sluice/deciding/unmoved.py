"""When a re-solve cannot matter, so that it is not run.

The corner on which the plan in force stands tells the plan for new estimates without a solve,
as long as it stays optimal (``planning.sensitivity``). Where that plan agrees with the one in
force within the dead band, a solve would end in a plan that is not adopted. Where a promise
was relaxed, prices or replicas changed, or the program is large, the solve is run.
"""

from __future__ import annotations

from dataclasses import replace

from sluice.model.plan import Plan
from sluice.planning.answer import Answer
from sluice.planning.compose import compose
from sluice.planning.pace import excesses
from sluice.planning.problem import ClassInput, Problem
from sluice.planning.sensitivity import moved_along
from sluice.policy.agreement import plans_agree

LARGEST_PROGRAM_ROWS = 50
"""Above it a corner may take longer to compute than the solve that it would save."""


def re_solve_cannot_matter(found: Answer | None, standing: Plan, problem: Problem, band: float) -> bool:
    """Whether ``problem`` leads to a plan that agrees with ``standing``, which was made from ``found``."""
    if found is None or found.formulation.program.rows > LARGEST_PROGRAM_ROWS:
        return False
    if not _only_estimates_differ(found.formulation.problem, problem):
        return False
    moved = moved_along(found, problem)
    if moved is None or moved.certificate is None or not moved.is_optimal:
        return False
    if excesses(moved.formulation, moved.solution.primal):
        return False
    return plans_agree(standing, compose(moved.formulation, moved.solution, moved.certificate, now=0.0), band)


def _only_estimates_differ(before: Problem, after: Problem) -> bool:
    return replace(before, classes=()) == replace(after, classes=()) and tuple(map(_declared, before.classes)) == tuple(
        map(_declared, after.classes)
    )


def _declared(entry: ClassInput) -> ClassInput:
    """The class without what is estimated of it."""
    return replace(entry, rate=0.0, prompt_tokens=0.0, uncached_prompt_tokens=0.0, output_tokens=0.0)
