"""Promises on the paper's instance: the published shape, prices, and what happens when they clash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sluice.model.fleet import ExternalPrices
from sluice.model.plan import Plan, Verdict
from sluice.model.reasons import Reason
from sluice.planning import Outcome, plan
from sluice.planning.problem import PoolInput, Problem
from sluice.planning.promises import Promise, PromiseKind

Instance = Callable[..., Problem]
BEST = 297.716190347


def solved(problem: Problem, *promises: Promise) -> Plan:
    outcome = outcome_of(problem, *promises)
    assert outcome.plan is not None, outcome.message
    return outcome.plan


def outcome_of(problem: Problem, *promises: Promise) -> Outcome:
    return plan(replace(problem, promises=promises), now=0.0)


def both(kind: PromiseKind, target: float, **more: object) -> tuple[Promise, ...]:
    return tuple(
        Promise(kind=kind, class_name=name, target=target, **more)  # type: ignore[arg-type]  # one of its fields
        for name in ("decode-heavy", "prefill-heavy")
    )


@pytest.mark.parametrize(
    ("eta", "value"), [(0, 134.0), (0.02, 153.5), (0.05, 182.7), (0.10, 231.5), (0.15, 280.2), (0.177, 297.7)]
)
def test_prefill_fairness_43_has_the_shape_of_the_model_table(
    paper_instance: Instance, eta: float, value: float
) -> None:
    promise = Promise(kind=PromiseKind.PREFILL_FAIRNESS, target=eta)
    assert solved(paper_instance(), promise).value_per_second == pytest.approx(value, abs=0.05)


def test_prefill_fairness_is_per_engine_whatever_the_fleet_size(paper_instance: Instance) -> None:
    promise = Promise(kind=PromiseKind.PREFILL_FAIRNESS, target=0.05)
    one, many = (solved(paper_instance(replicas=n), promise).value_per_second / n for n in (1, 40))
    assert many == pytest.approx(one, rel=1e-9)


def test_decode_fairness_45_costs_an_eighth(paper_instance: Instance) -> None:
    result = solved(paper_instance(), Promise(kind=PromiseKind.DECODE_FAIRNESS, target=0.0))
    assert result.value_per_second / BEST - 1 == pytest.approx(-0.135, abs=1e-3)


def test_slot_weighted_tpot_47_leaves_nothing_at_the_solo_time(paper_instance: Instance) -> None:
    tight, loose = (Promise(kind=PromiseKind.SLOT_TPOT, target=target) for target in (0.022, 0.025))
    assert solved(paper_instance(), tight).value_per_second == pytest.approx(0.0, abs=1e-6)
    assert solved(paper_instance(), loose).value_per_second == pytest.approx(BEST, rel=1e-9)


def test_penalty_48_is_the_ratio_itself_and_not_its_tangent(paper_instance: Instance) -> None:
    promise = Promise(kind=PromiseKind.SLOT_TPOT, target=0.0, hard=False, penalty=1e4)
    result = solved(paper_instance(), promise)
    mixed = sum(entry.prefill for entry in result.classes)
    ratio = (0.033272 * 15 * mixed + 0.022 * 16 * (1 - mixed)) / (15 * mixed + 16 * (1 - mixed))
    earned = sum(entry.admitted_rate * worth for entry, worth in zip(result.classes, (230.0, 380.0), strict=True))
    assert result.value_per_second == pytest.approx(earned - 1e4 * ratio, rel=1e-8)


def test_token_weighted_tpot_is_below_the_slot_weighted_one(paper_instance: Instance) -> None:
    tokens, slots = (
        solved(paper_instance(), Promise(kind=kind, target=1.0)).promises[0].planned
        for kind in (PromiseKind.TPOT, PromiseKind.SLOT_TPOT)
    )
    assert 0.022 < tokens < slots


@pytest.mark.parametrize(("seconds", "cost"), [(0.5, 0.013), (1.0, 0.0), (3.0, 0.0)])
def test_waiting_bound_costs_what_the_model_page_says(paper_instance: Instance, seconds: float, cost: float) -> None:
    result = solved(paper_instance(), *both(PromiseKind.WAIT, seconds))
    assert result.conflict is None
    assert 1 - result.value_per_second / BEST == pytest.approx(cost, abs=5e-4)


def test_an_impossible_waiting_bound_is_a_conflict_with_a_way_out(paper_instance: Instance) -> None:
    outcome = outcome_of(paper_instance(), *both(PromiseKind.WAIT, 0.3))
    assert (outcome.verdict, outcome.reason) == (Verdict.OPTIMAL, Reason.INFEASIBLE)
    assert outcome.plan is not None
    conflict = outcome.plan.conflict
    assert conflict is not None
    assert conflict.promises == ("wait:decode-heavy", "wait:prefill-heavy")
    assert [entry.held for entry in outcome.plan.promises] == [False, True], "what is worth least gives way"
    relaxed = outcome.plan.promises[0].applied_target
    assert solved(paper_instance(), *_relaxed(relaxed * 1.0001)).conflict is None
    assert solved(paper_instance(), *_relaxed(relaxed * 0.9999)).conflict is not None, "the least that would do"


def _relaxed(seconds: float) -> tuple[Promise, ...]:
    first, second = both(PromiseKind.WAIT, 0.3)
    return replace(first, target=seconds), second


def test_the_declared_order_of_sacrifice_decides_who_gives_way(paper_instance: Instance) -> None:
    first, second = both(PromiseKind.WAIT, 0.3)
    kept_first = solved(paper_instance(), replace(first, importance=9), second)
    kept_second = solved(paper_instance(), first, replace(second, importance=9))
    assert [entry.held for entry in kept_first.promises] == [True, False]
    assert [entry.held for entry in kept_second.promises] == [False, True]


def test_clients_that_wait_for_ever_are_promised_their_prefill_time_only(paper_instance: Instance) -> None:
    result = solved(paper_instance(theta=0.0), *both(PromiseKind.TTFT, 0.5))
    assert result.conflict is None
    assert result.value_per_second == pytest.approx(BEST, rel=1e-9)


def test_a_prefill_longer_than_its_promise_is_named(paper_instance: Instance) -> None:
    """3000 prompt tokens take 12 chunks of 33 ms: 0.4 s before anybody waits."""
    outcome = outcome_of(paper_instance(rate=0.1), *both(PromiseKind.TTFT, 0.3))
    assert outcome.plan is not None
    assert outcome.plan.conflict is not None
    assert outcome.plan.conflict.promises == ("ttft:prefill-heavy",)
    assert outcome.plan.promises[1].applied_target == pytest.approx(12 * 0.033272)


def test_conflicts_that_have_nothing_in_common_are_all_told(paper_instance: Instance) -> None:
    """Each class has a pool of its own that cannot serve it: neither conflict has to do with the other."""
    problem = paper_instance(pools=2, rate=5.0)
    modes = problem.pools[0].modes
    pools = tuple(replace(pool, modes=modes, cost_per_hour=float(k)) for k, pool in enumerate(problem.pools))
    classes = tuple(replace(entry, pools=(pool.name,)) for entry, pool in zip(problem.classes, pools, strict=True))
    outcome = outcome_of(replace(problem, pools=pools, classes=classes), *both(PromiseKind.SERVED, 1.0))
    assert outcome.plan is not None
    conflict = outcome.plan.conflict
    assert conflict is not None
    assert {conflict.promises, *((line,) for line in conflict.others)} == {
        ("served:decode-heavy",),
        ("served:prefill-heavy",),
    }
    assert [words.endswith("would do") for words in conflict.remedies] == [True, True]
    assert "no relaxation" not in "".join(conflict.remedies)
    assert all(name in outcome.message for name in ("served:decode-heavy", "served:prefill-heavy"))


def test_a_soft_promise_pays_what_it_misses(paper_instance: Instance) -> None:
    """One more request of the rationed class earns nothing; at 1000 a missing share of 1 % is worth serving it."""
    floor = Promise(kind=PromiseKind.SERVED, class_name="decode-heavy", target=1.0, hard=False, penalty=0.0)
    free, dear = solved(paper_instance(), floor), solved(paper_instance(), replace(floor, penalty=1000.0))
    assert free.value_per_second == pytest.approx(BEST, rel=1e-9)
    assert dear.promises[0].planned == pytest.approx(1.0)
    assert dear.value_per_second < BEST


def test_guaranteed_share_is_a_floor(paper_instance: Instance) -> None:
    floor = Promise(kind=PromiseKind.GUARANTEED, class_name="decode-heavy", target=0.99)
    result = solved(paper_instance(), floor)
    assert result.classes[0].admitted_rate == pytest.approx(0.495)
    assert result.promises[0].price > 0


def test_served_fairness_bounds_the_difference_of_shares(paper_instance: Instance) -> None:
    result = solved(paper_instance(), Promise(kind=PromiseKind.SERVED_FAIRNESS, target=0.01))
    shares = [entry.admitted_rate / entry.arrival_rate for entry in result.classes]
    assert max(shares) - min(shares) == pytest.approx(0.01, abs=1e-9)


def test_kv_memory_binds_before_slots_and_has_a_price(paper_instance: Instance) -> None:
    problem = paper_instance()
    small = replace(problem, pools=(replace(problem.pools[0], kv_token_capacity=12_000.0),))
    result = solved(small)
    assert result.value_per_second < BEST
    assert any(price.constraint.startswith("(7) KV memory") for price in result.shadow_prices)
    resident = sum(
        (entry.decode_mixed + entry.decode_solo) * (prompt + output / 2) + entry.prefill * prompt / 2
        for entry, prompt, output in zip(result.classes, (300, 3000), (1000, 400), strict=True)
    )
    assert resident == pytest.approx(12_000.0, rel=1e-9)


def test_an_api_takes_what_the_fleet_cannot_and_pays(paper_instance: Instance) -> None:
    problem = paper_instance(rate=1.0)
    prices = ExternalPrices(prompt_token_cost=0.05, output_token_cost=0.1)
    api = PoolInput(name="api", ready=0, modes=(), external=prices)
    result = solved(replace(problem, pools=(*problem.pools, api)))
    assert [entry.admitted_rate for entry in result.classes] == pytest.approx([1.0, 1.0])
    assert any(part.pool == "api" and part.weight_permille > 0 for part in result.classes[0].pools)
    dear = replace(api, external=ExternalPrices(prompt_token_cost=0.2, output_token_cost=0.3))
    alone = solved(problem).value_per_second
    assert solved(replace(problem, pools=(*problem.pools, dear))).value_per_second == pytest.approx(alone, rel=1e-9)


def test_replicas_that_cost_more_than_they_earn_stand_idle(paper_instance: Instance) -> None:
    problem = paper_instance(replicas=10, rate=0.1)
    pool = replace(problem.pools[0], cost_per_hour=3600.0)
    result = solved(replace(problem, pools=(pool,), charge_replicas=True))
    in_use = result.pools[0].in_use
    assert in_use is not None
    assert in_use < 5
    assert result.replica_cost_per_second == pytest.approx(in_use)
    dear = solved(replace(problem, pools=(replace(pool, cost_per_hour=1e7),), charge_replicas=True))
    assert dear.value_per_second == pytest.approx(0.0, abs=1e-9)


def test_moving_kv_caches_costs_and_is_avoided_when_dear(paper_instance: Instance) -> None:
    problem = paper_instance()
    cheap, dear = (
        solved(replace(problem, pools=(replace(problem.pools[0], transfer_cost_per_token=cost),)))
        for cost in (1e-4, 10.0)
    )
    assert BEST > cheap.value_per_second > dear.value_per_second
    assert sum(entry.decode_solo for entry in dear.classes) == pytest.approx(0.0, abs=1e-9)


def test_speculative_decoding_takes_fewer_steps(paper_instance: Instance) -> None:
    problem = paper_instance()
    faster = replace(problem, classes=tuple(replace(c, tokens_per_step=2.0) for c in problem.classes))
    assert solved(faster).value_per_second > 1.02 * BEST
    assert solved(faster).classes[0].admitted_rate == pytest.approx(0.5)


def test_cached_prompt_tokens_are_paid_but_not_computed(paper_instance: Instance) -> None:
    problem = paper_instance()
    cached = replace(
        problem, classes=tuple(replace(c, uncached_prompt_tokens=c.prompt_tokens / 10) for c in problem.classes)
    )
    assert solved(cached).value_per_second > BEST


BAD = {
    "a share above 1": Promise(kind=PromiseKind.SERVED, target=1.5),
    "a target that is not a number": Promise(kind=PromiseKind.TPOT, target=float("nan")),
    "a class that is not there": Promise(kind=PromiseKind.WAIT, class_name="nobody", target=1.0),
    "a fleet-wide wait": Promise(kind=PromiseKind.WAIT, target=1.0),
    "fairness of one class": Promise(kind=PromiseKind.SERVED_FAIRNESS, class_name="decode-heavy", target=0.1),
    "a negative penalty": Promise(kind=PromiseKind.SERVED, target=0.5, hard=False, penalty=-1.0),
}


@pytest.mark.parametrize("promise", BAD.values(), ids=list(BAD))
def test_nonsense_promises_are_faults_that_name_them(paper_instance: Instance, promise: Promise) -> None:
    outcome = outcome_of(paper_instance(), promise)
    assert outcome.reason is Reason.INVALID
    assert [fault.field for fault in outcome.faults] == [promise.name]
