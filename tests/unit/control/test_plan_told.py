"""What a plan costs and keeps is told: in status, bounded and still under noise, and as metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sluice.api.inference_fleet import PROMISES_TOLD, InferenceFleetResource
from sluice.api.iteration_profile import IterationProfileResource
from sluice.api.resolve import resolve
from sluice.api.supply import count
from sluice.api.validate import problems
from sluice.api.workload_class import WorkloadClassResource
from sluice.control import gauges, statuses
from sluice.control.account import Account
from sluice.control.gauges import Figures
from sluice.control.metrics import Metrics
from sluice.control.ports import document
from sluice.control.report import report
from sluice.deciding.decide import DecideMemory, decide
from sluice.model.decision import Decision
from sluice.model.demand import Demand
from sluice.model.plan import Plan, PromisePlan
from sluice.model.reasons import ConditionType, Reason
from sluice.model.signal import Sample, Signal, Source
from sluice.model.snapshot import ClassSamples, Observation, Snapshot
from sluice.planning.declared import declared_demand

NOW = 1_700_000_000.0


def resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "sluice.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


PROFILE = IterationProfileResource.model_validate(
    resource(
        "IterationProfile",
        "law",
        {
            "model": "8B",
            "accelerator": "A100",
            "soloNanoseconds": 22_000_000,
            "mixedBaseNanoseconds": 17_400_000,
            "perTokenNanoseconds": 62_000,
        },
    )
)
ENDPOINTS = [{"address": f"10.0.0.{index}", "port": 8000} for index in range(1, 5)]
FLEET = InferenceFleetResource.model_validate(
    resource(
        "InferenceFleet",
        "fleet",
        {
            "pools": [
                {"name": "a100", "endpoints": ENDPOINTS, "profileRef": {"name": "law"}, "slots": 16, "chunkTokens": 256}
            ],
            "objectives": [{"signal": "ServedFraction", "fractionPermille": 100}],
        },
    )
)


def workload(name: str, prompt: int, output: int, share: int) -> WorkloadClassResource:
    """A class of which ``share`` permille shall be served."""
    return WorkloadClassResource.model_validate(
        resource(
            "WorkloadClass",
            name,
            {
                "fleetRef": {"name": "fleet"},
                "match": {"headers": [{"name": "x-model", "value": name}]},
                "priors": {"promptTokens": prompt, "outputTokens": output, "milliRequestsPerSecond": 4000},
                "patienceMilliseconds": 10_000,
                "slis": [{"signal": "ServedFraction", "fractionPermille": share}],
            },
        )
    )


MODEST = (workload("long", 300, 1000, 100), workload("short", 3000, 400, 100))
GREEDY = (workload("long", 300, 1000, 950), workload("short", 3000, 400, 950))


class Operator:
    """Passes over declared demand, with the memory between them."""

    def __init__(self, classes: tuple[WorkloadClassResource, ...]) -> None:
        self.classes, self.memory = classes, DecideMemory()
        self.resolved = resolve(FLEET, [PROFILE], classes)

    def __call__(self, factor: float = 1.0, now: float = NOW) -> Decision:
        fleet = self.resolved.fleet
        assert fleet is not None
        snapshot = Snapshot(now=now, fleet=fleet, classes=self.resolved.classes, supplies=count(fleet, ())[0])
        decision, self.memory = decide(snapshot, self.demand(factor), self.memory)
        return decision

    def demand(self, factor: float) -> Demand:
        demand = declared_demand(self.resolved.classes)
        return replace(
            demand,
            classes=tuple(
                replace(entry, rate=replace(entry.rate, value=entry.rate.value * factor)) for entry in demand.classes
            ),
        )


def plan_of(decision: Decision) -> Plan:
    assert decision.plan is not None
    return decision.plan


def told(plan: Plan, classes: tuple[WorkloadClassResource, ...]) -> list[dict[str, Any]]:
    """The status documents of the fleet and its classes."""
    fleet = statuses.fleet_status(FLEET, (), plan, (), ())
    shares = statuses.shares(plan)
    each = [statuses.class_status(entry, (), None, shares[entry.metadata.name], None, ()) for entry in classes]
    return [document(status) for status in (fleet, *each)]


def test_the_fleet_tells_its_own_promises_and_those_that_are_missed() -> None:
    fleet, long, _ = told(plan_of(Operator(GREEDY)()), GREEDY)
    named = {entry["name"]: entry["held"] for entry in fleet["plan"]["promises"]}
    assert named["served"]
    assert not all(named.values())
    assert fleet["promises"] in {"1/3", "2/3"}
    assert "served:long" in fleet["plan"]["conflict"]["promises"]
    assert fleet["plan"]["conflict"]["relaxed"]
    assert fleet["plan"]["certificate"]["gap"] < 1e-7
    assert [entry["name"] for entry in long["promises"]] == ["served:long"]
    assert long["plan"]["standing"]


def test_kept_promises_to_classes_are_told_by_the_classes_alone() -> None:
    fleet, long, _ = told(plan_of(Operator(MODEST)()), MODEST)
    assert [entry["name"] for entry in fleet["plan"]["promises"]] == ["served"]
    assert "conflict" not in fleet["plan"]
    assert fleet["promises"] == "3/3"
    assert long["promises"][0]["held"]


@pytest.mark.parametrize("classes", [MODEST, GREEDY], ids=["all promises hold", "promises are relaxed"])
def test_a_restarted_operator_reads_the_same_plan_back(classes: tuple[WorkloadClassResource, ...]) -> None:
    plan = plan_of(Operator(classes)())
    documents = told(plan, classes)
    written = [
        type(entry).model_validate(entry.model_dump(mode="json", by_alias=True) | {"status": document})
        for entry, document in zip((FLEET, *classes), documents, strict=True)
    ]
    fleet, *others = written
    assert isinstance(fleet, InferenceFleetResource)
    back = statuses.plan_from_status(fleet, tuple(e for e in others if isinstance(e, WorkloadClassResource)))
    assert back is not None
    assert back.model_dump(exclude={"notes"}) == plan.model_dump(exclude={"notes"})
    for entry, shown in zip((FLEET, *classes), documents, strict=True):
        whole = entry.model_dump(mode="json", by_alias=True, exclude_none=True) | {"status": shown}
        assert problems(whole) == []


@pytest.mark.parametrize("classes", [MODEST, GREEDY], ids=["all promises hold", "promises are relaxed"])
def test_noise_writes_no_status(classes: tuple[WorkloadClassResource, ...]) -> None:
    operator = Operator(classes)
    first = told(plan_of(operator()), classes)
    for step, factor in enumerate((1.004, 0.997, 1.002, 0.995), start=1):
        assert told(plan_of(operator(factor, NOW + 10 * step)), classes) == first


def test_the_status_of_a_thousand_missed_promises_is_bounded() -> None:
    missed = PromisePlan(name="x", target=1.0, planned=0.5, held=False, applied_target=0.5, price=1.0)
    many = tuple(missed.model_copy(update={"name": f"served:class-{index}"}) for index in range(1000))
    plan = plan_of(Operator(MODEST)()).model_copy(update={"promises": many})
    assert len(told(plan, ())[0]["plan"]["promises"]) == PROMISES_TOLD


def test_prices_promises_and_proof_are_metrics() -> None:
    plan = plan_of(Operator(GREEDY)())
    shown = gauges.figures(
        now=NOW, plan=plan, plan_time=NOW, demand=None, targets=None, conditions=(), observation_age=None
    )
    metrics = Metrics("0")
    metrics.show_fleet("ns", "fleet", shown)
    text = metrics.exposition().decode()
    for line in (
        'sluice_shadow_price{constraint="(5) replicas[a100]",fleet="fleet",namespace="ns"}',
        'sluice_pool_replica_value_per_second{fleet="fleet",namespace="ns",pool="a100"}',
        'sluice_class_marginal_value{class="long",fleet="fleet",namespace="ns"}',
        'sluice_class_cut_off_ratio{class="long",fleet="fleet",namespace="ns"}',
        'sluice_promise_target{fleet="fleet",namespace="ns",promise="served:long"} 0.95',
        'sluice_promise_kept{fleet="fleet",namespace="ns",promise="served"} 1.0',
        'sluice_promises_relaxed{fleet="fleet",namespace="ns"}',
        'sluice_promises_cost_per_second{fleet="fleet",namespace="ns"}',
        'sluice_certificate_residual_ratio{fleet="fleet",namespace="ns",part="gap"}',
    ):
        assert line in text
    assert "admission[" not in text


def test_a_conflict_is_unsolved_and_applied_not_an_old_plan_that_is_held() -> None:
    operator = Operator(GREEDY)
    decision = operator()
    account = Account(
        key=("default", "fleet"),
        now=NOW,
        resource=FLEET,
        classes=GREEDY,
        fleet=operator.resolved.fleet,
        workloads=operator.resolved.classes,
        decision=decision,
        findings=decision.findings,
    )
    fleet = next(entry for entry in report(account).statuses if entry.ref.kind == "InferenceFleet")
    told = document(fleet.status)["conditions"]
    conditions = {entry["type"]: (entry["status"], entry["reason"]) for entry in told}
    assert conditions[ConditionType.SOLVED] == ("False", Reason.INFEASIBLE)
    assert ConditionType.DEGRADED not in conditions


def reported(operator: Operator, decision: Decision, **more: Any) -> tuple[dict[str, Any], Figures]:
    """The documents by name, and the figures."""
    account = Account(
        key=("default", "fleet"),
        now=NOW,
        resource=FLEET,
        classes=operator.classes,
        fleet=operator.resolved.fleet,
        workloads=operator.resolved.classes,
        decision=decision,
        findings=decision.findings,
        **more,
    )
    told = report(account)
    return {entry.ref.name: document(entry.status) for entry in told.statuses}, told.figures


def solved(status: dict[str, Any]) -> tuple[str, str]:
    return next((entry["status"], entry["reason"]) for entry in status["conditions"] if entry["type"] == "Solved")


def test_a_conflict_is_laid_at_the_door_of_those_who_are_in_it() -> None:
    calm = workload("calm", 300, 100, 1)
    operator = Operator((*GREEDY, calm))
    decision = operator()
    told, _ = reported(operator, decision)
    conflict = plan_of(decision).conflict
    assert conflict is not None
    blamed = {name.partition(":")[2] for name in conflict.promises}
    assert blamed
    assert blamed < {"long", "short", "calm"}
    assert solved(told["fleet"]) == ("False", "Infeasible")
    for name in ("long", "short", "calm"):
        assert solved(told[name]) == (("False", "Infeasible") if name in blamed else ("True", "Optimal"))


@pytest.mark.parametrize(
    ("admitted", "column", "held"),
    [
        pytest.param(2.0, "1/1", 1.0, id="half of the requests are served, a tenth was promised"),
        pytest.param(0.2, "0/1", 0.0, id="a twentieth is served"),
        pytest.param(None, "?/1", None, id="nothing is measured"),
    ],
)
def test_indicators_are_told_beside_what_was_promised(admitted: float | None, column: str, held: float | None) -> None:
    rates = {} if admitted is None else {Signal.OFFERED_RATE: 4.0, Signal.ADMITTED_RATE: admitted}
    samples = {key: Sample(value=value, at_seconds=NOW, source=Source.ENVOY) for key, value in rates.items()}
    operator = Operator(MODEST)
    observation = Observation(classes={"long": ClassSamples(samples=samples)})
    told_by_name, figures = reported(operator, operator(), observation=observation, demand=operator.demand(1.0))
    assert told_by_name["long"]["slis"] == column
    assert told_by_name["long"]["offered"] == "4 (declared)"
    labels = (("class", "long"), ("signal", "ServedFraction"), ("statistic", "Mean"))
    assert figures["sluice_class_sli_target", labels] == pytest.approx(0.1)
    assert figures.get(("sluice_class_sli_held", labels)) == held
