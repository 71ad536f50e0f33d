"""The state machine, event by event: what waits, what is refused and why, what frees a budget."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.gate.worlds import engine, lane, request, terms

from sluice.gate.engines import READING_AGE_SECONDS, EngineTerms, Reading
from sluice.gate.harm import PATIENCE_SECONDS, SETTLE_SECONDS
from sluice.gate.lanes import NO_ENGINE_SECONDS
from sluice.gate.request import Freed, Phase, Refused
from sluice.gate.state import Gate
from sluice.gate.terms import GateTerms
from sluice.policy.kernels import Late
from sluice.policy.orders import BANDS, CAPPED_GATE, EARLIEST_DEADLINE, keeping_promises


def busy(**fields: Any) -> Gate:
    """One engine with both of its places taken; ``chat`` queues behind."""
    gate = Gate(terms(lane("chat"), **fields))
    for number in (1, 2):
        gate.on_arrival(request(number, tokens=600.0), 0.0)
    return gate


def reading(**fields: Any) -> Reading:
    return Reading(**{"running": 2.0, "waiting": 0.0, "kv_usage": 0.1, "preemptions": 0.0, **fields})


@pytest.mark.parametrize(
    ("tokens", "started"),
    [
        pytest.param([100.0] * 20, 10, id="small prompts pack until the budget is full"),
        pytest.param([5000.0] * 5, 2, id="of large ones two may always run"),
        pytest.param([400.0, 400.0, 5000.0, 10.0], 3, id="one request may pass over the budget"),
    ],
)
def test_unfinished_tokens_are_the_budget(tokens: list[float], started: int) -> None:
    gate = Gate(terms(lane("chat")))
    seen = [gate.on_arrival(request(number, tokens=size), 0.0).starts for number, size in enumerate(tokens)]
    assert sum(map(len, seen)) == started


@pytest.mark.parametrize(
    ("bounds", "arrivals", "reason"),
    [
        pytest.param({"max_waiting": 2}, 3, Refused.QUEUE_FULL, id="the queue is full"),
        pytest.param({"max_wait_seconds": 5.0}, 7, Refused.WAIT_TOO_LONG, id="the predicted wait is too long"),
    ],
)
def test_refusal_comes_on_arrival(bounds: dict[str, Any], arrivals: int, reason: Refused) -> None:
    slow = engine("one", prefill_tokens_per_second=100.0)
    gate = busy(classes={"chat": bounds}, engines=(slow,))
    effects = [gate.on_arrival(request(10 + number), 0.0) for number in range(arrivals)]
    assert all(not one.refusals for one in effects[: 2 if reason is Refused.QUEUE_FULL else 5])
    assert effects[-1].refusals[0].reason is reason
    assert 1.0 <= effects[-1].refusals[0].retry_after_seconds <= 60.0


def test_two_refused_at_once_are_not_told_the_same_time_to_come_back() -> None:
    gate = busy(classes={"chat": {"max_waiting": 0}})
    times = {gate.on_arrival(request(10 + number), 0.0).refusals[0].retry_after_seconds for number in range(20)}
    assert len(times) == 20


@pytest.mark.parametrize(
    ("reason", "promise", "at", "least"),
    [
        pytest.param(Refused.WAITED_TOO_LONG, math.inf, 5.1, 20.0, id="in vain: the queue's whole wait"),
        pytest.param(Refused.PROMISE_LOST, 3.0, 3.1, 17.0, id="its promise lost: until one could be kept"),
    ],
)
def test_who_waited_for_nothing_comes_back_when_the_queue_has_drained(
    reason: Refused, promise: float, at: float, least: float
) -> None:
    """40 requests of 500 tokens wait at 1,000 tokens a second, and all are refused at once."""
    policy = keeping_promises(BANDS, prefill_seconds_per_token=0.0)
    bounds = {"chat": {"max_wait_seconds": 5.0, "refuse_late": True}}
    slow = (engine("one", prefill_tokens_per_second=1000.0),)
    given = terms(lane("chat", promise_seconds=promise), engines=slow, policy=policy, classes=bounds)
    gate = Gate(replace(given, release_floor_seconds=60.0))
    for number in (1, 2):
        gate.on_arrival(request(number, tokens=600.0), 0.0)
    many = [request(10 + number, tokens=500.0) for number in range(40)]
    patient = replace(given.classes[0], max_wait_seconds=60.0)
    gate.on_terms(replace(gate.terms, classes=(patient,)), 0.0)
    for one in many:
        assert not gate.on_arrival(one, 0.0).refusals
    gate.on_terms(replace(gate.terms, classes=given.classes), 0.0)
    refusals = gate.on_tick(at).refusals
    assert [(one.reason, one.predicted_wait_seconds) for one in refusals] == [(reason, 20.0)] * 40
    assert all(least <= one.retry_after_seconds <= 2.0 * least for one in refusals)


def test_a_declared_length_that_fits_no_engine_keeps_none_closed_for_long() -> None:
    """A client may declare what it likes, and never send it."""
    engines = (engine("one", kv_token_capacity=5e3, prefill_tokens_per_second=1e3),)
    gate = Gate(terms(lane("chat"), engines=engines))
    gate.on_arrival(request(1, tokens=1e12), 0.0)
    assert gate.engines["one"].unfinished_tokens == 5e3
    gate.on_tick(10.1)
    assert gate.accounts.freed[Freed.ESTIMATE] == 1


def test_nothing_is_kept_of_replicas_that_come_and_go() -> None:
    gate = Gate(terms(lane("chat")))
    for number in range(50):
        now, name = 10.0 * number, f"engine-{number}"
        gate.on_terms(terms(lane("chat"), engines=(engine(name),)), now)
        gate.on_arrival(request(number, arrival=now), now)
        gate.on_first_chunk(next(iter(gate.accounts.in_prefill)), now + 0.1)
        for later in (0.2, 1.2):
            gate.on_reading(name, reading(running=0.0), now + later)
            gate.on_tick(now + later)
    accounts, answers = gate.accounts, gate.accounts.answers
    for kept in (accounts._departed, answers.resident, answers._excess, gate.harm._idle_since):
        assert len(kept) <= 2


def test_nothing_is_refused_while_an_engine_is_open() -> None:
    gate = Gate(terms(lane("chat"), classes={"chat": {"max_waiting": 0, "max_wait_seconds": 0.0}}))
    assert gate.on_arrival(request(1), 0.0).starts


def test_a_request_that_waited_as_long_as_it_may_is_refused() -> None:
    gate = busy(classes={"chat": {"max_wait_seconds": 5.0}})
    gate.on_arrival(request(3), 0.0)
    assert gate.on_tick(4.9).refusals == []
    assert gate.on_tick(5.1).refusals[0].reason is Refused.WAITED_TOO_LONG


def test_one_tenant_fills_only_its_share_of_the_queue_and_goes_in_turns() -> None:
    gate = busy(classes={"chat": {"max_waiting": 8, "key_share": 0.5}})
    loud = [gate.on_arrival(request(10 + number, key="loud"), 0.0) for number in range(5)]
    assert [len(one.refusals) for one in loud] == [0, 0, 0, 0, 1]
    assert loud[-1].refusals[0].reason is Refused.KEY_SHARE
    gate.on_arrival(request(20, key="quiet"), 0.0)
    order = []
    for _ in range(3):
        first = next(iter(gate.accounts.in_prefill))
        effects = gate.on_first_chunk(first, 1.0)
        order += [one.key for one in effects.starts]
    assert "quiet" in order[:2], "the quiet tenant does not wait for all of the loud one"


def test_what_lost_its_promise_still_counts_for_its_tenants_share() -> None:
    policy = keeping_promises(BANDS, prefill_seconds_per_token=0.0)
    bounds = {"chat": {"max_waiting": 8, "key_share": 0.5, "max_wait_seconds": 60.0}}
    gate = Gate(terms(lane("chat", promise_seconds=1.0), policy=policy, classes=bounds))
    for number in (1, 2):
        gate.on_arrival(request(number, tokens=600.0), 0.0)
    for number in range(4):
        gate.on_arrival(request(10 + number, key="loud"), 0.0)
    gate.on_tick(2.0)
    assert gate.lanes["chat"].late, "their promise is lost"
    effects = gate.on_arrival(request(20, arrival=2.0, key="loud"), 2.0)
    assert effects.refusals[0].reason is Refused.KEY_SHARE


@pytest.mark.parametrize("phase", ["waits", "prefills"])
def test_a_client_that_leaves_frees_what_it_held(phase: str) -> None:
    gate = busy()
    third, fourth = request(3), request(4)
    gate.on_arrival(third, 0.0)
    gate.on_arrival(fourth, 0.0)
    if phase == "waits":
        gate.on_end(third, 1.0)
        assert gate.waiting == 1
    else:
        first = next(iter(gate.accounts.in_prefill))
        assert gate.on_end(first, 1.0).starts[0] is third
    assert third.phase in (Phase.OVER, Phase.PREFILL)


def test_events_that_come_twice_or_late_free_nothing_twice() -> None:
    gate = Gate(terms(lane("chat")))
    one = request(1)
    gate.on_arrival(one, 0.0)
    for event in (gate.on_first_chunk, gate.on_first_chunk, gate.on_end, gate.on_end):
        event(one, 1.0)
    account = gate.engines["one"]
    assert (account.unfinished_requests, account.unfinished_tokens, gate.in_prefill) == (0, 0.0, 0)


@pytest.mark.parametrize(
    ("rate", "at", "how"),
    [
        pytest.param(1000.0, 2.5, Freed.ESTIMATE, id="by the law's estimate, where the answer does not stream"),
        pytest.param(float("inf"), 301.0, Freed.HARD_DEADLINE, id="at the hard deadline, where no law helps"),
    ],
)
def test_a_first_token_that_does_not_come_frees_its_budget_in_the_end(rate: float, at: float, how: Freed) -> None:
    gate = Gate(terms(lane("chat"), engines=(engine("one", prefill_tokens_per_second=rate),)))
    one = request(1, tokens=1000.0)
    gate.on_arrival(one, 0.0)
    gate.on_tick(1.9)
    assert gate.in_prefill == 1
    gate.on_tick(at)
    assert (gate.in_prefill, gate.accounts.freed[how], one.phase) == (0, 1, Phase.RELEASED)
    gate.on_first_chunk(one, at + 1.0)
    assert gate.accounts.freed[Freed.FIRST_CHUNK] == 0


@pytest.mark.parametrize(
    ("seen", "later", "opens"),
    [
        pytest.param(reading(), {}, True, id="an engine with room"),
        pytest.param(reading(waiting=9.0), {}, False, id="one that queues more than we sent"),
        pytest.param(reading(kv_usage=0.95, kv_token_capacity=1e5), {}, False, id="one without KV memory"),
        pytest.param(reading(kv_usage=0.95), {}, True, id="one whose KV capacity nobody knows"),
        pytest.param(reading(waiting=9.0), {"now": 6.0}, True, id="an old reading says nothing"),
    ],
)
def test_an_engines_own_gauges_hold_back(seen: Reading, later: dict[str, float], opens: bool) -> None:
    gate = Gate(terms(lane("chat")))
    gate.on_reading("one", seen, 0.0)
    effects = gate.on_arrival(request(1), later.get("now", 0.1))
    assert bool(effects.starts) is opens


def test_an_engine_that_preempted_is_left_alone_for_a_second() -> None:
    gate = Gate(terms(lane("chat")))
    gate.on_reading("one", reading(), 0.0)
    gate.on_reading("one", reading(preemptions=1.0), 0.5)
    assert not gate.on_arrival(request(1), 0.6).starts
    assert gate.on_tick(1.6).starts


def test_what_can_keep_its_promise_goes_before_what_cannot() -> None:
    policy = keeping_promises(EARLIEST_DEADLINE, prefill_seconds_per_token=0.0)
    gate = busy(policy=policy)
    gate.on_terms(terms(lane("chat", promise_seconds=1.0), lane("batch"), policy=policy), 0.0)
    late, live = request(3), request(4, "batch")
    gate.on_arrival(late, 0.0)
    gate.on_arrival(live, 0.1)
    first = next(iter(gate.accounts.in_prefill))
    assert gate.on_first_chunk(first, 2.0).starts == [live, late]
    assert late.late


def test_a_class_may_ask_to_be_told_at_once_that_its_promise_is_lost() -> None:
    policy = keeping_promises(BANDS, prefill_seconds_per_token=0.0, late=Late.LAST)
    gate = Gate(terms(lane("chat", promise_seconds=1.0), policy=policy, classes={"chat": {"refuse_late": True}}))
    for number in (1, 2, 3):
        gate.on_arrival(request(number, tokens=600.0), 0.0)
    assert gate.on_tick(1.5).refusals[0].reason is Refused.PROMISE_LOST


def test_a_policy_that_idles_engines_is_not_taken() -> None:
    with pytest.raises(ValueError, match="capped-gate"):
        terms(lane("chat"), policy=CAPPED_GATE)


def test_only_a_class_closed_by_plan_and_owner_is_refused_as_closed() -> None:
    gate = Gate(terms(lane("chat"), closed=frozenset({"chat"})))
    assert gate.on_arrival(request(1), 0.0).refusals[0].reason is Refused.CLASS_CLOSED


@pytest.mark.parametrize("gated", [pytest.param(True, id="in shadow"), pytest.param(False, id="outside the share")])
def test_a_closed_class_passes_where_nothing_is_enforced(gated: bool) -> None:
    gate = Gate(terms(lane("chat"), closed=frozenset({"chat"})), holds=not gated)
    one = request(1, gated=gated)
    assert gate.on_arrival(one, 0.0).starts == [one]
    assert one.would_wait


def test_a_class_that_is_gone_and_an_engine_that_is_gone_lose_nobody() -> None:
    gate = Gate(terms(lane("chat"), lane("code")))
    for number in (1, 2):
        gate.on_arrival(request(number, tokens=600.0), 0.0)
    orphan = request(3)
    gate.on_arrival(orphan, 0.0)
    effects = gate.on_terms(terms(lane("code"), engines=(engine("two"),)), 1.0)
    assert effects.starts == [orphan]
    assert orphan.engine is gate.engines["two"]


def test_an_engine_that_was_gone_for_a_moment_still_holds_what_it_held() -> None:
    def world(*names: str) -> GateTerms:
        return terms(lane("chat"), engines=tuple(engine(name) for name in names))

    gate = busy()
    gate.on_reading("one", reading(), 0.5)
    gate.on_terms(world("two"), 1.0)
    gate.on_tick(1.1)
    gate.on_terms(world("one", "two"), 2.0)
    one = gate.engines["one"]
    assert (one.unfinished_requests, one.unfinished_tokens, one.is_open(2.0)) == (2, 1200.0, False)
    for held in list(gate.accounts.in_prefill):
        gate.on_first_chunk(held, 3.0)
    assert (one.unfinished_requests, one.unfinished_tokens) == (0, 0.0)
    assert gate.engines["two"].unfinished_requests == 0


@pytest.mark.parametrize(
    ("away", "known"),
    [
        pytest.param(READING_AGE_SECONDS - 0.1, True, id="while its last reading counts"),
        pytest.param(READING_AGE_SECONDS + 0.1, False, id="no longer"),
    ],
)
def test_an_engine_that_held_no_prefill_is_remembered_for_a_while(away: float, known: bool) -> None:
    both, other = (engine("one"), engine("two")), (engine("two"),)
    gate = Gate(terms(lane("chat"), engines=both))
    gate.on_reading("one", reading(waiting=9.0), 0.0)
    gate.on_terms(terms(lane("chat"), engines=other), 0.0)
    gate.on_tick(away)
    gate.on_terms(terms(lane("chat"), engines=both), away)
    assert (gate.engines["one"].reading is not None) is known


def test_shadow_holds_nothing_and_counts_what_it_would_have_held() -> None:
    gate = Gate(terms(lane("chat")), holds=False)
    many = [request(number, tokens=600.0) for number in range(5)]
    for one in many:
        assert gate.on_arrival(one, 0.0).starts == [one]
    assert [one.would_wait for one in many] == [False, False, True, True, True]


def test_when_holding_ends_the_queue_goes_within_ten_ticks_but_not_at_once() -> None:
    gate = busy()
    for number in range(100):
        gate.on_arrival(request(10 + number), 0.0)
    gate.set_holding(False)
    started = [len(gate.on_tick(0.05 * tick).starts) for tick in range(1, 11)]
    assert (sum(started), max(started), gate.waiting) == (100, 10, 0)


def test_an_engine_that_idles_while_something_waits_ends_the_holding() -> None:
    """Accounts can be wrong where the engine's own gauges are not."""
    gate = busy()
    gate.on_arrival(request(3), 0.0)
    now, step = 0.0, 0.25
    while now < SETTLE_SECONDS + PATIENCE_SECONDS + 2.0 and gate.holds:
        now += step
        gate.on_reading("one", reading(running=0.0), now)
        gate.on_tick(now)
    assert not gate.holds
    assert gate.harm.seconds == pytest.approx(PATIENCE_SECONDS, abs=2 * step)


def test_a_busy_engine_is_no_harm() -> None:
    gate = busy(classes={"chat": {"max_wait_seconds": 60.0}})
    gate.on_arrival(request(3), 0.0)
    for tick in range(80):
        gate.on_reading("one", reading(), tick * 0.25)
        gate.on_tick(tick * 0.25)
    assert (gate.holds, gate.harm.seconds) == (True, 0.0)


def test_a_lane_goes_only_to_its_pools() -> None:
    engines = (engine("one", pool="fast"), engine("two", pool="slow"))
    gate = Gate(terms(lane("chat"), lane("code"), engines=engines, classes={"chat": {"pools": frozenset({"slow"})}}))
    chat = [request(number, tokens=600.0) for number in range(3)]
    for one in chat:
        gate.on_arrival(one, 0.0)
    assert [one.engine.terms.name if one.engine else None for one in chat] == ["two", "two", None]
    assert gate.on_arrival(request(9, "code"), 0.0).starts, "its neighbour's queue does not hold it"


def test_an_unready_replica_takes_nothing() -> None:
    gate = Gate(terms(lane("chat"), engines=(engine("one"), engine("two", ready=False))))
    many = [request(number, tokens=600.0) for number in range(3)]
    for one in many:
        gate.on_arrival(one, 0.0)
    assert [one.engine.terms.name if one.engine else None for one in many] == ["one", "one", None]
    assert gate.waiting == 1


UNREADY = (engine("one", ready=False),)
SLOW = (engine("one", pool="slow"),)


@pytest.mark.parametrize(
    "engines",
    [
        pytest.param((), id="none at all"),
        pytest.param(UNREADY, id="none that is ready"),
        pytest.param(SLOW, id="none of its pools"),
    ],
)
@pytest.mark.parametrize("holds", [True, False])
def test_a_class_of_which_no_engine_is_known_is_not_held(engines: tuple[EngineTerms, ...], holds: bool) -> None:
    bounds = {"chat": {"pools": frozenset({"fast"}), "max_waiting": 0}}
    gate = Gate(terms(lane("chat"), engines=engines, classes=bounds, places=True), holds=holds)
    one = request(1)
    assert gate.on_arrival(one, 0.0).starts == [one]
    assert (one.engine, one.placed, one.would_wait) == (None, False, False)
    assert gate.unserved == {"chat"}


def test_a_closed_class_is_refused_whether_or_not_an_engine_is_known() -> None:
    gate = Gate(terms(lane("chat"), engines=(), closed=frozenset({"chat"})))
    assert gate.on_arrival(request(1), 0.0).refusals[0].reason is Refused.CLASS_CLOSED


def test_what_waits_when_the_last_engine_goes_waits_a_while_and_then_goes_within_ten_ticks() -> None:
    gate = busy(classes={"chat": {"max_wait_seconds": 2.0}})
    for number in range(100):
        gate.on_arrival(request(10 + number), 0.0)
    gate.on_terms(terms(lane("chat"), engines=()), 1.0)
    meanwhile = gate.on_arrival(request(3, arrival=1.1), 1.1)
    assert (meanwhile.starts, meanwhile.refusals) == ([], []), "it comes while the engine may be back at once"
    ticks = [gate.on_tick(1.0 + NO_ENGINE_SECONDS - 0.01)]
    assert not ticks[0].starts
    ticks += [gate.on_tick(1.0 + NO_ENGINE_SECONDS + 0.05 * number) for number in range(1, 11)]
    counts = [len(one.starts) for one in ticks]
    assert (sum(counts), max(counts), gate.waiting) == (101, 11, 0)
    assert not any(one.refusals for one in ticks), "nobody is refused for want of a word about engines"
    assert gate.on_arrival(request(4, arrival=7.0), 7.0).starts


def test_a_moment_without_engines_lets_nobody_go() -> None:
    gate = busy()
    third = request(3)
    gate.on_arrival(third, 0.0)
    gate.on_terms(terms(lane("chat"), engines=()), 1.0)
    for tick in range(80):
        assert not gate.on_tick(1.0 + 0.05 * tick).starts
    assert gate.on_terms(terms(lane("chat"), engines=(engine("two"),)), 5.0).starts == [third]
    assert third.engine is gate.engines["two"]
    gate.on_terms(terms(lane("chat"), engines=()), 6.0)
    assert not gate.on_tick(6.0 + NO_ENGINE_SECONDS / 2).starts, "each absence counts by itself"


def test_a_class_without_engines_goes_and_its_neighbour_waits_on() -> None:
    slow = {"code": {"pools": frozenset({"slow"})}}
    gate = busy()
    gate.on_terms(terms(lane("chat"), lane("code"), classes=slow), 0.0)
    chat, code = request(3), request(4, "code")
    assert not gate.on_arrival(chat, 0.0).starts
    assert gate.on_arrival(code, 0.0).starts == [code]
    assert chat.phase is Phase.WAITING
    assert gate.unserved == {"code"}
