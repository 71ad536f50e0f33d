"""Everything that one pass found and did, as its report needs it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.iteration_profile import IterationProfileResource
from sluice.api.workload_class import WorkloadClassResource
from sluice.control import statuses
from sluice.control.ports import FleetKey
from sluice.learning.pools import LawMemory
from sluice.model.decision import Decision, Receipt, Targets
from sluice.model.demand import Demand
from sluice.model.fleet import Fleet, Mode, SafePlan, WorkloadClass
from sluice.model.plan import Plan
from sluice.model.reasons import Finding, Reason
from sluice.model.snapshot import Observation, PoolSupply


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Everything one pass found and did."""

    key: FleetKey
    now: float
    resource: InferenceFleetResource | None
    """None: classes refer to a fleet that does not exist."""
    classes: tuple[WorkloadClassResource, ...]
    fleet: Fleet | None = None
    """None where it could not be resolved."""
    workloads: tuple[WorkloadClass, ...] = ()
    """The classes that could be resolved."""
    profiles: tuple[IterationProfileResource, ...] = ()
    """The profiles of the namespace."""
    laws: LawMemory = field(default_factory=LawMemory)
    """What the pools' engines were observed to take."""
    supplies: tuple[PoolSupply, ...] = ()
    observation: Observation = field(default_factory=Observation)
    observation_age: float | None = None
    demand: Demand | None = None
    decision: Decision | None = None
    receipt: Receipt | None = None
    """None: nothing was to be written."""
    preview: str = ""
    """Advise: what would be written."""
    standing: Targets | None = None
    """What the data plane held before the pass."""
    in_force: Targets | None = None
    """What it holds after the pass."""
    findings: tuple[Finding, ...] = ()
    """All of them: of resolving, observing, deciding, acting and verifying."""

    @property
    def plan(self) -> Plan | None:
        """The plan in force after the pass, new or kept."""
        return self.decision.plan if self.decision is not None else None

    @property
    def confirmed_at(self) -> float | None:
        """When the plan was last weighed, if in this pass; epoch seconds."""
        if self.decision is None or self.fleet is None:
            return None
        return confirmed_at(self.decision, self.fleet, self.now)

    @property
    def enforcing(self) -> bool:
        """Whether limits and weights are written at all."""
        return self.fleet is not None and self.fleet.mode is Mode.ENFORCE


def confirmed_at(decision: Decision, fleet: Fleet, now: float) -> float | None:
    """``now`` where the plan was weighed against present demand, or made of what a blind fleet is to be planned by.

    None: it is held for want of anything better, and whoever trusts it shall not go on for ever.
    """
    blind = any(finding.reason is Reason.BLIND for finding in decision.findings)
    held = decision.targets is None or (blind and fleet.control.safe_plan is not SafePlan.PRIORS)
    return None if held else now


class ClassIndex:
    """What a report looks up by class, a thousand times."""

    def __init__(self, account: Account) -> None:
        plan = account.plan
        self.workloads = {entry.name: entry for entry in account.workloads}
        self.demands = {entry.name: entry for entry in (account.demand.classes if account.demand is not None else ())}
        self.shares = statuses.shares(plan)
        self.plan_id = plan.plan_id if plan is not None else ""
        solved = any(finding.reason is Reason.INFEASIBLE for finding in account.findings)
        conflict = plan.conflict if plan is not None and solved else None
        self.relaxed = {promise.partition(":")[2] for promise in (conflict.promises if conflict is not None else ())}
        """Classes whose promises are in the conflict that the plan could not solve; promises of the fleet as ''."""
        self.findings: dict[str, list[Finding]] = {}
        for finding in account.findings:
            self.findings.setdefault(finding.subject, []).append(finding)
