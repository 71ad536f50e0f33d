"""Demand to decision: a new plan, or the old one with the reason why it stays.

The checks run in the order of ``CHECKS``; the first that blocks wins and the last good
plan stays in force. Then the program is solved, and a plan that differs from the one in
force by less than the dead band is not adopted, so that noise in the demand moves nothing.

Two rules keep the operator from doing harm for lack of knowledge: limits are written only
while every class's rate is measured, and a fleet that is blind for longer than
``blind_after_seconds`` goes to its declared safe plan, by default open limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sluice.model.decision import Decision
from sluice.model.demand import ClassDemand, Demand
from sluice.model.fleet import SafePlan
from sluice.model.plan import Plan
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.signal import Source
from sluice.model.snapshot import Snapshot
from sluice.planning import plan as solve
from sluice.planning.problem import Problem
from sluice.policy.agreement import plans_agree
from sluice.policy.targets import Memory as TargetMemory
from sluice.policy.targets import open_targets
from sluice.policy.targets import targets as set_targets


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideMemory:
    """The plan in force and the state of the stabiliser."""

    plan: Plan | None = None
    targets: TargetMemory = field(default_factory=TargetMemory.empty)


def decide(snapshot: Snapshot, demand: Demand, memory: DecideMemory) -> tuple[Decision, DecideMemory]:
    """Choose plan and targets for ``snapshot``; never raises for bad input."""
    told = (*snapshot.findings, *snapshot.observation.problems, *_about_demand(snapshot, demand))
    for check in CHECKS:
        if blocked := check(snapshot, demand, memory):
            return _keep(memory, (*told, blocked)), memory
    if _is_blind(snapshot, demand):
        return _safe(snapshot, demand, memory, told)
    return _plan_anew(snapshot, demand, memory, told)


def _keep(memory: DecideMemory, findings: tuple[Finding, ...]) -> Decision:
    return Decision(plan=memory.plan, targets=None, adopted=False, findings=findings)


Check = Callable[[Snapshot, Demand, DecideMemory], Finding | None]


def spec_is_usable(snapshot: Snapshot, demand: Demand, memory: DecideMemory) -> Finding | None:
    """What resolving found wrong and planning cannot do without."""
    del demand, memory
    blocking = next((finding for finding in snapshot.findings if finding.blocking), None)
    if blocking is None:
        return None
    return _unsolved(blocking.reason, blocking.message)


def fleet_has_classes(snapshot: Snapshot, demand: Demand, memory: DecideMemory) -> Finding | None:
    """An empty fleet is a state, not an error; there is nothing to plan."""
    del demand, memory
    if snapshot.classes:
        return None
    return _unsolved(Reason.EMPTY_FLEET, f"no WorkloadClass refers to fleet {snapshot.fleet.name}")


def fleet_has_replicas(snapshot: Snapshot, demand: Demand, memory: DecideMemory) -> Finding | None:
    """Zero replicas everywhere: a roll-out or an outage; the last plan stays for their return."""
    del demand, memory
    if any(supply.ready > 0 for supply in snapshot.supplies):
        return None
    pools = ", ".join(pool.name for pool in snapshot.fleet.pools)
    return _unsolved(Reason.NO_REPLICAS, f"no ready replica in any pool ({pools})")


def metrics_answer_or_nothing_is_lost(snapshot: Snapshot, demand: Demand, memory: DecideMemory) -> Finding | None:
    """Blind for a short while with a good plan in force: hold it."""
    if demand.blind_since is None or memory.plan is None or _is_blind(snapshot, demand):
        return None
    seconds = snapshot.now - demand.blind_since
    return Finding(
        condition=ConditionType.DEGRADED,
        reason=Reason.HELD,
        message=f"no fresh samples for {seconds:.0f} s; plan {memory.plan.plan_id} stays "
        f"until {snapshot.fleet.control.blind_after_seconds:.0f} s",
    )


CHECKS: tuple[Check, ...] = (
    spec_is_usable,
    fleet_has_classes,
    fleet_has_replicas,
    metrics_answer_or_nothing_is_lost,
)


def _is_blind(snapshot: Snapshot, demand: Demand) -> bool:
    if demand.blind_since is None:
        return False
    return snapshot.now - demand.blind_since >= snapshot.fleet.control.blind_after_seconds


def _safe(
    snapshot: Snapshot, demand: Demand, memory: DecideMemory, told: tuple[Finding, ...]
) -> tuple[Decision, DecideMemory]:
    """The declared safe plan of a fleet that has been blind for too long."""
    choice = snapshot.fleet.control.safe_plan
    blind = Finding(
        condition=ConditionType.DEGRADED,
        reason=Reason.BLIND,
        message=f"no fresh samples for {snapshot.now - (demand.blind_since or snapshot.now):.0f} s; "
        f"safe plan {choice.value} is held",
    )
    if choice is SafePlan.PRIORS or memory.plan is None:
        return _plan_anew(snapshot, demand, memory, (*told, blind))
    if choice is SafePlan.LAST_PLAN:
        return _keep(memory, (*told, blind)), memory
    return _order(snapshot, memory.plan, memory, (*told, blind), open_limits=True)


def _plan_anew(
    snapshot: Snapshot, demand: Demand, memory: DecideMemory, told: tuple[Finding, ...]
) -> tuple[Decision, DecideMemory]:
    """Solve for the present demand; adopt the answer where it says something new."""
    problem = Problem.of(snapshot.fleet, snapshot.classes, demand, snapshot.supplies)
    outcome = solve(problem, now=snapshot.now)
    if outcome.plan is None or not outcome.verdict.may_actuate:
        return _keep(memory, (*told, _unsolved(outcome.reason, outcome.message))), memory
    plan = outcome.plan
    if memory.plan is not None and plans_agree(memory.plan, plan, snapshot.fleet.control.dead_band):
        plan = memory.plan
    unmeasured = _unmeasured(snapshot, demand)
    solved = Finding(
        condition=ConditionType.SOLVED,
        reason=Reason.OPTIMAL,
        message=f"plan {plan.plan_id}: {plan.value_per_second:.4g} per second of at most {plan.upper_bound:.4g}",
    )
    findings = (*told, *((_limits_stay_open(unmeasured),) if unmeasured else ()), solved)
    return _order(snapshot, plan, memory, findings, open_limits=bool(unmeasured))


def _order(
    snapshot: Snapshot, plan: Plan, memory: DecideMemory, findings: tuple[Finding, ...], *, open_limits: bool
) -> tuple[Decision, DecideMemory]:
    """The order to the data plane that carries ``plan``, stabilised."""
    fleet, classes, now = snapshot.fleet, snapshot.classes, snapshot.now
    if open_limits:
        replicas = {supply.pool: supply.ready for supply in snapshot.supplies}
        weighted, standing = set_targets(plan, fleet, classes, memory.targets, now)
        targets, stabilised = open_targets(fleet, classes, replicas, standing, weighted.plan_id)
    else:
        proxies = snapshot.observation.proxies_ready
        targets, stabilised = set_targets(plan, fleet, classes, memory.targets, now, proxies)
    adopted = memory.plan is None or memory.plan.plan_id != plan.plan_id
    decision = Decision(plan=plan, targets=targets, adopted=adopted, findings=findings)
    return decision, DecideMemory(plan=plan, targets=stabilised)


def _unsolved(reason: Reason, message: str) -> Finding:
    return Finding(condition=ConditionType.SOLVED, reason=reason, message=message, blocking=True)


def _unmeasured(snapshot: Snapshot, demand: Demand) -> tuple[str, ...]:
    """Classes whose rate is only declared although metrics are configured."""
    if snapshot.fleet.metrics.prometheus_url is None or snapshot.fleet.control.safe_plan is SafePlan.PRIORS:
        return ()
    return tuple(entry.name for entry in demand.classes if entry.rate.source is Source.PRIOR)


def _limits_stay_open(names: tuple[str, ...]) -> Finding:
    return Finding(
        condition=ConditionType.METRICS_AVAILABLE,
        reason=Reason.PARTLY_PRIOR,
        message=f"limits stay open until the rate of every class is measured; none yet for {', '.join(names)}",
    )


def _about_demand(snapshot: Snapshot, demand: Demand) -> tuple[Finding, ...]:
    """What a user should know about where the demand comes from; the observer tells where nothing can be measured."""
    if snapshot.fleet.metrics.prometheus_url is None or snapshot.observation.problems:
        return ()
    declared = tuple(_declared(entry.name, signals) for entry in demand.classes if (signals := _prior_signals(entry)))
    if demand.blind_since is not None:
        return (_metrics(Reason.NO_SAMPLES, "no class has a fresh sample of its offered rate"),)
    if declared:
        return (_metrics(Reason.PARTLY_PRIOR, "declared, not measured: " + "; ".join(declared)),)
    return (_metrics(Reason.MEASURED, "every class's demand is measured"),)


def _prior_signals(entry: ClassDemand) -> tuple[str, ...]:
    estimates = (("rate", entry.rate), ("prompt tokens", entry.prompt_tokens), ("output tokens", entry.output_tokens))
    return tuple(label for label, value in estimates if value.source is Source.PRIOR)


def _declared(name: str, signals: tuple[str, ...]) -> str:
    return f"{name}: {', '.join(signals)}"


def _metrics(reason: Reason, message: str) -> Finding:
    return Finding(condition=ConditionType.METRICS_AVAILABLE, reason=reason, message=message)
