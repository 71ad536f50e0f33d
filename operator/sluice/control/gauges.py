"""A pass as figures for our own metrics. Pure; ``Metrics.show_fleet`` takes the result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sluice.api.conditions import Condition
from sluice.api.indicators import AttainmentStatus
from sluice.control.judging import SUMMARY
from sluice.model.decision import Targets
from sluice.model.demand import Demand
from sluice.model.plan import Plan
from sluice.model.reasons import ConditionType
from sluice.planning.formulate import ADMISSION

Labels = tuple[tuple[str, str], ...]
Figures = Mapping[tuple[str, Labels], float]

_HOUR_SECONDS = 3600.0
_LEVEL = {"True": 1.0, "False": 0.0}
_SHOWN = (*SUMMARY, ConditionType.READY, ConditionType.STALLED, ConditionType.DEGRADED, ConditionType.DRIFTED)


def figures(
    *,
    now: float,
    plan: Plan | None,
    plan_time: float,
    demand: Demand | None,
    targets: Targets | None,
    conditions: Iterable[Condition],
    observation_age: float | None,
) -> Figures:
    """Metric name and extra labels -> value; what is not named is not exported."""
    shown: dict[tuple[str, Labels], float] = {}
    if observation_age is not None:
        shown["sluice_observation_age_seconds", ()] = observation_age
    if plan is not None:
        shown["sluice_plan_age_seconds", ()] = max(0.0, now - plan_time)
        shown["sluice_last_success_timestamp_seconds", ()] = now
        shown.update(_of_plan(plan))
    for entry in demand.classes if demand is not None else ():
        shown["sluice_class_offered_requests_per_second", (("class", entry.name),)] = entry.rate.value
    if targets is not None:
        shown.update(_of_targets(targets))
    levels = {condition.type: _LEVEL.get(condition.status, -1.0) for condition in conditions}
    for type_ in _SHOWN:
        shown["sluice_condition", (("type", type_.value),)] = levels.get(type_.value, -1.0)
    return shown


def _of_plan(plan: Plan) -> Iterator[tuple[tuple[str, Labels], float]]:
    yield ("sluice_plan_value_per_second", ()), plan.value_per_second
    yield ("sluice_plan_upper_bound", ()), plan.upper_bound
    for pool in plan.pools:
        yield ("sluice_pool_replicas", (("pool", pool.name), ("role", "mixed"))), pool.mixed
        yield ("sluice_pool_replicas", (("pool", pool.name), ("role", "solo"))), pool.solo
    for entry in plan.classes:
        yield ("sluice_class_admitted_requests_per_second", (("class", entry.name),)), entry.admitted_rate
    yield from _of_prices(plan)
    yield from _of_promises(plan)


def _of_prices(plan: Plan) -> Iterator[tuple[tuple[str, Labels], float]]:
    """What the rows, the replicas and the classes are worth at the margin; classes have a metric of their own."""
    for price in plan.shadow_prices:
        if not price.constraint.startswith(ADMISSION):
            yield ("sluice_shadow_price", (("constraint", price.constraint),)), price.value
    for pool in plan.pools:
        if pool.value_per_replica_hour is not None:
            value = pool.value_per_replica_hour / _HOUR_SECONDS
            yield ("sluice_pool_replica_value_per_second", (("pool", pool.name),)), value
    for entry in plan.classes:
        if entry.marginal_value is not None:
            yield ("sluice_class_marginal_value", (("class", entry.name),)), entry.marginal_value
        if entry.cut_off is not None:
            yield ("sluice_class_cut_off_ratio", (("class", entry.name),)), entry.cut_off


def _of_promises(plan: Plan) -> Iterator[tuple[tuple[str, Labels], float]]:
    """What was promised, what the plan keeps of it, and the proof behind the plan."""
    for promise in plan.promises:
        label = (("promise", promise.name),)
        yield ("sluice_promise_target", label), promise.target
        yield ("sluice_promise_planned", label), promise.planned
        yield ("sluice_promise_kept", label), float(promise.held)
        yield ("sluice_promise_price", label), promise.price
    yield ("sluice_promises_relaxed", ()), float(len(plan.conflict.relaxed) if plan.conflict is not None else 0)
    if plan.conflict is not None:
        yield ("sluice_promises_cost_per_second", ()), plan.conflict.cost_per_second
    if (proof := plan.certificate) is not None:
        for part, value in (("primal", proof.primal_residual), ("dual", proof.dual_residual), ("gap", proof.gap)):
            yield ("sluice_certificate_residual_ratio", (("part", part),)), value


def of_indicators(attained: Mapping[str, Iterable[AttainmentStatus]]) -> Figures:
    """What was promised and what is measured of it, by class and indicator; what is not measured has no series."""
    shown: dict[tuple[str, Labels], float] = {}
    for name, indicators in attained.items():
        shown.update(_attained("sluice_class_sli", (("class", name),), indicators))
    return shown


def of_objectives(attained: Iterable[AttainmentStatus]) -> Figures:
    """The same of what the fleet as a whole is promised."""
    return dict(_attained("sluice_fleet_sli", (), attained))


def _attained(
    name: str, whose: Labels, indicators: Iterable[AttainmentStatus]
) -> Iterator[tuple[tuple[str, Labels], float]]:
    for entry in indicators:
        labels = (*whose, ("signal", entry.signal.value), ("statistic", entry.statistic.value))
        yield (f"{name}_target", labels), entry.target
        if entry.measured is not None:
            yield (f"{name}_measured", labels), entry.measured
            yield (f"{name}_held", labels), float(entry.held == "Held")


def _of_targets(targets: Targets) -> Iterator[tuple[tuple[str, Labels], float]]:
    for target in targets.classes:
        label = ("class", target.name)
        if target.rate_limit is not None:
            yield ("sluice_class_rate_limit_requests_per_second", (label,)), target.rate_limit
        if target.in_flight_limit is not None:
            yield ("sluice_class_in_flight_limit", (label,)), float(target.in_flight_limit)
        for pool, permille in target.weights:
            yield ("sluice_class_weight_ratio", (label, ("pool", pool))), permille / 1000.0
