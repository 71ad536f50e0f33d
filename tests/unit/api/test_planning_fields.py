"""What users declare for the planner arrives in it, units included."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.api.objects import POOL, fleet, profile, workload

from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.iteration_profile import IterationProfileResource
from sluice.api.resolve import Resolved, resolve
from sluice.api.supply import count
from sluice.api.validate import problems
from sluice.api.workload_class import WorkloadClassResource
from sluice.model.fleet import Fleet, SliSignal
from sluice.model.law import MeasuredPoint
from sluice.model.reasons import Reason
from sluice.planning import Problem
from sluice.planning import plan as solve
from sluice.planning.declared import declared_demand

POINTS = [
    {"chunkTokens": 256, "batch": 15, "contextTokens": 1000, "nanoseconds": 33_000_000},
    {"chunkTokens": 0, "batch": 16, "contextTokens": 1000, "nanoseconds": 22_000_000},
]
API: dict[str, Any] = {
    "name": "api",
    "external": {
        "promptPerMillionTokens": "0.30",
        "outputPerMillionTokens": "1.20",
        "firstTokenMilliseconds": 350,
        "tokenMicroseconds": 12_500,
    },
}


def resolved(
    declared: InferenceFleetResource,
    law: IterationProfileResource | None = None,
    classes: tuple[WorkloadClassResource, ...] = (),
) -> tuple[Fleet, Resolved]:
    """The fleet as the planner sees it; the resource must be one that the API server takes."""
    assert problems(declared.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"status"})) == []
    found = resolve(declared, [law or profile()], classes or [workload()])
    assert found.fleet is not None
    return found.fleet, found


@pytest.mark.parametrize(
    ("plan_from", "expected"),
    [
        pytest.param("Law", (), id="the law plans unless the profile says otherwise"),
        pytest.param(
            "Points",
            (
                MeasuredPoint(chunk_tokens=256, batch=15, context_tokens=1000, seconds=0.033),
                MeasuredPoint(chunk_tokens=0, batch=16, context_tokens=1000, seconds=0.022),
            ),
            id="measured points plan where it says so",
        ),
    ],
)
def test_what_plans_are_made_from(plan_from: str, expected: tuple[MeasuredPoint, ...]) -> None:
    value, _ = resolved(fleet(), profile(points=POINTS, planFrom=plan_from))
    assert value.pools[0].points == expected


def test_measured_points_decide_the_working_points_of_the_plan() -> None:
    value, found = resolved(fleet(pools=[POOL]), profile(points=POINTS, planFrom="Points"))
    supplies, _ = count(value, ())
    problem = Problem.of(value, found.classes, declared_demand(found.classes), supplies)
    assert [mode.seconds for mode in problem.pools[0].modes] == [0.022, 0.033]


def test_an_external_pool_needs_no_profile_and_no_replicas() -> None:
    value, found = resolved(fleet(pools=[POOL, API]))
    external = value.pools[1].external
    assert external is not None
    assert external.prompt_token_cost == pytest.approx(0.30e-6)
    assert external.output_token_cost == pytest.approx(1.20e-6)
    assert (external.first_token_seconds, external.token_seconds) == (0.35, 0.0125)
    supplies, findings = count(value, (), complete=True)
    assert ([supply.pool for supply in supplies], findings) == (["a100"], ())
    assert all(finding.reason is not Reason.PROFILE_NOT_FOUND for finding in found.findings)


def test_an_external_pool_takes_what_is_worth_more_than_it_costs() -> None:
    classes = tuple(
        workload(name, pools=["api"], prices={"promptPerMillionTokens": price, "outputPerMillionTokens": price})
        for name, price in (("dear", "2.00"), ("cheap", "0.10"))
    )
    value, found = resolved(fleet(pools=[POOL, API]), classes=classes)
    supplies, _ = count(value, ())
    plan = solve(Problem.of(value, found.classes, declared_demand(found.classes), supplies), now=0.0).plan
    assert plan is not None
    assert {entry.name: entry.admitted_rate for entry in plan.classes} == {"dear": 5.0, "cheap": 0.0}


def test_moving_kv_caches_takes_time_and_money() -> None:
    moving = {
        **POOL,
        "decodePlacement": "AnyReplica",
        "kvTransferNanosecondsPerToken": 2_500,
        "kvTransferCostPerMillionTokens": "0.01",
    }
    value, _ = resolved(fleet(pools=[moving]))
    assert value.pools[0].transfer_seconds_per_token == pytest.approx(2.5e-6)
    assert value.pools[0].transfer_cost_per_token == pytest.approx(1e-8)


def test_what_the_whole_fleet_weighs_reaches_the_problem() -> None:
    declared = fleet(
        pools=[{**POOL, "costPerHour": "2.50"}],
        planning={"chargeReplicas": True, "cautionPermille": 800, "sacrificeOrder": ["ttft:chat"]},
        objectives=[
            {"signal": "ServedFractionFairness", "differencePermille": 100},
            {"signal": "DecodeFairness", "differencePermille": 0, "hardness": "Soft", "penalty": "3"},
            {"signal": "SlotWeightedTPOT", "targetMilliseconds": 30},
        ],
    )
    chat = workload(slis=[{"signal": "TTFT", "targetMilliseconds": 900}], patienceMilliseconds=9000)
    value, found = resolved(declared, classes=(chat,))
    supplies, _ = count(value, ())
    problem = Problem.of(value, found.classes, declared_demand(found.classes), supplies)
    assert (problem.charge_replicas, problem.caution) == (True, 0.8)
    assert {promise.name: promise.target for promise in problem.promises} == {
        "served-fairness": 0.1,
        "decode-fairness": 0.0,
        "slot-tpot": 0.03,
        "ttft:chat": 0.9,
    }
    assert min(problem.promises, key=lambda promise: promise.importance).name == "ttft:chat"
    assert problem.faults() == ()


def test_a_class_says_how_far_its_rate_may_be_off_and_how_long_it_may_wait() -> None:
    chat = workload(rateSpreadPermille=250, slis=[{"signal": "QueueWait", "targetMilliseconds": 200}])
    _, found = resolved(fleet(), classes=(chat,))
    assert found.classes[0].rate_spread == 0.25
    assert [(sli.signal, sli.target_seconds) for sli in found.classes[0].slis] == [(SliSignal.QUEUE_WAIT, 0.2)]
