"""Status documents from what a pass found: for the fleet, its classes and its profiles. Pure.

Every document starts from the one the object bears, so that what did not change reads
exactly the same and need not be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sluice.api.conditions import Condition
from sluice.api.indicators import AttainmentStatus
from sluice.api.inference_fleet import (
    AppliedObject,
    InferenceFleetResource,
    InferenceFleetStatus,
    PlanSummary,
    is_of_fleet,
)
from sluice.api.workload_class import (
    DemandStatus,
    EstimateStatus,
    WorkloadClassResource,
    WorkloadClassStatus,
)
from sluice.control.events import limit_in_words
from sluice.control.settling import rounded, settled_attainment, settled_demand, significant
from sluice.model.decision import ClassTarget, Receipt
from sluice.model.demand import ClassDemand, Estimate
from sluice.model.plan import ClassPlan, Plan, PromisePlan
from sluice.model.signal import Sample, Signal, Source
from sluice.model.snapshot import PoolSupply

TOLERANCE = 0.05
"""A measured figure is told anew when it moved by this share (the default dead band)."""
APPLIED_LIMIT = 512
PROMISES_LIMIT = 16
"""A class has eight indicators at most, and one guaranteed share."""


def fleet_status(
    resource: InferenceFleetResource,
    conditions: tuple[Condition, ...],
    plan: Plan | None,
    supplies: tuple[PoolSupply, ...],
    applied: tuple[AppliedObject, ...],
    classes: int = 0,
    attainment: tuple[AttainmentStatus, ...] = (),
) -> InferenceFleetStatus:
    """The fleet's status; the plan is its summary, the classes' shares are in their own status.

    ``classes`` are those that refer to the fleet: they are counted while there is no plan.
    """
    return InferenceFleetStatus(
        observed_generation=resource.metadata.generation,
        conditions=conditions,
        classes=len(plan.classes) if plan is not None else classes,
        replicas=sum(supply.ready for supply in supplies),
        value=rounded(plan.value_per_second) if plan is not None else "",
        promises=_kept(plan.promises) if plan is not None else "",
        attainment=settled_attainment(resource.status.attainment, attainment, TOLERANCE),
        plan=PlanSummary.of(plan) if plan is not None else None,
        applied=applied,
    )


def applied_objects(
    before: tuple[AppliedObject, ...], receipt: Receipt | None, plan_id: str
) -> tuple[AppliedObject, ...]:
    """What carries the plan, after ``receipt``: what was written is added, what was removed goes."""
    if receipt is None:
        return before
    held = {entry.target: entry for entry in before if entry.target not in receipt.removed}
    for target in receipt.written:
        held[target] = AppliedObject(target=target, holds=f"plan {plan_id}")
    return tuple(held[target] for target in sorted(held))[:APPLIED_LIMIT]


@dataclass(frozen=True, slots=True)
class Share:
    """One class's part of the plan."""

    plan_id: str = ""
    """Of the plan in force; empty where there is none."""
    share: ClassPlan | None = None
    promises: tuple[PromisePlan, ...] = ()


NO_SHARE = Share()


def shares(plan: Plan | None) -> Mapping[str, Share]:
    """Each class's part of ``plan``, by name."""
    if plan is None:
        return {}
    promises: dict[str, list[PromisePlan]] = {}
    for promise in plan.promises:
        promises.setdefault(promise.name.partition(":")[2], []).append(promise)
    return {
        entry.name: Share(plan.plan_id, entry, tuple(promises.get(entry.name, ())[:PROMISES_LIMIT]))
        for entry in plan.classes
    }


def class_status(
    resource: WorkloadClassResource,
    conditions: tuple[Condition, ...],
    demand: ClassDemand | None,
    planned: Share,
    target: ClassTarget | None,
    attainment: tuple[AttainmentStatus, ...],
) -> WorkloadClassStatus:
    """One class's status: its demand, its share of the plan, its limit, its indicators."""
    before = resource.status
    share = planned.share
    told = settled_demand(before.demand, demand_status(demand), TOLERANCE) if demand is not None else before.demand
    held = settled_attainment(before.attainment, attainment, TOLERANCE)
    return WorkloadClassStatus(
        observed_generation=resource.metadata.generation,
        conditions=conditions,
        demand=told,
        plan_id=planned.plan_id,
        plan=share,
        promises=planned.promises,
        attainment=held,
        offered=_offered(told),
        admitted=rounded(share.admitted_rate) if share is not None else "",
        limit=limit_in_words(target),
        slis=_counted(held),
    )


def demand_status(demand: ClassDemand) -> DemandStatus:
    """The estimate in the words of the API."""
    return DemandStatus(
        rate=_estimate(demand.rate),
        prompt_tokens=_estimate(demand.prompt_tokens),
        uncached_prompt_tokens=_estimate(demand.uncached_prompt_tokens),
        output_tokens=_estimate(demand.output_tokens),
        patience_seconds=demand.patience_seconds,
    )


def _estimate(estimate: Estimate) -> EstimateStatus:
    return EstimateStatus(
        value=significant(estimate.value), source=estimate.source, age_seconds=round(estimate.age_seconds, 1)
    )


def _kept(promises: tuple[PromisePlan, ...]) -> str:
    """``kept/made``, or nothing where nothing was promised."""
    return f"{sum(entry.held for entry in promises)}/{len(promises)}" if promises else ""


def _counted(held: tuple[AttainmentStatus, ...]) -> str:
    """``held/measured``; ``?/promised`` where nothing is measured; nothing where nothing was promised."""
    known = [entry for entry in held if entry.held != "Unknown"]
    if held and not known:
        return f"?/{len(held)}"
    return f"{sum(entry.held == 'Held' for entry in known)}/{len(known)}" if known else ""


def _offered(told: DemandStatus | None) -> str:
    """The rate, and whether it is only declared."""
    if told is None:
        return ""
    return rounded(told.rate.value) + (" (declared)" if told.rate.source is Source.PRIOR else "")


def estimates_from_status(
    classes: tuple[WorkloadClassResource, ...], now: float
) -> Mapping[tuple[str, Signal], Sample]:
    """What was measured of each class when status was told last, as the estimates' memory of a restarted operator.

    They count as taken at ``now``: while nothing fresh comes they are held as long as any last sample
    (``blindAfterSeconds``), so that a Prometheus which is late does not turn demand into priors and limits into
    none. What was declared and not measured is left to the declaration.
    """
    return {
        (entry.metadata.name, signal): Sample(value=estimate.value, at_seconds=now, source=estimate.source)
        for entry in classes
        if (demand := entry.status.demand) is not None
        for signal, estimate in (
            (Signal.OFFERED_RATE, demand.rate),
            (Signal.PROMPT_TOKENS, demand.prompt_tokens),
            (Signal.UNCACHED_PROMPT_TOKENS, demand.uncached_prompt_tokens),
            (Signal.OUTPUT_TOKENS, demand.output_tokens),
        )
        if estimate.source not in (Source.PRIOR, Source.OVERRIDE)
    }


def plan_from_status(fleet: InferenceFleetResource, classes: tuple[WorkloadClassResource, ...]) -> Plan | None:
    """The plan in force as the objects' own status tells it: a restarted operator goes on from it.

    None where there is none or where a class bears another plan (the last writes were cut
    short): then it is planned anew.
    """
    summary = fleet.status.plan
    if summary is None or len(classes) != fleet.status.classes:
        return None
    own = sorted(classes, key=lambda entry: entry.metadata.name)
    promised = [promise for entry in own for promise in entry.status.promises]
    shares = [entry.status.plan for entry in classes if entry.status.plan_id == summary.plan_id]
    if len(shares) != len(classes) or any(share is None for share in shares):
        return None
    return Plan(
        plan_id=summary.plan_id,
        fleet=f"{fleet.metadata.namespace}/{fleet.metadata.name}",
        time=summary.time,
        charging=summary.charging,
        verdict=summary.verdict,
        value_per_second=summary.value_per_second,
        upper_bound=summary.upper_bound,
        pools=summary.pools,
        classes=tuple(share for share in shares if share is not None),
        shadow_prices=summary.shadow_prices,
        promises=(*filter(is_of_fleet, summary.promises), *promised),
        conflict=summary.conflict,
        certificate=summary.certificate,
        replica_cost_per_second=summary.replica_cost_per_second,
    )
