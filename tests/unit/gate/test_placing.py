"""Where requests go when the gate names the replica."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gate.worlds import engine, lane, request, terms

from sluice.gate.affinity import AffinityCounts, Served
from sluice.gate.engines import Reading
from sluice.gate.placing import order_of
from sluice.gate.request import Request
from sluice.gate.state import Gate

FIVE = tuple(f"e{number}" for number in range(5))


def gate(*engines: Any, **chat: Any) -> Gate:
    return Gate(terms(lane("chat"), engines=engines, classes={"chat": chat}, places=True))


def started(one: Gate, number: int, *, done: bool = True, now: float = 0.0, **fields: Any) -> str:
    """Name of the engine that takes a request; with ``done`` its prefill is over at once."""
    asked = request(number, arrival=now, **fields)
    assert one.on_arrival(asked, now).starts
    assert asked.placed
    assert asked.engine
    if done:
        one.on_first_chunk(asked, now)
    return asked.engine.terms.name


def test_requests_of_one_key_go_to_one_engine_and_keys_spread() -> None:
    one = gate(*(engine(name) for name in FIVE))
    places = {key: {started(one, 10 * key + turn, affinity=f"session-{key}") for turn in range(5)} for key in range(50)}
    assert all(len(where) == 1 for where in places.values())
    assert len(set.union(*places.values())) == 5


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=100), st.sampled_from(FIVE))
def test_an_engine_that_goes_moves_only_its_own_keys(key: str, gone: str) -> None:
    before = order_of(key, FIVE, (1.0,) * 5)
    left = tuple(name for name in FIVE if name != gone)
    assert order_of(key, left, (1.0,) * 4) == tuple(name for name in before if name != gone)


def test_keys_follow_the_plans_split_of_pools() -> None:
    engines = (engine("a", pool="fast"), engine("b", pool="slow"), engine("c", pool="slow"))
    one = gate(*engines, split={"fast": 0.8, "slow": 0.2})
    seen = Counter(started(one, number, affinity=f"k{number}") for number in range(1000))
    assert seen["a"] == pytest.approx(800, abs=60)
    assert seen["b"] == pytest.approx(100, abs=40)


def test_a_popular_key_does_not_overload_its_engine() -> None:
    """Bounded load: beyond one iteration's prompts and 1.25 times the mean the key overflows to its next engine."""
    one = gate(*(engine(name, budget_tokens=4000.0) for name in FIVE))
    seen = Counter(started(one, number, done=False, affinity="popular", tokens=400.0) for number in range(25))
    assert max(seen.values()) <= 7
    assert len(seen) >= 4


def test_a_key_whose_engine_is_full_waits_for_no_engine() -> None:
    one = gate(engine("a"), engine("b"))
    taken = Counter(started(one, number, done=False, affinity="same", tokens=600.0) for number in range(4))
    assert taken == {"a": 2, "b": 2}
    assert not one.on_arrival(request(9, affinity="same"), 0.0).starts, "only when all are full"


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10), st.integers(1, 300))
def test_pools_take_turns_by_the_plans_split(tenths: int, count: int) -> None:
    share = tenths / 10
    one = gate(engine("a", pool="fast"), engine("b", pool="slow"), split={"fast": share, "slow": 1.0 - share})
    fast = sum(started(one, number) == "a" for number in range(count))
    assert abs(fast - share * count) <= 1.0


def test_without_a_plan_the_least_loaded_engine_takes_it() -> None:
    one = gate(engine("a"), engine("b"))
    assert [started(one, number, done=False, tokens=300.0) for number in range(4)] == ["a", "b", "a", "b"]


def test_a_new_replica_is_given_little_at_first() -> None:
    old = engine("old", ramp_seconds=10.0, budget_tokens=1e6)
    one = gate(old)
    fresh = replace(one.terms, engines=(old, engine("new", ramp_seconds=10.0, budget_tokens=1e6)))
    one.on_terms(fresh, 100.0)
    at_first = Counter(started(one, number, done=False, now=100.0) for number in range(110))
    assert at_first["new"] == pytest.approx(10, abs=2)
    later = Counter(started(one, 1000 + number, done=False, now=120.0) for number in range(90))
    assert later["new"] == 90, "it catches up"


@pytest.mark.parametrize("fields", [{"gated": False}, {}])
def test_what_is_not_held_is_not_placed(fields: dict[str, Any]) -> None:
    one = gate(engine("a"), engine("b"))
    if not fields:
        one.set_holding(False)
    asked = request(1, **fields)
    one.on_arrival(asked, 0.0)
    assert not asked.placed


def test_an_unready_replica_is_named_for_nothing() -> None:
    one = gate(engine("a", ready=False), engine("b"))
    assert {started(one, number, affinity=f"k{number}") for number in range(20)} == {"b"}


def test_hits_are_counted_apart_with_and_without_placement() -> None:
    counts = AffinityCounts()
    for key, at, placed in (("x", "a", False), ("x", "b", False), ("x", "b", True), ("y", "b", True)):
        counts.served("chat", key, at, placed=placed)
    assert counts.requests == {
        ("chat", Served.FIRST, False): 1,
        ("chat", Served.OTHER, False): 1,
        ("chat", Served.SAME, True): 1,
        ("chat", Served.FIRST, True): 1,
    }


def test_where_the_proxy_chooses_its_report_tells_the_replica() -> None:
    one = Gate(terms(lane("chat"), engines=(engine("a"), engine("b"))))
    one.accounts.hear(reported=True)
    for number, at in enumerate(("a:1", "b:1", "b:1")):
        asked: Request = request(number, affinity="x")
        one.on_arrival(asked, 0.0)
        one.on_first_chunk(asked, 0.0)
        one.on_answers_over([(asked.request_id, at)], 0.1)
    assert [one.accounts.affinity.requests["chat", served, False] for served in Served] == [1, 1, 1]


def test_the_engines_own_counts_of_cache_hits_are_taken_over() -> None:
    one = gate(engine("a"))
    for queried, hit in ((1000.0, 100.0), (3000.0, 1600.0), (10.0, 0.0), (110.0, 50.0)):
        counts = {"prefix_queried_tokens": queried, "prefix_hit_tokens": hit}
        one.on_reading("a", Reading(running=0, waiting=0, kv_usage=0.0, preemptions=0, **counts), 0.0)
    affinity = one.accounts.affinity
    assert (affinity.queried_tokens[True], affinity.hit_tokens[True]) == (2100, 1550), "a restart counts from zero"
