"""What one call of the planner gives back: a plan, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.model.plan import Plan, Verdict
from sluice.model.reasons import Reason
from sluice.planning.answer import Answer
from sluice.planning.certificate import Certificate
from sluice.planning.problem import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of planning. Bad input is an outcome too, never an exception."""

    verdict: Verdict
    reason: Reason
    message: str
    plan: Plan | None = None
    """Present only when the verdict may be actuated."""
    certificate: Certificate | None = None
    faults: tuple[Fault, ...] = ()
    """What is wrong with the input, object and field."""
    notes: tuple[str, ...] = ()
    """What was assumed."""
    answer: Answer | None = None
    """The corner behind the plan, for the test whether a re-solve can matter; None where promises were relaxed."""

    applied: Answer | None = None
    """The corner behind the plan, promises as applied: for asking it how it leans on its estimates."""

    @property
    def may_actuate(self) -> bool:
        """Whether the plan may be written to a data plane."""
        return self.plan is not None and self.verdict.may_actuate
