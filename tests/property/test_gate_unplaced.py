"""The default: the proxy places among several engines, and the gate bounds what all of them hold together."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.actuate.fleets import fleet, workload

from sluice.gate.assembly import BUDGETS, UNPLACED_BUDGETS, Choices, terms_of
from sluice.gate.request import Effects, Phase, Request
from sluice.gate.state import Gate
from sluice.model.fleet import DataPlaneKind

FLEET = fleet(DataPlaneKind.ENVOY_FILES)
POOL = replace(FLEET.pools[0], endpoints=())
EXACT = BUDGETS * POOL.batched_token_budget
"""Unfinished tokens that an engine may hold where the gate names it."""
CROWD = 400
"""Requests that wait or run at once: more than all engines together may take."""


class Proxy:
    """Sends what the gate lets go to any engine it likes; every engine ends its prompts as it likes."""

    def __init__(self, engines: int, seed: int) -> None:
        self.dice = random.Random(seed)
        self.names = tuple(f"10.0.0.{number}:8000" for number in range(engines))
        one = replace(FLEET, pools=(POOL,))
        classes = (workload("chat"), workload("batch"))
        self.gate = Gate(terms_of(one, classes, None, {POOL.name: self.names}, Choices()))
        self.now, self.number = 0.0, 0
        self.waiting: dict[Request, None] = {}
        self.held: dict[Request, str] = {}
        self.worst = self.worst_engine = 0.0

    def arrive(self) -> Effects:
        self.number += 1
        tokens = self.dice.uniform(1.0, POOL.batched_token_budget)
        request = Request(f"r{self.number}", self.dice.choice(("chat", "batch")), self.now, tokens)
        effects = self.gate.on_arrival(request, self.now)
        if request.phase is Phase.WAITING:
            self.waiting[request] = None
        return effects

    def first_token(self) -> Effects:
        request = self.dice.choice(list(self.held))
        del self.held[request]
        return self.gate.on_first_chunk(request, self.now)

    def leave(self) -> Effects:
        request = self.dice.choice([*self.waiting, *self.held])
        self.waiting.pop(request, None)
        self.held.pop(request, None)
        return self.gate.on_end(request, self.now)

    def step(self) -> None:
        self.now += self.dice.expovariate(2000.0)
        full = len(self.waiting) + len(self.held) >= CROWD
        event = self.dice.choice((self.first_token, self.leave)) if full else self.arrive
        effects = event()
        assert not effects.refusals
        for request in effects.starts:
            assert not request.placed
            self.waiting.pop(request, None)
            self.held[request] = self.dice.choice(self.names[:2])  # as unevenly as can be
        self.check()

    def check(self) -> None:
        tokens = sorted((request.prompt_tokens for request in self.held), reverse=True)
        # One request may pass over the budget of each engine.
        self.worst = max(self.worst, sum(tokens[len(self.names) :]))
        first = sum(request.prompt_tokens for request, name in self.held.items() if name == self.names[0])
        self.worst_engine = max(self.worst_engine, first)
        assert self.gate.in_prefill == len(self.held)
        assert not self.gate.eligible_engine_idle(self.now)


@settings(max_examples=6, deadline=None)
@given(engines=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_all_engines_together_hold_four_times_their_budgets_whatever_the_proxy_does(engines: int, seed: int) -> None:
    proxy = Proxy(engines, seed)
    for _ in range(2 * CROWD):
        proxy.step()
    bound = engines * UNPLACED_BUDGETS * EXACT
    assert engines * EXACT < proxy.worst <= bound, (
        "more than where the gate places, and never more than the README says"
    )
    assert proxy.worst_engine > UNPLACED_BUDGETS * EXACT, (
        "one engine alone may hold more: only placement is exact there"
    )
