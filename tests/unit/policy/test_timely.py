"""The timely order: worth by what is scarce, promises as far as value allows, floors first."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sluice.model.fleet import Pool
from sluice.model.law import IterationLaw
from sluice.policy.admission import Budget, GateView, LaneTerms, Memory, ReplicaView, Waiting
from sluice.policy.costs import Costs, costs_of
from sluice.policy.orders import timely
from sluice.policy.timely import BESIDE_PREFILL, LEAST_PRICE, watch_prices

PREFILL, SLOTS, MEMORY = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
CHAT = LaneTerms(
    name="chat",
    rate=1.0,
    promise_seconds=2.0,
    value=4.0,
    costs=Costs(busy_seconds=0.1, hold_seconds=0.2, memory_seconds=0.1),
)
LONG = LaneTerms(
    name="long",
    rate=1.0,
    promise_seconds=2.0,
    value=4.0,
    costs=Costs(busy_seconds=0.2, hold_seconds=0.1, memory_seconds=0.2),
)
POLICY = timely(1e-4, margin_seconds=0.0)
ONE = Budget(least_requests=1)


def view(
    *waiting: tuple[str, float],
    lanes: tuple[LaneTerms, ...] = (CHAT, LONG),
    prices: tuple[float, float, float] = PREFILL,
    credit: tuple[float, ...] = (),
    tokens: float = 100.0,
    free_slots: int | None = None,
) -> GateView:
    """One idle replica of sixteen slots; (lane, arrival) of each waiting request."""
    return GateView(
        lanes=lanes,
        waiting=tuple(
            Waiting(request_id=f"{lane}@{arrival:g}", lane=lane, arrival=arrival, prompt_tokens=tokens)
            for lane, arrival in waiting
        ),
        in_prefill=(0,) * len(lanes),
        replicas=(ReplicaView(name="r0", free_slots=free_slots, slots=16),),
        memory=Memory(prices=prices, credit=credit, accrued=10.0),
    )


FRESH = (("chat", 9.9), ("long", 9.8))
ENDANGERED = (("chat", 9.9), ("long", 8.1))
BOTH_SCARCE = (0.45, 0.55, 0.0)
CASES = {
    "where prefill is scarce, value per prefill time": (view(*FRESH), "chat@9.9"),
    "where slots are scarce, value per slot time": (view(*FRESH, prices=SLOTS), "long@9.8"),
    "where memory is scarce, value per memory time": (view(*FRESH, prices=MEMORY), "chat@9.9"),
    "where both are, on an engine with its last slot free the short answer": (
        view(*FRESH, prices=BOTH_SCARCE, free_slots=1),
        "long@9.8",
    ),
    "and on one with room the short prompt": (view(*FRESH, prices=BOTH_SCARCE, free_slots=3), "chat@9.9"),
    "room that nobody knows changes nothing": (view(*FRESH, prices=BOTH_SCARCE), "long@9.8"),
    "a promise in danger goes first while all can be kept": (view(*ENDANGERED), "long@8.1"),
    "but not where the worthier could then not be kept": (
        view(*[("chat", 9.0 + k / 20) for k in range(19)], ENDANGERED[1]),
        "chat@9",
    ),
    "nor where more comes to the endangered class than the plan admits": (
        view(*ENDANGERED, lanes=(replace(CHAT, promise_seconds=6.0), replace(LONG, arrival_rate=20.0))),
        "chat@9.9",
    ),
    "nor where a worthier class of which nobody waits will need the time": (
        view(*ENDANGERED, lanes=(CHAT, LONG, replace(CHAT, name="best", value=9.0, promise_seconds=0.4, rate=9.0))),
        "chat@9.9",
    ),
    "nor where its class is rationed whatever luck brings": (
        view(*ENDANGERED, lanes=(CHAT, replace(LONG, arrival_rate=20.0))),
        "chat@9.9",
    ),
    "but where its class may do by luck": (
        view(*ENDANGERED, lanes=(CHAT, replace(LONG, arrival_rate=9.0))),
        "long@8.1",
    ),
    "a lane without a promise is never in danger": (
        view(*ENDANGERED, lanes=(CHAT, replace(LONG, promise_seconds=math.inf))),
        "chat@9.9",
    ),
    "a guarantee whose credit is nearly full goes before worth": (
        view(*FRESH, lanes=(CHAT, replace(LONG, floor_rate=1.0)), credit=(0.0, 4.0)),
        "long@9.8",
    ),
    "and with less it may still come to its turn": (
        view(*FRESH, lanes=(CHAT, replace(LONG, floor_rate=1.0)), credit=(0.0, 3.9)),
        "chat@9.9",
    ),
    "a guarantee of less than one request in the credit's depth goes first with one": (
        view(*FRESH, lanes=(CHAT, replace(LONG, floor_rate=0.1)), credit=(0.0, 1.0)),
        "long@9.8",
    ),
    "a lower tier goes first whatever it is worth": (view(*FRESH, lanes=(replace(CHAT, tier=1), LONG)), "long@9.8"),
    "what can keep its promise goes before what cannot": (view(("chat", 1.0), ("long", 9.8)), "long@9.8"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_idle_replica_takes(case: str) -> None:
    held, expected = CASES[case]
    assert [start.request_id for start in POLICY.decide(held, 10.0, ONE)] == [expected]


LATE = (("chat", 1.0), ("long", 2.0))
TALKATIVE = replace(LONG, name="long", costs=Costs(busy_seconds=0.1, hold_seconds=9.0))


@pytest.mark.parametrize(
    ("lanes", "prices", "long_prompt", "own_prompt", "expected"),
    [
        pytest.param((CHAT, TALKATIVE), PREFILL, 10.0, True, "long@2", id="by prefill the shorter prompt"),
        pytest.param((CHAT, TALKATIVE), PREFILL, 900.0, True, "chat@1", id="whichever class it is of"),
        pytest.param((CHAT, TALKATIVE), SLOTS, 10.0, True, "chat@1", id="by slots the shorter answer"),
        pytest.param((CHAT, LONG), PREFILL, 10.0, False, "chat@1", id="by class where no prompt's length is known"),
    ],
)
def test_among_the_late_the_one_least_in_the_way_goes_first(
    lanes: tuple[LaneTerms, ...],
    prices: tuple[float, float, float],
    long_prompt: float,
    own_prompt: bool,
    expected: str,
) -> None:
    held = view(*LATE, lanes=lanes, prices=prices)
    given = replace(held, waiting=(held.waiting[0], replace(held.waiting[1], prompt_tokens=long_prompt)))
    starts = replace(POLICY, own_prompt=own_prompt).decide(given, 10.0, ONE)
    assert [(start.request_id, start.late) for start in starts] == [(expected, True)]


def watched(shares: tuple[float, float, float], seconds: float, pace: float = 5.0) -> tuple[float, float, float]:
    rule = timely(1e-4, price_seconds=pace).rule()
    for step in range(int(seconds * 10) + 1):
        watch_prices(rule[0], *shares, step / 10)
    return float(rule["prefill_price"][0]), float(rule["slot_price"][0]), float(rule["memory_price"][0])


def test_prices_go_to_what_keeps_engines_closed() -> None:
    assert watched((4.0, 0.0, 0.0), 60.0) == pytest.approx((1.0, LEAST_PRICE, LEAST_PRICE), abs=0.05)
    assert watched((0.0, 3.0, 0.0), 60.0) == pytest.approx((LEAST_PRICE, 1.0, LEAST_PRICE), abs=0.05)


@pytest.mark.parametrize(
    ("idle_slots", "idle_prefill"),
    [pytest.param(4.0, 1.0, id="evenly"), pytest.param(4.0, 0.1, id="prefill the dearer")],
)
def test_prices_settle_where_both_rows_lose_as_much_value(idle_slots: float, idle_prefill: float) -> None:
    prefill, slots, _ = watched((idle_slots, idle_prefill, 0.0), 120.0)
    assert (1.0 - prefill) * idle_slots * BESIDE_PREFILL == pytest.approx((1.0 - slots) * idle_prefill, rel=0.15)


@pytest.mark.parametrize(
    ("shares", "pace"),
    [pytest.param((0.0, 0.0, 0.0), 5.0, id="nobody"), pytest.param((1.0, 0.0, 0.0), math.inf, id="no")],
)
def test_prices_stay_where_nothing_is_learnt(shares: tuple[float, float, float], pace: float) -> None:
    assert watched(shares, 10.0, pace) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_a_clock_that_starts_late_moves_prices_by_one_step_at_most() -> None:
    rule = timely(1e-4).rule()
    watch_prices(rule[0], 1.0, 0.0, 0.0, 1e6)
    assert rule["prefill_price"][0] < 0.6


LAW = IterationLaw(solo_seconds=0.01, mixed_base_seconds=0.008, per_token_seconds=5e-5, per_sequence_seconds=1e-4)
POOL = Pool(name="p", law=LAW, slots=10, chunk_tokens=100, batched_token_budget=110, kv_token_capacity=10_000)


def test_costs_are_the_rows_of_the_model() -> None:
    """1000 prompt and 200 output tokens: 10 chunks of 13 ms and 200 places of 0.1 ms; a tenth of 200 steps."""
    found = costs_of(POOL, 1000.0, 200.0)
    assert found.busy_seconds == pytest.approx(10 * 0.013 + 200 * 1e-4)
    # KV memory lets 9000/1100 = 8.18 sequences run: steps of 10.82 ms, mixed ones of 13.82 ms.
    solo, mixed = 0.01 + 1e-4 * 9000 / 1100, 0.013 + 1e-4 * 9000 / 1100
    assert found.hold_seconds == pytest.approx(200 * solo / 10 + 10 * (mixed - solo * 0.9))
    assert found.memory_seconds == pytest.approx(200 * solo * 1100 / 9000 + 10 * (mixed - solo * (1 - 1100 / 9000)))
    assert costs_of(replace(POOL, kv_token_capacity=None), 1000.0, 200.0).memory_seconds == 0.0
