"""Slots: an engine whose slots are all taken gets no more than what is about to end, and none of them idles."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gate.worlds import engine, lane, terms

from sluice.gate.engines import Reading
from sluice.gate.request import Request
from sluice.gate.residents import POLL_SECONDS, REPORT_LAG_SECONDS
from sluice.gate.state import Gate

SLOTS = 32
PREFILL_SECONDS = 0.01
TICK_SECONDS = 0.05
SECONDS = 40.0

Service = Callable[[random.Random], float]
SERVICES: dict[str, Service] = {
    "every answer as long as the other": lambda _: 2.0,
    "a few much longer than most": lambda draw: draw.choice((0.5, 0.5, 0.5, 8.0)),
    "memoryless": lambda draw: draw.expovariate(0.5),
}


class Slotted:
    """An engine with so many slots and a queue, behind a gate at which more always waits."""

    def __init__(
        self, service: Service, seed: int, *, reported: bool, slots: int = SLOTS, lag: float = REPORT_LAG_SECONDS
    ) -> None:
        self.draw, self.service, self.slots, self.reported = random.Random(seed), service, slots, reported
        self.gate = Gate(terms(lane("chat"), engines=(engine("one", slots=SLOTS, budget_tokens=1e4),)))
        self.lag = lag
        self.account = self.gate.engines["one"]
        self.gate.accounts.hear(reported=reported)
        self.queue: list[Request] = []
        self.running = 0
        self.number = 0
        self.events: list[tuple[float, int, str, Request | None]] = []
        self.idle_seconds = self.longest_queue = 0.0

    def at(self, moment: float, what: str, request: Request | None = None) -> None:
        self.number += 1
        heapq.heappush(self.events, (moment, self.number, what, request))

    def arrive(self, now: float) -> None:
        self.number += 1
        self.take(self.gate.on_arrival(Request(f"r{self.number}", "chat", now, 100.0), now).starts)

    def take(self, starts: list[Request]) -> None:
        self.queue += starts

    def run(self, check: Callable[[float], None] = lambda _: None) -> None:
        for _ in range(200):
            self.arrive(0.0)
        self.at(0.0, "tick")
        self.at(0.2, "poll")
        now = 0.0
        while now < SECONDS:
            moment, _, what, request = heapq.heappop(self.events)
            if self.gate.waiting and now > SECONDS / 4:
                self.idle_seconds += (moment - now) * max(0, self.slots - self.running - len(self.queue))
            now = moment
            self.happen(what, request, now)
            while self.queue and self.running < self.slots:
                self.running += 1
                first = self.queue.pop(0)
                self.at(now + PREFILL_SECONDS, "token", first)
                self.at(now + PREFILL_SECONDS + self.service(self.draw), "end", first)
            self.longest_queue = max(self.longest_queue, len(self.queue) if now > SECONDS / 4 else 0)
            check(now)

    def happen(self, what: str, request: Request | None, now: float) -> None:
        if what == "tick":
            while self.gate.waiting < 100:
                self.arrive(now)
            self.take(self.gate.on_tick(now).starts)
            self.at(now + TICK_SECONDS, "tick")
        elif what == "poll":
            reading = Reading(running=self.running, waiting=len(self.queue), kv_usage=0.1, preemptions=0.0)
            self.take(self.gate.on_reading("one", reading, now).starts)
            self.at(now + POLL_SECONDS, "poll")
        elif what == "token" and request:
            self.take(self.gate.on_first_chunk(request, now).starts)
        elif what == "end" and request:
            self.running -= 1
            if self.reported:
                self.at(now + self.draw.uniform(0.0, self.lag), "report", request)
        elif what == "report" and request:
            self.take(self.gate.on_answers_over([(request.request_id, "")], now).starts)

    @property
    def idle_share(self) -> float:
        return self.idle_seconds / (self.slots * SECONDS * 3 / 4)


@pytest.mark.parametrize("reported", [pytest.param(True, id="ends reported"), pytest.param(False, id="by gauges")])
@pytest.mark.parametrize("service", [pytest.param(one, id=name) for name, one in SERVICES.items()])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_slot_idles_while_something_waits(service: Service, reported: bool, seed: int) -> None:
    one = Slotted(service, seed, reported=reported)
    one.run()
    assert one.idle_share < 0.02
    assert one.longest_queue <= SLOTS


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), lag=st.sampled_from((0.5, 1.0, 2.0)))
def test_reports_that_come_late_idle_no_slot_either(seed: int, lag: float) -> None:
    """Another data plane's access log may be gathered for longer than ours."""
    one = Slotted(SERVICES["memoryless"], seed, reported=True, lag=lag)
    one.run()
    assert one.idle_share < 0.02
    assert one.longest_queue <= SLOTS


def test_an_engine_with_more_slots_than_declared_is_filled() -> None:
    one = Slotted(SERVICES["memoryless"], 1, reported=False, slots=3 * SLOTS)
    one.run()
    assert one.idle_share < 0.05


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), reported=st.booleans())
def test_nothing_waits_beside_an_open_engine_and_none_is_open_with_all_slots_taken(seed: int, reported: bool) -> None:
    one = Slotted(SERVICES["memoryless"], seed, reported=reported)
    closed = 0

    def check(now: float) -> None:
        nonlocal closed
        assert not one.gate.eligible_engine_idle(now) or one.account.seen_at < now
        free = one.account.free_slots()
        if free == 0:
            closed += 1
            assert not one.account.is_open(now)

    one.run(check)
    assert closed, "slots were the bound"
