"""The planner on the paper's instance and on one solved by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from sluice.model.fleet import Charging
from sluice.model.plan import Band, Plan, Verdict
from sluice.model.reasons import Reason
from sluice.planning import plan
from sluice.planning.modes import Mode
from sluice.planning.problem import ClassInput, PoolInput, Problem

Instance = Callable[..., Problem]
NOW = 1_790_000_000.0


def solved(problem: Problem) -> Plan:
    outcome = plan(problem, now=NOW)
    assert outcome.may_actuate, outcome.message
    assert outcome.plan is not None
    return outcome.plan


def test_bundled_value_and_occupancies_of_the_paper_instance(paper_instance: Instance) -> None:
    result = solved(paper_instance())
    decode_heavy, prefill_heavy = result.classes
    assert result.value_per_second == pytest.approx(297.716190347, rel=1e-9)
    assert result.upper_bound == pytest.approx(297.716190347, rel=1e-9)
    assert (decode_heavy.prefill, prefill_heavy.prefill) == pytest.approx((0.01826053, 0.19495312), abs=1e-8)
    assert (decode_heavy.prefill_queue, prefill_heavy.prefill_queue) == pytest.approx((0.31668738, 0), abs=1e-8)
    assert (decode_heavy.index, prefill_heavy.index) == pytest.approx((0.228, 0.748), abs=5e-4)
    assert (decode_heavy.band, prefill_heavy.band) == (Band.RATIONED, Band.FULL)


def test_separate_value_of_the_paper_instance(paper_instance: Instance) -> None:
    result = solved(paper_instance(Charging.SEPARATE))
    assert result.value_per_second == pytest.approx(298.597982955, rel=1e-9)
    assert [entry.prefill for entry in result.classes] == pytest.approx([0.0195, 0.19495], abs=1e-5)
    queue = sum(entry.decode_queue * tokens for entry, tokens in zip(result.classes, (1000, 400), strict=True))
    assert queue == pytest.approx(400 * 0.80025213, rel=1e-6), "the queue may be of either class, its tokens are fixed"


def test_canonical_split_gives_every_class_the_same_solo_share(paper_instance: Instance) -> None:
    for entry, tokens in zip(solved(paper_instance()).classes, (1000, 400), strict=True):
        solo = entry.decode_solo / 0.022 / tokens
        assert solo / entry.admitted_rate == pytest.approx(0.8562, abs=1e-4)
        assert solo + entry.decode_mixed / 0.033272 / tokens == pytest.approx(entry.admitted_rate, rel=1e-9)


@pytest.mark.parametrize("charging", list(Charging))
def test_two_equal_pools_give_the_plan_of_one(paper_instance: Instance, charging: Charging) -> None:
    one, two = solved(paper_instance(charging, replicas=8)), solved(paper_instance(charging, replicas=4, pools=2))
    assert two.value_per_second == pytest.approx(one.value_per_second, rel=1e-9)
    for whole, halves in zip(one.classes, two.classes, strict=True):
        assert halves.admitted_rate == pytest.approx(whole.admitted_rate, rel=1e-9)
        assert halves.in_flight_limit == whole.in_flight_limit
        assert sum(part.weight_permille for part in halves.pools) == 1000


def test_engines_per_replica_count_as_replicas(paper_instance: Instance) -> None:
    one = paper_instance(replicas=4)
    two = replace(one, pools=tuple(replace(pool, ready=2, engines_per_replica=2) for pool in one.pools))
    assert solved(two).value_per_second == solved(one).value_per_second
    assert solved(two).pools[0].replicas == 2
    assert solved(two).shadow_prices[0].value == pytest.approx(2 * solved(one).shadow_prices[0].value)


def test_clients_that_wait_for_ever_are_refused_and_the_value_stays(paper_instance: Instance) -> None:
    patient, impatient = solved(paper_instance(theta=0.0)), solved(paper_instance())
    assert patient.value_per_second == pytest.approx(impatient.value_per_second, rel=1e-9)
    assert [entry.prefill_queue for entry in patient.classes] == [0, 0]
    assert patient.classes[0].rationed


def test_zero_demand_is_a_plan(paper_instance: Instance) -> None:
    result = solved(paper_instance(rate=0.0))
    assert result.value_per_second == 0
    assert [(entry.band, entry.in_flight_limit) for entry in result.classes] == [(Band.FULL, None)] * 2


def test_limit_counts_prefill_decode_queue_and_decode_but_not_the_prefill_queue(paper_instance: Instance) -> None:
    rationed, full = solved(paper_instance(replicas=100)).classes
    in_flight = rationed.prefill + rationed.decode_queue + rationed.decode_mixed + rationed.decode_solo
    assert rationed.in_flight_limit == int(in_flight) + 1
    assert rationed.prefill_queue > 1
    assert full.in_flight_limit is None


def test_equal_inputs_give_equal_plans_and_the_time_is_not_part_of_the_id(paper_instance: Instance) -> None:
    first, second = plan(paper_instance(), now=NOW).plan, plan(paper_instance(), now=NOW + 60).plan
    assert first is not None
    assert second is not None
    assert first.plan_id == second.plan_id
    assert first != second
    assert first == plan(paper_instance(), now=NOW).plan
    assert first.plan_id != solved(paper_instance(rate=0.6)).plan_id
    assert Plan.model_validate(json.loads(first.model_dump_json(by_alias=True))) == first


def test_hand_solved_instance_and_its_tempting_wrong_answer() -> None:
    """One replica, iterations of 0.1 s either way: 10 prompt chunks of 100 tokens or 20 solo decode steps a second.

    mixed: 100 prompt tokens and 1 decode per iteration; solo: 2 decodes. ``short`` needs 100 prompt
    tokens and 1 step, pays 3; ``long`` needs 100 and 9, pays 9. A second of prefill costs 10 decode
    steps, so a request costs 1 + 1 and 1 + 9 steps of 20: short first (1.5 against 0.9 a step).
    With 5 short and 5 long per second: 5 short take 10 steps, 1 long takes the other 10: 15 + 9 = 24.
    Tempting: serve what pays most per request, 2 long: 18. Or ignore the prefill: 5 + 15/9 long: 30,
    more than the replica can do.
    """
    modes = (Mode(100, 1, 0.1), Mode(0, 2, 0.1))
    classes = tuple(
        ClassInput(
            name=name,
            rate=5.0,
            prompt_tokens=100,
            uncached_prompt_tokens=100,
            output_tokens=steps,
            prompt_token_price=0.0,
            output_token_price=value / steps,
        )
        for name, steps, value in (("short", 1.0, 3.0), ("long", 9.0, 9.0))
    )
    problem = Problem(
        fleet="default/hand",
        charging=Charging.BUNDLED,
        pools=(PoolInput(name="only", ready=1, modes=modes),),
        classes=classes,
    )
    result = solved(problem)
    assert result.value_per_second == pytest.approx(24.0, rel=1e-12)
    assert [entry.admitted_rate for entry in result.classes] == pytest.approx([5.0, 1.0])
    assert [entry.index for entry in result.classes] == pytest.approx([1.5, 0.9])
    assert result.shadow_prices[0].value == pytest.approx(18.0), "20 steps at 0.9: what the next replica would earn"
    assert result.shadow_prices[1].value == pytest.approx(3 - 2 * 0.9), "a short one displaces 2 steps of long"


BAD = {
    "a class list that is empty": (lambda p: replace(p, classes=()), Reason.EMPTY_FLEET, "classes"),
    "no pool": (lambda p: replace(p, pools=()), Reason.INVALID, "spec.pools"),
    "a negative length": (lambda p: _class(p, output_tokens=-1.0), Reason.INVALID, "outputTokens"),
    "a rate that is not a number": (lambda p: _class(p, rate=float("nan")), Reason.INVALID, "rate"),
    "an infinite price": (lambda p: _class(p, output_token_price=float("inf")), Reason.INVALID, "outputTokenPrice"),
    "a pool that is not there": (lambda p: _class(p, pools=("nowhere",)), Reason.INVALID, "spec.pools"),
    "two classes of one name": (
        lambda p: replace(p, classes=(p.classes[0], p.classes[0])),
        Reason.INVALID,
        "name",
    ),
    "a pool that cannot prefill": (lambda p: _pool(p, modes=(Mode(0, 16, 0.02),)), Reason.INVALID, "modes"),
    "an iteration of no time": (
        lambda p: _pool(p, modes=(Mode(256, 15, 0.0), Mode(0, 16, 0.02))),
        Reason.INVALID,
        "modes",
    ),
}


def _class(problem: Problem, **changes: object) -> Problem:
    return replace(problem, classes=(replace(problem.classes[0], **changes), *problem.classes[1:]))  # type: ignore[arg-type]  # one of many fields


def _pool(problem: Problem, **changes: object) -> Problem:
    return replace(problem, pools=(replace(problem.pools[0], **changes), *problem.pools[1:]))  # type: ignore[arg-type]  # one of many fields


@pytest.mark.parametrize("case", BAD.values(), ids=list(BAD))
def test_bad_input_is_an_outcome_that_names_object_and_field(
    paper_instance: Instance, case: tuple[Callable[[Problem], Problem], Reason, str]
) -> None:
    spoil, reason, field = case
    outcome = plan(spoil(paper_instance()), now=NOW)
    assert (outcome.verdict, outcome.reason, outcome.plan) == (Verdict.UNDECIDED, reason, None)
    assert not outcome.may_actuate
    assert field in {fault.field for fault in outcome.faults}
    assert all(fault.subject.partition("/")[2] for fault in outcome.faults)


def test_no_ready_replica_is_said_and_keeps_the_last_plan(paper_instance: Instance) -> None:
    outcome = plan(paper_instance(replicas=0), now=NOW)
    assert (outcome.reason, outcome.plan) == (Reason.NO_REPLICAS, None)


def test_a_pool_without_replicas_does_not_spoil_the_others(paper_instance: Instance) -> None:
    problem = paper_instance(pools=2)
    dead = replace(problem, pools=(problem.pools[0], replace(problem.pools[1], ready=0)))
    result = solved(dead)
    assert result.of("decode-heavy").pools[1].admitted_rate == 0  # type: ignore[union-attr]  # the class is there
    assert result.of("prefill-heavy").pools[1].weight_permille == 0  # type: ignore[union-attr]  # the class is there


def test_a_thousand_million_requests_per_second_are_refused_not_feared(paper_instance: Instance) -> None:
    result = solved(_class(paper_instance(), rate=1e9))
    assert result.classes[0].rationed
    assert result.shadow_prices[0].constraint == "(5) replicas[pool-0]"
