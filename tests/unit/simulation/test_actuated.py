"""The operator's own decide code over the simulated data plane, and the limits that it sets there."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from tests.values import pool

from sluice.model.fleet import ControlSettings, DataPlane, DataPlaneKind, Fleet, LimitKind, Pool, WorkloadClass
from sluice.model.signal import Signal, Source
from sluice.model.snapshot import PoolSupply
from sluice.simulation.actuated import ACTUATED, Informed, Operator, limited_as, start_open
from sluice.simulation.comparison import Scenario, compare, declared_workload, true_demand
from sluice.simulation.counters import Counters
from sluice.simulation.layout import Placement, State
from sluice.simulation.regime import Fidelity, Guidance, Regime
from sluice.simulation.report import as_document, gap_table
from sluice.simulation.run import Record, Replicas, Setup, simulate
from sluice.simulation.workload import Workload, blank

POOL = pool("a100", batched_token_budget=272)
CHAT = WorkloadClass(
    name="chat",
    prompt_token_price=0.1,
    output_token_price=0.4,
    prior_rate=1.0,
    prior_prompt_tokens=300.0,
    prior_output_tokens=200.0,
    patience_seconds=10.0,
)
BATCH = replace(CHAT, name="batch", prior_prompt_tokens=3000.0, prior_output_tokens=100.0, output_token_price=0.1)
REPLICAS = 4
SUPPLIES = (PoolSupply(pool="a100", ready=REPLICAS, source=Source.OVERRIDE),)


def scenario(factor: float, limit: LimitKind = LimitKind.RATE, *, seed: int = 1, seconds: float = 300.0) -> Scenario:
    """Two classes on four replicas; at a factor of 1 a seventh of the fleet is asked for, at 8 more than all of it."""
    classes = tuple(replace(entry, prior_rate=entry.prior_rate * factor) for entry in (CHAT, BATCH))
    return Scenario(
        fleet=Fleet(
            namespace="default",
            name="f",
            pools=(POOL,),
            data_plane=DataPlane(kind=DataPlaneKind.ENVOY_FILES, limit=limit),
            control=ControlSettings(solve_period_seconds=10.0),
        ),
        classes=classes,
        supplies=SUPPLIES,
        workload=declared_workload(classes, horizon_seconds=seconds, seed=seed),
        seed=seed,
    )


def steered(world: Scenario) -> tuple[Record, Operator]:
    operator = Operator(world.fleet, world.classes, world.supplies)
    setup = Setup(
        workload=world.workload,
        replicas=(Replicas(pool=POOL, count=REPLICAS),),
        fidelity=Fidelity.ITERATION,
        warmup_seconds=0.0,
        seed=world.seed,
    )
    record = simulate(
        setup,
        ACTUATED["sluice"],
        Guidance.blank(world.workload.classes),
        tick_seconds=world.fleet.control.solve_period_seconds,
        on_tick=operator,
        on_start=lambda sim: start_open(sim, world.fleet, world.classes, world.supplies),
    )
    return record, operator


def refused(record: Record) -> int:
    return int((record.requests["state"] == int(State.REFUSED)).sum())


@pytest.mark.parametrize("limit", [LimitKind.RATE, LimitKind.IN_FLIGHT, LimitKind.BOTH])
def test_limits_stand_on_rationed_classes_only_and_refuse(limit: LimitKind) -> None:
    record, operator = steered(scenario(8.0, limit))
    limited = set()
    for turn in operator.turns:
        held = {t.name for t in turn.targets.classes if t.rate_limit is not None or t.in_flight_limit is not None}
        assert held <= turn.rationed
        limited |= held
    assert limited == {"chat"}  # least value per token of the row that binds
    assert refused(record) > 0
    assert {int(k) for k in record.requests["klass"][record.requests["state"] == int(State.REFUSED)]} == {0}


def test_below_load_one_nothing_is_refused_and_nothing_differs_from_open_limits() -> None:
    world = scenario(1.0)
    record, operator = steered(world)
    assert refused(record) == 0
    assert all(t.rate_limit is None and t.fence is None for turn in operator.turns for t in turn.targets.classes)
    untouched, _ = steered(replace(world, fleet=replace(world.fleet, data_plane=DataPlane(limit=LimitKind.NONE))))
    assert record.requests.tobytes() == untouched.requests.tobytes()


def test_a_seed_gives_the_same_bytes_and_orders_again() -> None:
    (first, one), (second, two) = steered(scenario(8.0)), steered(scenario(8.0))
    assert first.requests.tobytes() == second.requests.tobytes()
    assert one.turns == two.turns
    other, _ = steered(scenario(8.0, seed=2))
    assert other.requests.tobytes() != first.requests.tobytes()


def test_the_gap_to_the_ideal_is_told_in_the_table_and_the_document() -> None:
    comparison = compare(scenario(8.0, seconds=200.0), ("sluice",))
    table = gap_table(comparison)
    assert table is not None
    assert [row[:2] for row in table.rows] == [("sluice", "value"), ("sluice", "good value")]
    assert table.title in as_document(comparison)
    assert [entry.measure.regime for entry in comparison.entries] == ["sluice", "sluice-ideal"]
    assert gap_table(compare(scenario(1.0, seconds=20.0), ("chunked",))) is None


@pytest.mark.parametrize(
    ("informed", "lengths", "rates"),
    [
        pytest.param(Informed.NOTHING, False, False, id="as it is: what was measured"),
        pytest.param(Informed.LENGTHS, True, False, id="true lengths, measured rates"),
        pytest.param(Informed.DEMAND, True, True, id="the true demand"),
        pytest.param(Informed.AT_ONCE, True, True, id="and at once"),
    ],
)
def test_better_informed_operators_plan_with_what_they_know(informed: Informed, lengths: bool, rates: bool) -> None:
    world = scenario(8.0, LimitKind.BOTH, seconds=60.0)
    truth, plans = true_demand(world), []
    fleet = limited_as(world.fleet, f"sluice-both{informed}")
    operator = Operator(fleet, world.classes, world.supplies, truth=truth, informed=informed)

    def tick(sim: Any, now: float) -> None:
        operator(sim, now)
        plans.append(operator.decisions.plan)

    setup = Setup(
        workload=world.workload,
        replicas=(Replicas(pool=POOL, count=REPLICAS),),
        fidelity=Fidelity.ITERATION,
        warmup_seconds=0.0,
    )
    blank_guidance = Guidance.blank(world.workload.classes)
    simulate(setup, ACTUATED[f"sluice-both{informed}"], blank_guidance, tick_seconds=10.0, on_tick=tick)
    assert plans[0] is not None
    chat = plans[0].classes[0]
    assert (chat.arrival_rate == pytest.approx(truth.classes[0].rate.value)) is rates
    ideal = compare(world, ()).plan.classes[0]
    assert (chat.admitted_rate == pytest.approx(ideal.admitted_rate, rel=1e-6)) is (lengths and rates)
    assert (operator.fleet.control.largest_step == 1.0) is (informed is Informed.AT_ONCE)


def requests(*rows: tuple[float, float, float]) -> Workload:
    """(arrival, prompt, output) of each request of one class."""
    table = blank(len(rows))
    for k, (arrival, prompt, output) in enumerate(rows):
        table[k]["arrival"], table[k]["prompt"], table[k]["work"], table[k]["output"] = arrival, prompt, prompt, output
    return Workload(classes=("a",), requests=table, horizon_seconds=100.0)


def run(workload: Workload, pools: tuple[Pool, ...] = (POOL,), **hooks: Any) -> Record:
    setup = Setup(
        workload=workload,
        replicas=tuple(Replicas(pool=pool, count=1) for pool in pools),
        fidelity=Fidelity.ITERATION,
        warmup_seconds=0.0,
    )
    return simulate(setup, ACTUATED["sluice"], Guidance.blank(("a",)), **hooks)


def test_a_limit_on_requests_in_flight_counts_until_the_last_token() -> None:
    def limit(sim: Any) -> None:
        sim.classes[0].limit_inside = 1.0

    # One prompt of one chunk (33.3 ms) and nine more tokens of 22 ms: in flight until 231 ms.
    record = run(requests((0.0, 256.0, 10.0), (0.2, 10.0, 1.0), (0.24, 10.0, 1.0)), on_start=limit)
    assert [State(s) for s in record.requests["state"]] == [State.DONE, State.REFUSED, State.DONE]
    assert math.isclose(float(record.requests["ended"][0]), 0.231272, abs_tol=1e-6)


def test_weights_choose_the_pool() -> None:
    def second_only(sim: Any) -> None:
        sim.weights[0, :] = (0.0, 1000.0)

    rows = [(0.01 * k, 10.0, 5.0) for k in range(8)]
    record = run(requests(*rows), (POOL, replace(POOL, name="other")), on_start=second_only)
    assert isinstance(ACTUATED["sluice"], Regime)
    assert ACTUATED["sluice"].placement is Placement.BY_WEIGHT
    assert {int(r) for r in record.requests["replica"]} == {1}


def test_counters_say_what_a_window_saw() -> None:
    counters, seen = Counters(("a",), 10.0), []
    rows = ((0.0, 100.0, 5.0), (12.0, 200.0, 1.0), (14.0, 400.0, 1.0))
    run(requests(*rows), tick_seconds=15.0, on_tick=lambda sim, now: seen.append(counters.observe(sim, now)))
    first = {signal: sample.value for signal, sample in seen[0].classes["a"].samples.items()}
    assert first[Signal.OFFERED_RATE] == first[Signal.ADMITTED_RATE] == pytest.approx(0.2)
    assert first[Signal.PROMPT_TOKENS] == pytest.approx(300.0)
    assert first[Signal.REFUSED_RATE] == 0.0
    assert Signal.TPOT in seen[0].classes["a"].gaps
    assert Signal.OUTPUT_TOKENS in seen[1].classes["a"].gaps
