"""The gate under random events: exact budgets, no harm, no leaks, and the policy's own order."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gate.worlds import engine, lane, terms

from sluice.gate.engines import Engine, Reading
from sluice.gate.lanes import NO_ENGINE_SECONDS, RELEASE_TICKS
from sluice.gate.request import Effects, Phase, Refused, Request
from sluice.gate.state import Gate
from sluice.gate.terms import GateTerms
from sluice.model.plan import Band
from sluice.policy.admission import AdmissionPolicy, Budget, GateView, Memory, ReplicaView, Waiting
from sluice.policy.costs import Costs
from sluice.policy.kernels import Late
from sluice.policy.orders import BANDS, EARLIEST_DEADLINE, FIRST_COME, GATE, PRIORITY, keeping_promises, timely
from sluice.policy.timely import watch_prices

POLICIES = (
    FIRST_COME,
    GATE,
    PRIORITY,
    BANDS,
    EARLIEST_DEADLINE,
    keeping_promises(BANDS, prefill_seconds_per_token=1e-4),
    keeping_promises(EARLIEST_DEADLINE, prefill_seconds_per_token=1e-4, late=Late.LAST),
    timely(1e-4),
)
BUDGET_TOKENS = 1500.0


def world(policy: AdmissionPolicy, engines: Iterable[int] = range(3), pools: bool = False) -> GateTerms:
    lanes = (
        lane(
            "chat",
            band=Band.FULL,
            index=3.0,
            target=2.0,
            rate=4.0,
            promise_seconds=1.0,
            mean_prompt_tokens=300.0,
            value=2.0,
            costs=Costs(busy_seconds=0.05, hold_seconds=0.2),
        ),
        lane(
            "code",
            band=Band.RATIONED,
            index=2.0,
            target=1.0,
            rate=2.0,
            promise_seconds=2.0,
            mean_prompt_tokens=900.0,
            value=3.0,
            costs=Costs(busy_seconds=0.1, hold_seconds=0.1),
            floor_rate=0.5,
        ),
        lane("batch", band=Band.IDLE_ONLY, index=0.5, target=0.0, rate=0.0, value=1.0, costs=Costs(busy_seconds=0.2)),
    )
    return terms(
        *lanes,
        engines=tuple(engine(f"e{i}", pool=f"p{i % 2}", budget_tokens=BUDGET_TOKENS) for i in engines),
        policy=policy,
        classes={
            "chat": {"pools": frozenset({"p0"}) if pools else frozenset(), "max_waiting": 30},
            "code": {"max_waiting": 30, "max_wait_seconds": 20.0},
            "batch": {"max_waiting": 30, "refuse_late": True},
        },
    )


class Driver:
    """Random events, and what must hold after each of them."""

    def __init__(self, policy: AdmissionPolicy, seed: int, *, pools: bool = False) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.number = 0
        self.gate = Gate(world(policy, pools=pools))
        self.waiting: dict[str, Request] = {}
        self.prefill: dict[str, Request] = {}
        self.blind_ticks: dict[str, int] = {}
        """Ticks since a class's last replica had been gone for as long as one waits for another."""

    def arrive(self) -> Effects:
        self.number += 1
        tokens = math.exp(self.random.uniform(2.0, 8.5))
        name = self.random.choice(("chat", "chat", "code", "batch"))
        request = Request(f"r{self.number}", name, self.now, tokens, key=self.random.choice(("", "a", "b")))
        effects = self.gate.on_arrival(request, self.now)
        if request.phase is Phase.WAITING:
            self.waiting[request.request_id] = request
        return effects

    def first_chunk(self) -> Effects:
        if not self.prefill:
            return self.tick()
        request = self.prefill.pop(self.random.choice(list(self.prefill)))
        return self.gate.on_first_chunk(request, self.now)

    def end(self) -> Effects:
        every = {**self.waiting, **self.prefill}
        if not every:
            return self.tick()
        request = every[self.random.choice(list(every))]
        self.waiting.pop(request.request_id, None)
        self.prefill.pop(request.request_id, None)
        return self.gate.on_end(request, self.now)

    def read(self) -> Effects:
        if not self.gate.engines:
            return self.tick()
        name = self.random.choice(list(self.gate.engines))
        reading = Reading(
            running=self.random.randint(0, 5),
            waiting=self.random.choice((0, 0, 0, 6)),
            kv_usage=self.random.choice((0.2, 0.95)),
            preemptions=self.random.choice((0, 0, 0, 1)),
            kv_token_capacity=self.random.choice((None, 100_000.0)),
        )
        return self.gate.on_reading(name, reading, self.now)

    def replan(self) -> Effects:
        engines = [number for number in range(4) if self.random.random() < 0.5]
        fresh = replace(world(self.gate.terms.policy, engines), classes=self.gate.terms.classes)
        effects = self.gate.on_terms(fresh, self.now)
        for name, one in self.gate.lanes.items():
            if one.has_engine:
                self.blind_ticks[name] = 0
        return effects

    def pause(self) -> Effects:
        """Nobody comes for a while."""
        self.now += self.random.uniform(0.0, NO_ENGINE_SECONDS)
        return self.tick()

    def step(self, *, signals: bool) -> None:
        self.now += self.random.expovariate(50.0)
        events = [self.arrive, self.arrive, self.first_chunk, self.first_chunk, self.end, self.tick]
        if signals:
            events += [self.read, self.replan, self.pause]
        before = {name: one.unfinished_tokens for name, one in self.gate.engines.items()}
        effects = self.random.choice(events)()
        self.carry_out(effects)
        self.check(before, effects)

    def tick(self) -> Effects:
        for name, one in self.gate.lanes.items():
            self.blind_ticks[name] = self.blind_ticks.get(name, 0) + 1 if one.is_unserved(self.now) else 0
        return self.gate.on_tick(self.now)

    def carry_out(self, effects: Effects) -> None:
        for request in effects.starts:
            assert request.phase is Phase.PREFILL
            self.waiting.pop(request.request_id, None)
            self.prefill[request.request_id] = request
        for refusal in effects.refusals:
            assert refusal.retry_after_seconds >= 1.0
            self.waiting.pop(refusal.request.request_id, None)
        for request in [one for one in self.prefill.values() if one.phase is not Phase.PREFILL]:
            del self.prefill[request.request_id]

    def check(self, before: dict[str, float], effects: Effects) -> None:
        held: dict[str, list[Request]] = {}  # by name: a replica that returns holds what it held
        for request in self.prefill.values():
            if request.engine is not None:
                held.setdefault(request.engine.terms.name, []).append(request)
        for account in self.gate.engines.values():
            mine = held.get(account.terms.name, [])
            assert account.unfinished_requests == len(mine), "no budget leaks"
            tokens = sum(one.prompt_tokens for one in mine)
            assert abs(account.unfinished_tokens - tokens) < 1e-6
            last = max((one.prompt_tokens for one in mine), default=0.0)
            assert len(mine) <= account.terms.least_requests or tokens <= account.terms.budget_tokens + last
        assert self.gate.in_prefill == len(self.prefill)
        assert self.gate.waiting == len(self.waiting)
        assert not self.gate.eligible_engine_idle(self.now), "something waits that an open engine could take"
        for name, one in self.gate.lanes.items():
            assert self.blind_ticks.get(name, 0) < RELEASE_TICKS or not one.waiting, "it waits for nobody"
        for refusal in effects.refusals:
            assert refusal.request.phase is Phase.OVER
            served = self.gate.lanes[refusal.request.lane].has_engine
            assert served or refusal.reason in {Refused.QUEUE_FULL, Refused.KEY_SHARE}

    def drain(self) -> None:
        while self.waiting or self.prefill:
            self.carry_out(self.end())
        for account in self.gate.engines.values():
            assert (account.unfinished_requests, account.unfinished_tokens) == (0, 0.0)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(POLICIES), st.integers(0, 10**6), st.booleans(), st.booleans())
def test_budgets_are_exact_and_nothing_waits_beside_an_idle_engine(
    policy: AdmissionPolicy, seed: int, pools: bool, signals: bool
) -> None:
    driver = Driver(policy, seed, pools=pools)
    for _ in range(200):
        driver.step(signals=signals)
    driver.drain()


def test_nothing_adds_up_over_ten_thousand_events() -> None:
    """One gate for long; ``make bench`` does the same for a million."""
    driver = Driver(timely(1e-4), 6)
    for _ in range(10_000):
        driver.step(signals=True)
    assert driver.number > 2000
    driver.drain()


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(POLICIES), st.integers(0, 10**6))
def test_every_decision_is_the_policys(policy: AdmissionPolicy, seed: int) -> None:
    """One trace of events through the gate and through ``AdmissionPolicy.decide``: the same starts, in order."""
    driver = Driver(policy, seed)
    memory = Memory()
    budget = Budget(least_requests=2, tokens=BUDGET_TOKENS)
    gate = driver.gate
    prices = policy.rule()
    for _ in range(150):
        driver.now += driver.random.expovariate(50.0)
        memory = replace(memory, prices=_watched(prices[0], driver))
        arriving: Request | None = None
        if driver.random.random() < 0.55 or not driver.prefill:
            driver.number += 1
            tokens = math.exp(driver.random.uniform(2.0, 8.5))
            name = driver.random.choice(("chat", "code", "batch"))
            arriving = Request(f"r{driver.number}", name, driver.now, tokens)
        else:
            done = driver.prefill.pop(driver.random.choice(list(driver.prefill)))
        waiting = [*driver.waiting.values(), *([arriving] if arriving else [])]
        finished = None if arriving else done
        names = [one.name for one in gate.terms.lanes]
        in_prefill = [sum(one.lane == name for one in driver.prefill.values()) for name in names]
        view = GateView(
            lanes=gate.terms.lanes,
            waiting=tuple(
                Waiting(request_id=w.request_id, lane=w.lane, arrival=w.arrival, prompt_tokens=w.prompt_tokens)
                for w in waiting
            ),
            in_prefill=tuple(in_prefill),
            replicas=tuple(
                ReplicaView(
                    name=account.terms.name,
                    unfinished_requests=_without(account, finished)[0],
                    unfinished_tokens=_without(account, finished)[1],
                )
                for account in gate.engines.values()
            ),
            memory=memory,
        )
        expected = policy.decide(view, driver.now, budget)
        if waiting:
            memory = policy.after(view, driver.now, budget)
        effects = gate.on_arrival(arriving, driver.now) if arriving else gate.on_first_chunk(done, driver.now)
        assert [(one.request_id, one.engine.terms.name if one.engine else "") for one in effects.starts] == [
            (start.request_id, start.replica) for start in expected
        ]
        if arriving and arriving.phase is Phase.WAITING:
            driver.waiting[arriving.request_id] = arriving
        driver.carry_out(effects)


def _watched(rule: Any, driver: Driver) -> tuple[float, float, float]:
    """Prices by the simulator's kernel: what has kept engines closed since the last event, while something waited."""
    closed = 0
    if not all(request.late for request in driver.waiting.values()):
        closed = sum(not account.has_budget() for account in driver.gate.engines.values())
    watch_prices(rule, float(closed), 0.0, 0.0, driver.now)
    return float(rule.prefill_price), float(rule.slot_price), float(rule.memory_price)


def _without(account: Engine, finished: Request | None) -> tuple[int, float]:
    """An account's requests and tokens once ``finished`` is over."""
    if finished is None or finished.engine is not account:
        return account.unfinished_requests, account.unfinished_tokens
    left = account.unfinished_requests - 1
    return left, account.unfinished_tokens - finished.prompt_tokens if left else 0.0
