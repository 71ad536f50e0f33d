"""Demand to decision: a new plan, or the old one with the reason why it stays.

The checks run in the order of ``CHECKS``; the first that blocks wins and the last good
plan stays in force. Then the program is solved, unless the corner that the plan in force
stands on says that a solve cannot matter (``unmoved``). A plan that differs from the one in
force by less than the dead band is not adopted, so that noise in the demand moves nothing.
The order of classes has a dead band and a dwell of its own: it follows only a difference that
lasts, and the adopted plan bears the order that was settled.

Hard promises that cannot hold together are no reason to keep an old plan: the plan with the
least relaxation is applied, and the finding says what conflicts and what is applied meanwhile.

Two rules keep the operator from doing harm for lack of knowledge: limits are written only
while every class's rate is measured, and a fleet that is blind for longer than
``blind_after_seconds`` goes to its declared safe plan, by default open limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sluice.deciding.unmoved import re_solve_cannot_matter
from sluice.model.decision import Decision
from sluice.model.demand import ClassDemand, Demand
from sluice.model.fleet import LimitKind, SafePlan
from sluice.model.plan import Plan
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.signal import Signal, Source
from sluice.model.snapshot import Snapshot
from sluice.planning import Outcome, Problem
from sluice.planning import plan as solve
from sluice.planning.answer import Answer
from sluice.planning.compose import identified
from sluice.planning.order import OrderMemory, settled_order
from sluice.policy.agreement import plans_agree
from sluice.policy.targets import Memory as TargetMemory
from sluice.policy.targets import targets as set_targets

SMALLEST_STRANGER_SHARE = 0.01
"""A connection that is just opening counts as traffic of no class for a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideMemory:
    """The plan in force, what it stands on, and the state of the stabilisers."""

    plan: Plan | None = None
    answer: Answer | None = None
    """The optimal corner that ``plan`` was made from; None: not known, so every pass solves."""
    order: OrderMemory = field(default_factory=OrderMemory)
    """What each class is ranked by."""
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
    """Zero replicas everywhere: a roll-out or an outage; the last plan stays for their return.

    An API that is paid per token can serve without any replica of ours.
    """
    del demand, memory
    if any(supply.ready > 0 for supply in snapshot.supplies) or any(pool.external for pool in snapshot.fleet.pools):
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
    plan, band = memory.plan, snapshot.fleet.control.dead_band
    unmeasured = _unmeasured(snapshot, demand)
    told = (*told, *((_limits_stay_open(unmeasured),) if unmeasured else ()))
    is_settled = plan is not None and not memory.order.differs_since
    if plan is not None and is_settled and re_solve_cannot_matter(memory.answer, plan, problem, band):
        return _order(snapshot, plan, memory, (*told, _optimal(plan)), open_limits=bool(unmeasured))
    outcome = solve(problem, now=snapshot.now)
    if outcome.plan is None or not outcome.verdict.may_actuate:
        return _keep(memory, (*told, _unsolved(outcome.reason, outcome.message))), memory
    wanted, order = _ranked(outcome.plan, snapshot, memory)
    if plan is None or not _says_the_same(plan, wanted, band):
        plan, memory = wanted, replace(memory, answer=outcome.answer)
    memory = replace(memory, order=order)
    return _order(snapshot, plan, memory, (*told, _solved(plan, outcome)), open_limits=bool(unmeasured))


def _ranked(plan: Plan, snapshot: Snapshot, memory: DecideMemory) -> tuple[Plan, OrderMemory]:
    """``plan`` with each class's index as it was settled, and the order's memory."""
    standing = memory.order
    if not standing.ranked_by and memory.plan is not None:
        # An operator that starts anew goes on from the order that the plan in force bears.
        standing = OrderMemory(ranked_by={entry.name: entry.index for entry in memory.plan.classes})
    indices = {entry.name: entry.index for entry in plan.classes}
    dwell = snapshot.fleet.control.dwell_seconds
    _, order = settled_order(indices, standing, snapshot.now, dwell_seconds=dwell)
    if order.ranked_by == indices:
        return plan, order
    classes = tuple(entry.model_copy(update={"index": order.ranked_by[entry.name]}) for entry in plan.classes)
    return identified(plan.model_copy(update={"classes": classes})), order


def _says_the_same(standing: Plan, wanted: Plan, band: float) -> bool:
    """Whether the plan in force is still what would be adopted: in what it steers, and in what it gives up."""
    return plans_agree(standing, wanted, band) and _given_up(standing) == _given_up(wanted)


def _given_up(plan: Plan) -> tuple[str, ...]:
    """Every conflict, not the first alone."""
    return () if plan.conflict is None else (*plan.conflict.promises, *plan.conflict.others)


def _solved(plan: Plan, outcome: Outcome) -> Finding:
    """Optimal; or optimal for promises that had to be relaxed, which the user must hear."""
    if outcome.reason is Reason.INFEASIBLE:
        return Finding(condition=ConditionType.SOLVED, reason=Reason.INFEASIBLE, message=outcome.message)
    return _optimal(plan)


def _optimal(plan: Plan) -> Finding:
    message = f"plan {plan.plan_id}: {plan.value_per_second:.4g} per second of at most {plan.upper_bound:.4g}"
    return Finding(condition=ConditionType.SOLVED, reason=Reason.OPTIMAL, message="; ".join((message, *plan.notes)))


def _order(
    snapshot: Snapshot, plan: Plan, memory: DecideMemory, findings: tuple[Finding, ...], *, open_limits: bool
) -> tuple[Decision, DecideMemory]:
    """The order to the data plane that carries ``plan``, stabilised."""
    fleet = snapshot.fleet
    if open_limits:  # through the same stabiliser, which then knows when the limits were lifted
        fleet = replace(fleet, data_plane=replace(fleet.data_plane, limit=LimitKind.NONE))
    proxies = snapshot.observation.proxies_ready
    waits = _ttft_seconds(snapshot)
    targets, stabilised = set_targets(plan, fleet, snapshot.classes, memory.targets, snapshot.now, proxies, waits)
    adopted = memory.plan is None or memory.plan.plan_id != plan.plan_id
    decision = Decision(plan=plan, targets=targets, adopted=adopted, findings=findings)
    return decision, replace(memory, plan=plan, targets=stabilised)


def _ttft_seconds(snapshot: Snapshot) -> dict[str, float]:
    """Mean time to first token by class, where this pass measured it: an old one tells of an old queue."""
    found = snapshot.observation.classes
    return {name: one.samples[Signal.TTFT].value for name, one in found.items() if Signal.TTFT in one.samples}


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
    return (*_about_strangers(demand), *_about_samples(snapshot, demand))


def _about_strangers(demand: Demand) -> tuple[Finding, ...]:
    """Traffic of no class that takes capacity all the same, where it is more than noise."""
    offered = sum(entry.rate.value for entry in demand.classes)
    if demand.unmatched_rate <= SMALLEST_STRANGER_SHARE * (offered + demand.unmatched_rate):
        return ()
    message = f"{demand.unmatched_rate:.3g} requests/s match no class; the plan leaves them their capacity"
    return (Finding(condition=ConditionType.DEGRADED, reason=Reason.UNMATCHED_TRAFFIC, message=message),)


def _about_samples(snapshot: Snapshot, demand: Demand) -> tuple[Finding, ...]:
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
