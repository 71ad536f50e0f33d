"""What becomes of a fleet, its classes, the demand and the counted replicas: the problem that is planned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sluice.model.demand import ClassDemand, Demand, Estimate
from sluice.model.fleet import (
    ExternalPrices,
    Fleet,
    Hardness,
    Pool,
    Sli,
    SliSignal,
    SliStatistic,
    WorkloadClass,
)
from sluice.model.law import IterationLaw, MeasuredPoint
from sluice.model.signal import Source
from sluice.model.snapshot import PoolSupply
from sluice.planning import plan
from sluice.planning.declared import declared_demand
from sluice.planning.modes import Mode
from sluice.planning.problem import Problem

LAW = IterationLaw(solo_seconds=0.1, mixed_base_seconds=0.1, per_token_seconds=0.0)
"""0.1 s either way: with 2 slots and chunks of 100, a solo second is 20 steps and a mixed one 10."""
POOL = Pool(name="only", law=LAW, slots=2, chunk_tokens=100, batched_token_budget=200)
CHAT = WorkloadClass(
    name="chat", prompt_token_price=0.0, output_token_price=1.0, prior_rate=1.0, prior_prompt_tokens=100.0,
    prior_output_tokens=9.0,
)  # fmt: skip


def problem_of(*pools: Pool, ready: dict[str, int], unmatched: float = 0.0, workload: WorkloadClass = CHAT) -> Problem:
    fleet = Fleet(namespace="default", name="fleet", pools=pools)
    demand = replace(declared_demand([workload]), unmatched_rate=unmatched)
    return Problem.of(
        fleet,
        [workload],
        demand,
        [PoolSupply(pool=name, ready=n, source=Source.ENDPOINTS) for name, n in ready.items()],
    )


def value(problem: Problem) -> float:
    outcome = plan(problem, now=0.0)
    assert outcome.plan is not None, outcome.message
    return outcome.plan.value_per_second


def test_a_law_becomes_the_two_modes_of_the_paper() -> None:
    (pool,) = problem_of(POOL, ready={"only": 3}).pools
    assert pool.modes == (Mode(100, 1, 0.1), Mode(0, 2, 0.1))
    assert pool.replicas == 3


def test_traffic_of_no_class_takes_its_engines_first() -> None:
    """9 steps of 20 and 100 prompt tokens that cost 10 steps a tenth of a second: half a second each."""
    problem = problem_of(POOL, ready={"only": 1}, unmatched=0.5)
    assert problem.pools[0].reserved == pytest.approx(0.5 * (9 / 20 + 100 / 1000 * (1 - 10 / 20)))
    assert any("match no class" in note for note in problem.notes)
    busy = replace(CHAT, prior_rate=10.0)
    alone, shared = (value(problem_of(POOL, ready={"only": 1}, unmatched=u, workload=busy)) for u in (0.0, 0.5))
    assert shared == pytest.approx(0.75 * alone, rel=1e-9), "three quarters of the replica are left"


def test_traffic_of_no_class_is_spread_by_capacity_and_never_takes_more_than_there_is() -> None:
    other = replace(POOL, name="other")
    spread = problem_of(POOL, other, ready={"only": 3, "other": 1}, unmatched=0.8)
    assert [pool.reserved for pool in spread.pools] == pytest.approx([0.3, 0.1])
    flooded = problem_of(POOL, ready={"only": 1}, unmatched=1000.0)
    assert flooded.pools[0].replicas == 0


def test_an_api_keeps_no_engines_for_traffic_of_no_class() -> None:
    api = replace(POOL, name="api", external=ExternalPrices(prompt_token_cost=0.0, output_token_cost=0.5))
    problem = problem_of(POOL, api, ready={"only": 1}, unmatched=0.5)
    assert [pool.reserved for pool in problem.pools] == pytest.approx([0.25, 0.0])
    assert (problem.pools[1].modes, problem.pools[1].ready) == ((), 0)
    assert not [note for note in problem.notes if "api" in note], "nobody counts the replicas of an API"


def test_engines_per_replica_multiply_capacity_and_divide_memory() -> None:
    double = replace(POOL, engines_per_replica=2, kv_token_capacity=1000)
    (pool,) = problem_of(double, ready={"only": 3}).pools
    assert (pool.ready, pool.replicas) == (3, 6)
    assert pool.kv_token_capacity == 500
    busy = replace(CHAT, prior_rate=100.0)
    one, two = (
        value(problem_of(replace(POOL, engines_per_replica=n), ready={"only": 1}, workload=busy)) for n in (1, 2)
    )
    assert two == pytest.approx(2 * one, rel=1e-9)


def test_a_measured_table_is_read_at_the_context_of_the_demand() -> None:
    """Mean context 100 + 9/2: 4.5 % of the way from 100 to 200. The law is not asked."""
    points = tuple(
        MeasuredPoint(chunk_tokens=chunk, batch=batch, context_tokens=context, seconds=seconds)
        for chunk, batch, context, seconds in (
            (100, 1, 100, 0.2), (100, 1, 200, 0.4), (0, 2, 100, 0.1), (0, 2, 200, 0.3), (0, 4, 100, 0.1),
            (0, 4, 200, 0.3),
        )
    )  # fmt: skip
    (pool,) = problem_of(replace(POOL, points=points), ready={"only": 1}).pools
    assert {(mode.chunk_tokens, mode.batch) for mode in pool.modes} == {(100, 1), (0, 2)}, "4 slots there are not"
    assert sorted(mode.seconds for mode in pool.modes) == pytest.approx([0.109, 0.209])


def test_a_table_that_was_not_measured_far_enough_is_said_with_its_pool() -> None:
    points = (
        MeasuredPoint(chunk_tokens=100, batch=1, context_tokens=50, seconds=0.2),
        MeasuredPoint(chunk_tokens=0, batch=2, context_tokens=50, seconds=0.1),
    )
    problem = problem_of(replace(POOL, points=points), ready={"only": 1})
    assert [note for note in problem.notes if note.startswith("Pool/only:") and "above what was measured" in note]


def test_a_pool_that_nobody_counted_is_planned_as_empty_and_said() -> None:
    problem = problem_of(POOL, replace(POOL, name="lost"), ready={"only": 1})
    assert problem.pools[1].ready == 0
    assert problem.notes == ("Pool/lost: nobody counted its replicas; planned as 0",)


def test_moving_costs_count_only_where_decode_may_move() -> None:
    priced = replace(POOL, transfer_seconds_per_token=1e-6, transfer_cost_per_token=1e-3)
    (stays,) = problem_of(priced, ready={"only": 1}).pools
    (moves,) = problem_of(replace(priced, decode_may_move=True), ready={"only": 1}).pools
    assert (stays.transfer_seconds_per_token, stays.transfer_cost_per_token) == (0.0, 0.0)
    assert (moves.transfer_seconds_per_token, moves.transfer_cost_per_token) == (1e-6, 1e-3)


def test_more_computed_than_sent_is_noise_and_no_patience_at_all_is_a_fault() -> None:
    def estimate(number: float) -> Estimate:
        return Estimate(value=number, source=Source.PRIOR)

    fleet = Fleet(namespace="default", name="fleet", pools=(POOL,))
    crossed = ClassDemand(
        name="chat", rate=estimate(1.0), prompt_tokens=estimate(100.0), uncached_prompt_tokens=estimate(101.0),
        output_tokens=estimate(9.0), patience_seconds=0.0,
    )  # fmt: skip
    problem = Problem.of(
        fleet, [CHAT], Demand(classes=(crossed,)), [PoolSupply(pool="only", ready=1, source=Source.ENDPOINTS)]
    )
    assert problem.classes[0].uncached_prompt_tokens == 100.0
    assert [(fault.subject, fault.field) for fault in problem.faults()] == [("WorkloadClass/chat", "abandonmentRate")]


@pytest.mark.parametrize(
    ("fleet", "workload", "words"),
    [
        pytest.param(
            {"sacrifice_order": ("ttft:chat", "served:nobody")},
            {"slis": (Sli(signal=SliSignal.TTFT, statistic=SliStatistic.MEAN, target_seconds=2.0, fraction=None,
                          hardness=Hardness.HARD, penalty=0.0),)},
            ("sacrificeOrder names served:nobody, which nobody promised: passed over",),
            id="a name in the order of sacrifice that nobody promised is passed over, and said",
        ),
        pytest.param(
            {},
            {"slis": (Sli(signal=SliSignal.TPOT, statistic=SliStatistic.WITHIN_FRACTION, target_seconds=0.05,
                          fraction=0.9, hardness=Hardness.HARD, penalty=0.0),)},
            ("tpot:chat is planned as a mean over tokens: the fluid model knows no share that keeps it",),
            id="a share of token times is planned as their mean, and said",
        ),
        pytest.param({}, {}, (), id="nothing to say"),
    ],
)  # fmt: skip
def test_what_is_declared_and_planned_otherwise_is_said_on_the_plan(
    fleet: dict[str, Any], workload: dict[str, Any], words: tuple[str, ...]
) -> None:
    chat = replace(CHAT, **workload)
    problem = Problem.of(
        Fleet(namespace="default", name="fleet", pools=(POOL,), **fleet), [chat], declared_demand([chat]),
        [PoolSupply(pool="only", ready=1, source=Source.ENDPOINTS)],
    )  # fmt: skip
    made = plan(problem, now=0.0).plan
    assert made is not None
    assert made.notes == words
