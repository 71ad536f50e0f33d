"""The law follows the engine within ten periods, and bad samples never move it."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.learning.drifting_replica import DriftingReplica

from sluice.demo.engine import EngineSettings
from sluice.learning.recalibration import (
    Recalibration,
    RecalibrationSettings,
    Refusal,
    WorkingPoint,
    drift,
    law_to_plan_with,
    recalibrate,
)
from sluice.model.engine_sample import EngineSample
from sluice.model.law import IterationLaw

LAW = IterationLaw(solo_seconds=0.0063, mixed_base_seconds=0.0051, per_token_seconds=18e-6, per_sequence_seconds=57e-6)
POINT = WorkingPoint(chunk_tokens=1920, slots=64)
SETTINGS = RecalibrationSettings()
PERIOD = 10.0
GOOD = EngineSample(
    at_seconds=1000.0,
    inter_token_seconds=LAW.solo(20),
    running=20.0,
    generation_rate=19.0 / LAW.solo(20),
    prompt_rate=0.0,
    prompt_tokens=0.0,
)


def scaled(law: IterationLaw, factor: float) -> IterationLaw:
    return IterationLaw(
        solo_seconds=law.solo_seconds * factor,
        mixed_base_seconds=law.mixed_base_seconds * factor,
        per_token_seconds=law.per_token_seconds * factor,
        per_sequence_seconds=law.per_sequence_seconds * factor,
    )


@dataclass(frozen=True)
class Load:
    rate: float
    prompt: int
    output: int


CHANGE, PERIODS = 15, 35


@functools.cache
def followed(load: Load, factor: float, window: float = 60.0) -> tuple[Recalibration, ...]:
    """One state a period; the engine's law changes by ``factor`` after the first fifteen."""
    engine = EngineSettings(law=LAW, slots=128, batched_token_budget=2048, kv_token_capacity=1_000_000)
    replica = DriftingReplica(engine, rate=load.rate, prompt=load.prompt, output=load.output)
    state, states = Recalibration(declared=LAW), []
    for period in range(PERIODS):
        if period == CHANGE:
            replica.change_law(scaled(LAW, factor))
        replica.run(PERIOD)
        state = recalibrate(state, replica.sample(window), POINT, replica.now, SETTINGS)
        states.append(state)
    return tuple(states)


CHAT, LONG, SHORT = Load(8.0, 1000, 200), Load(3.0, 4000, 300), Load(10.0, 200, 300)
LOADS = [
    pytest.param(CHAT, id="chat"),
    pytest.param(LONG, id="long prompts"),
    pytest.param(SHORT, id="short prompts, long answers"),
]
FACTORS = [pytest.param(1.3, id="30 % slower"), pytest.param(1 / 1.3, id="30 % faster")]


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("factor", FACTORS)
def test_a_change_by_thirty_percent_is_followed_within_ten_periods(load: Load, factor: float) -> None:
    states = followed(load, factor)
    seen = [1 + drift(state, POINT) for state in states]
    assert seen[CHANGE + 9] == pytest.approx(factor, rel=0.05)
    assert seen[-1] == pytest.approx(factor, rel=0.05)
    assert {state.refusal for state in states} == {None}


def test_a_shorter_window_is_followed_sooner() -> None:
    short, long = (1 + drift(followed(CHAT, 1.3, window)[CHANGE + 4], POINT) for window in (20.0, 60.0))
    assert short > long


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("factor", FACTORS)
def test_it_neither_overshoots_nor_swings(load: Load, factor: float) -> None:
    seen = [1 + drift(state, POINT) for state in followed(load, factor)]
    progress = [(value - 1) / (factor - 1) for value in seen[CHANGE:]]
    assert max(progress) < 1.2
    settled = progress[10:]
    assert max(settled) - min(settled) < 0.2
    assert max(abs(after - before) for before, after in itertools.pairwise(settled)) < 0.1


@pytest.mark.parametrize("load", LOADS)
def test_a_law_that_holds_stays(load: Load) -> None:
    states = followed(load, 1.0)
    assert abs(drift(states[-1], POINT)) < 0.05
    assert not any(state.drifted for state in states)


@pytest.mark.parametrize(
    ("sample", "refusal"),
    [
        pytest.param(None, Refusal.MISSING, id="no sample"),
        pytest.param(replace(GOOD, inter_token_seconds=math.nan), Refusal.MISSING, id="NaN"),
        pytest.param(replace(GOOD, generation_rate=math.inf), Refusal.MISSING, id="infinity"),
        pytest.param(replace(GOOD, inter_token_seconds=0.0), Refusal.MISSING, id="zero is no sample"),
        pytest.param(replace(GOOD, prefill_seconds=-1.0), Refusal.MISSING, id="a negative time"),
        pytest.param(replace(GOOD, at_seconds=900.0), Refusal.STALE, id="an old sample"),
        pytest.param(replace(GOOD, running=1.5, generation_rate=200.0), Refusal.IDLE, id="an idle engine"),
        pytest.param(
            replace(GOOD, inter_token_seconds=GOOD.inter_token_seconds * 1000),
            Refusal.INCONSISTENT,
            id="milliseconds taken for seconds",
        ),
        pytest.param(replace(GOOD, running=80.0), Refusal.INCONSISTENT, id="the batch of four replicas taken for one"),
        pytest.param(
            replace(GOOD, inter_token_seconds=GOOD.inter_token_seconds * 5, generation_rate=GOOD.generation_rate / 5),
            Refusal.IMPLAUSIBLE,
            id="the metrics of another model",
        ),
    ],
)
def test_bad_samples_never_move_the_law(sample: EngineSample | None, refusal: Refusal) -> None:
    before = Recalibration(declared=LAW, decode_factor=1.1, updates=7, drifted=True)
    after = recalibrate(before, sample, POINT, 1000.0, SETTINGS)
    assert after.refusal is refusal
    assert replace(after, refusal=None, refusals=0) == before


def test_the_same_sample_counts_once() -> None:
    once = recalibrate(Recalibration(declared=LAW), GOOD, POINT, 1000.0, SETTINGS)
    twice = recalibrate(once, GOOD, POINT, 1010.0, SETTINGS)
    assert once.refusal is None
    assert twice.refusal is Refusal.REPEATED
    assert (twice.law, twice.updates) == (once.law, 1)


numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)
samples = st.builds(
    EngineSample,
    at_seconds=st.floats(min_value=900, max_value=1100),
    inter_token_seconds=numbers | st.floats(min_value=0.001, max_value=0.1),
    running=numbers | st.floats(min_value=1, max_value=128),
    generation_rate=numbers | st.floats(min_value=1, max_value=20000),
    prompt_rate=numbers | st.floats(min_value=0, max_value=100000),
    prompt_tokens=numbers | st.floats(min_value=0, max_value=100000),
    iteration_rate=st.none() | numbers | st.floats(min_value=1, max_value=500),
    prefill_seconds=st.none() | numbers | st.floats(min_value=0.001, max_value=10),
)


@given(st.lists(samples | st.none(), max_size=20))
@settings(max_examples=150, deadline=None)
def test_whatever_comes_each_step_and_the_whole_are_bounded(arrivals: list[EngineSample | None]) -> None:
    state = Recalibration(declared=LAW)
    for sample in arrivals:
        after = recalibrate(state, sample, POINT, 1000.0, SETTINGS)
        for old, new in (
            (state.decode_factor, after.decode_factor),
            (state.prefill_factor, after.prefill_factor),
        ):
            assert abs(new / old - 1) <= SETTINGS.largest_step + 1e-9
            assert 1 / SETTINGS.largest_factor <= new <= SETTINGS.largest_factor
        assert after.law.solo(1) > 0
        state = after


def test_drift_is_reported_once_it_is_sure_and_withdrawn_well_below() -> None:
    reported = [state.drifted for state in followed(CHAT, 1.3)]
    assert reported.index(True) in range(CHANGE + 3, CHANGE + 10)
    assert all(reported[reported.index(True) :])
    barely = Recalibration(declared=LAW, decode_factor=1.12, prefill_factor=1.12, updates=9)
    same = recalibrate(barely, None, POINT, 0.0, SETTINGS)
    assert same.drifted is False
    for was in (True, False):  # between the thresholds nothing changes
        state = replace(barely, drifted=was, variances=(0.0, 0.0, 0.0))
        sample = replace(GOOD, inter_token_seconds=LAW.solo(20) * 1.12, generation_rate=19 / LAW.solo(20) / 1.12)
        frozen = replace(SETTINGS, walk=0.0)
        assert recalibrate(state, sample, POINT, 1000.0, frozen).drifted is was, (
            "between the thresholds nothing changes"
        )


@pytest.mark.parametrize(
    ("allowed", "updates", "observed"),
    [
        pytest.param(True, 5, True, id="allowed and sure"),
        pytest.param(True, 4, False, id="allowed, too few samples"),
        pytest.param(False, 50, False, id="not allowed"),
    ],
)
def test_the_observed_law_is_used_when_allowed_and_sure(allowed: bool, updates: int, observed: bool) -> None:
    state = Recalibration(declared=LAW, decode_factor=1.2, updates=updates)
    law = law_to_plan_with(state, allowed=allowed, settings=SETTINGS)
    assert law == (state.law if observed else LAW)
    assert state.law.knee_tokens == pytest.approx(LAW.knee_tokens)
