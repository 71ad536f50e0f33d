"""The simulated engine, iteration by iteration."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.demo.engine import EngineRequest, EngineSettings, EngineState, Step, cancel, step, submit
from sluice.model.law import IterationLaw

LAW = IterationLaw(solo_seconds=0.010, mixed_base_seconds=0.008, per_token_seconds=0.0001, per_sequence_seconds=0.001)
SMALL = EngineSettings(law=LAW, slots=4, batched_token_budget=100, kv_token_capacity=10_000)


def loaded(requests: list[tuple[int, int]], engine: EngineSettings = SMALL) -> EngineState:
    state = EngineState()
    for key, (prompt_tokens, output_tokens) in enumerate(requests):
        request = EngineRequest(key=key, prompt_tokens=prompt_tokens, output_tokens=output_tokens)
        state = submit(state, engine, request)
    return state


def run(state: EngineState, engine: EngineSettings = SMALL) -> list[Step]:
    steps = []
    while not state.idle:
        state, outcome = step(state, engine)
        steps.append(outcome)
    assert state.kv_tokens == 0, "memory leaked"
    return steps


def test_a_long_prompt_spans_iterations_and_then_decodes_alone() -> None:
    steps = run(loaded([(250, 3)]))
    assert [s.prompt_tokens for s in steps] == [100, 100, 50, 0, 0]
    assert [s.decode_tokens for s in steps] == [0, 0, 0, 1, 1]
    assert [s.first for s in steps] == [(), (), (0,), (), ()]
    assert steps[-1].finished == (0,)
    assert steps[0].seconds == pytest.approx(0.008 + 100 * 0.0001 + 0.001)
    assert steps[-1].seconds == pytest.approx(0.010 + 0.001)


def test_several_prompts_share_one_budget() -> None:
    first = run(loaded([(30, 1), (30, 1), (60, 1)]))[0]
    assert first.prompt_tokens == 100
    assert first.started == (0, 1, 2)
    assert first.first == (0, 1), "the third has 20 tokens left"


def test_decoding_sequences_take_their_token_from_the_budget() -> None:
    state, _ = step(loaded([(10, 50), (10, 50)]), SMALL)
    state = submit(state, SMALL, EngineRequest(key=9, prompt_tokens=500, output_tokens=1))
    _, outcome = step(state, SMALL)
    assert (outcome.prompt_tokens, outcome.decode_tokens) == (98, 2)


def test_requests_wait_for_a_slot_in_order_of_arrival() -> None:
    state, outcome = step(loaded([(5, 2)] * 6), SMALL)
    assert outcome.started == (0, 1, 2, 3)
    assert [entry.request.key for entry in state.waiting] == [4, 5]
    _, outcome = step(state, SMALL)
    assert outcome.started == (), "no slot is free before the first answers end"
    assert outcome.finished == (0, 1, 2, 3)


def test_a_one_token_answer_ends_with_its_prompt() -> None:
    (only,) = run(loaded([(10, 1)]))
    assert only.first == only.finished == (0,)


def test_cancelling_frees_slot_and_memory_wherever_the_request_is() -> None:
    state, _ = step(loaded([(5, 9), (200, 9), (5, 9), (5, 9), (5, 9)]), SMALL)
    assert [len(part) for part in (state.decoding, state.prefilling, state.waiting)] == [1, 1, 3]
    for key in range(5):
        state = cancel(state, key)
    assert state.idle
    assert state.kv_tokens == 0


def test_a_full_cache_sends_the_youngest_back_and_computes_it_again() -> None:
    tight = replace(SMALL, kv_token_capacity=50)
    steps = run(loaded([(20, 20), (20, 20)], tight), tight)
    assert [s.preempted for s in steps if s.preempted] == [(1,)]
    assert [s.resumed for s in steps if s.resumed] == [(1,)]
    assert sorted(key for s in steps for key in s.finished) == [0, 1]
    assert [key for s in steps for key in s.first] == [0, 1], "a first token comes once"


@pytest.mark.parametrize(
    ("prompt_tokens", "output_tokens", "complaint"),
    [(0, 1, "at least one"), (1, 0, "at least one"), (9_000, 2_000, "exceed the KV cache")],
)
def test_what_can_never_run_is_refused(prompt_tokens: int, output_tokens: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        loaded([(prompt_tokens, output_tokens)])


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 40)), min_size=1, max_size=12),
    slots=st.integers(1, 6),
    budget=st.integers(7, 120),
    spare=st.integers(0, 400),
)
def test_every_token_is_computed_once_unless_it_was_preempted(
    requests: list[tuple[int, int]], slots: int, budget: int, spare: int
) -> None:
    largest = max(prompt + output for prompt, output in requests)
    engine = EngineSettings(law=LAW, slots=slots, batched_token_budget=budget, kv_token_capacity=largest + spare)
    state = loaded(requests, engine)
    steps = []
    while not state.idle:
        state, outcome = step(state, engine)
        assert outcome.prompt_tokens + outcome.decode_tokens <= budget
        assert state.running <= slots
        assert 0 <= state.kv_tokens <= engine.kv_token_capacity
        assert outcome.prompt_tokens + outcome.decode_tokens > 0, "every iteration makes progress"
        steps.append(outcome)
    assert state.kv_tokens == 0
    assert sorted(key for s in steps for key in s.finished) == list(range(len(requests)))
    emitted = sum(s.decode_tokens + len(s.first) + len(s.resumed) for s in steps)
    assert emitted == sum(output for _, output in requests)
    if not any(s.preempted for s in steps):
        assert sum(s.prompt_tokens for s in steps) == sum(prompt for prompt, _ in requests)
