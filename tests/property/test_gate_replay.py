"""The gate's machine and the simulator, given the same arrivals and lengths: the same starts, first tokens and ends."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.property.gate_in_virtual_time import VirtualFleet
from tests.unit.gate.worlds import engine, lane, terms

from sluice.demo.engine import EngineSettings
from sluice.gate.terms import GateTerms
from sluice.model.fleet import Pool
from sluice.model.law import IterationLaw
from sluice.model.plan import Band
from sluice.policy.admission import AdmissionPolicy, Budget
from sluice.policy.costs import Costs
from sluice.policy.kernels import Late
from sluice.policy.orders import BANDS, EARLIEST_DEADLINE, FIRST_COME, PRIORITY, keeping_promises, timely
from sluice.simulation.catalogue import gated
from sluice.simulation.regime import Fidelity, Guidance
from sluice.simulation.replay import Passage, compare, passages_of, table, workload_of
from sluice.simulation.run import Replicas, Setup, simulate

SHORT = Costs(busy_seconds=0.02, hold_seconds=0.03)
LONG = Costs(busy_seconds=0.05, hold_seconds=0.02)
CLASSES = ("chat", "code", "batch")
LAW = IterationLaw(solo_seconds=0.03, mixed_base_seconds=0.03, per_token_seconds=4e-5)
ITERATION_TOKENS, SLOTS = 512, 64
TOKENS_PER_SECOND = ITERATION_TOKENS / LAW.mixed(ITERATION_TOKENS, 1)
ROUND_TRIP_SECONDS = 0.004
MOST_WAITING = 25
LENGTHS = {"chat": (200, 40), "code": (500, 20), "batch": (800, 30)}
"""Mean prompt and output tokens."""
SHARES = {"chat": 0.2, "code": 0.35, "batch": 0.45}
"""Of the prompt tokens."""
POLICIES = (
    FIRST_COME,
    PRIORITY,
    BANDS,
    keeping_promises(BANDS, prefill_seconds_per_token=1e-4),
    keeping_promises(EARLIEST_DEADLINE, prefill_seconds_per_token=1e-4, late=Late.LAST),
    timely(1e-4, margin_seconds=0.05),
)
"""Without the order by occupancy: where several prompts end in one iteration, the live gate hears of one after the
other and the simulator of all at once, which only that order can tell."""


def offered(load: float, engines: int, seconds: float, seed: int) -> list[Passage]:
    """Poisson arrivals and exponential lengths; ``load`` is relative to what full iterations prefill."""
    dice = random.Random(seed)
    passages = []
    for name, (prompt, output) in LENGTHS.items():
        rate = load * engines * TOKENS_PER_SECOND * SHARES[name] / prompt
        at = dice.expovariate(rate)
        while at < seconds:
            tokens = [1 + int(dice.expovariate(1 / mean)) for mean in (prompt, output)]
            passages.append(Passage(klass=name, prompt_tokens=tokens[0], output_tokens=tokens[1], arrival=at))
            at += dice.expovariate(rate)
    return sorted(passages, key=lambda passage: passage.arrival)


def gate_terms(policy: AdmissionPolicy, engines: int) -> GateTerms:
    lanes = (
        lane("chat", band=Band.FULL, index=3.0, target=0.5, rate=6.0, promise_seconds=0.3, value=1.0, costs=SHORT),
        lane("code", band=Band.RATIONED, index=2.0, target=0.7, rate=3.0, promise_seconds=1.0, value=2.0, costs=LONG),
        lane("batch", band=Band.IDLE_ONLY, index=0.5, target=0.3, rate=0.0, value=1.0, costs=LONG),
    )
    return terms(
        *lanes,
        engines=tuple(engine(f"e{number}", budget_tokens=2.0 * ITERATION_TOKENS) for number in range(engines)),
        policy=policy,
        classes={name: {"max_waiting": MOST_WAITING} for name in CLASSES},
    )


def in_virtual_time(told: GateTerms, passages: list[Passage]) -> tuple[Passage, ...]:
    engine_settings = EngineSettings(
        law=LAW, slots=SLOTS, batched_token_budget=ITERATION_TOKENS, kv_token_capacity=10**7
    )
    # Nothing here depends on ticks, and the simulator has none: what is late is set apart at events.
    fleet = VirtualFleet(told, engine_settings, round_trip_seconds=ROUND_TRIP_SECONDS, ticks=False)
    return fleet.run(passages)


def simulated(told: GateTerms, passages: list[Passage], *, whole_prompts: bool = True) -> tuple[Passage, ...]:
    pool = Pool(name="pool", law=LAW, slots=SLOTS, chunk_tokens=ITERATION_TOKENS, batched_token_budget=ITERATION_TOKENS)
    setup = Setup(
        workload=workload_of(passages, CLASSES),
        replicas=(Replicas(pool=pool, count=len(told.engines)),),
        fidelity=Fidelity.ITERATION,
        warmup_seconds=0.0,
        round_trip_seconds=ROUND_TRIP_SECONDS,
    )
    budget = Budget(least_requests=2, tokens=2.0 * ITERATION_TOKENS)
    regime = replace(gated(told.policy, budget=budget), whole_prompts=whole_prompts, queue_limit=MOST_WAITING)
    return passages_of(simulate(setup, regime, Guidance(lanes=told.lanes)))


@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # shrinking is slow
@given(
    st.sampled_from(POLICIES),
    st.sampled_from((1, 3)),
    st.sampled_from((0.7, 1.0, 1.3)),
    st.integers(0, 10**6),
)
def test_the_simulator_replays_every_start_and_every_token(
    policy: AdmissionPolicy, engines: int, load: float, seed: int
) -> None:
    passages = offered(load, engines, 12.0, seed)
    told = gate_terms(policy, engines)
    measured, replayed = in_virtual_time(told, passages), simulated(told, passages)
    for mine, theirs in zip(measured, replayed, strict=True):
        for field in ("started", "first", "ended"):
            one, other = getattr(mine, field), getattr(theirs, field)
            assert one == pytest.approx(other, abs=1e-6, nan_ok=True), (mine, theirs)


def test_prices_that_are_watched_decide() -> None:
    """Even prices rank these classes otherwise: what the replay compares does rest on what was watched."""
    passages = offered(1.3, 1, 12.0, 1)
    watched, even = (
        simulated(gate_terms(timely(1e-4, margin_seconds=0.05, price_seconds=seconds), 1), passages)
        for seconds in (5.0, math.inf)
    )
    starts = [(mine.started, theirs.started) for mine, theirs in zip(watched, even, strict=True)]
    assert sum(mine != pytest.approx(theirs, nan_ok=True) for mine, theirs in starts) > len(starts) / 10


def test_a_difference_is_told_from_agreement() -> None:
    """A gate that saw how far prompts are would wait less: the table says so."""
    passages = offered(0.95, 1, 60.0, 3)
    told = gate_terms(BANDS, 1)
    measured = in_virtual_time(told, passages)
    same = compare(measured, simulated(told, passages), CLASSES, start=5.0, end=60.0)
    assert all(row.agrees for row in same), table(same)
    other = compare(measured, simulated(told, passages, whole_prompts=False), CLASSES, start=5.0, end=60.0)
    assert not all(row.agrees for row in other)
    assert "DIFFERS" in table(other)
    assert not any(math.isnan(row.simulated) for row in other)
