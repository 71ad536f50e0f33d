"""Where requests stay on the engine that prefilled them, its classes share one time per token."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.contract.planning_instances import problem, staying

from sluice.model.fleet import Charging
from sluice.model.plan import Plan
from sluice.planning import plan
from sluice.planning.answer import answer
from sluice.planning.decode import mean_step_seconds, split
from sluice.planning.formulate import formulate
from sluice.planning.modes import Mode
from sluice.planning.pace import excesses, stays
from sluice.planning.paced import Paced
from sluice.planning.problem import ClassInput, PoolInput, Problem
from sluice.planning.promises import Promise, PromiseKind
from sluice.planning.solver import solve

EXAMPLES = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 10**6)


def moving(entry: Problem, *, moves: bool) -> Problem:
    """The problem with decodes that move at no cost, or stay."""
    pools = tuple(
        replace(pool, decodes_move=moves, transfer_seconds_per_token=0.0, transfer_cost_per_token=0.0)
        for pool in entry.pools
    )
    return replace(entry, pools=pools)


def memory_bound(seed: int) -> Problem:
    """An instance whose memory is small enough to bind."""
    entry = problem(seed)
    pools = tuple(
        pool if pool.external is not None else replace(pool, kv_token_capacity=pool.kv_token_capacity or 2e4)
        for pool in entry.pools
    )
    return replace(entry, pools=pools)


@EXAMPLES
@given(seeds)
def test_staying_never_earns_more_than_moving(seed: int) -> None:
    staying, free = (answer(moving(memory_bound(seed), moves=moves), ties=False) for moves in (False, True))
    assume(free.is_optimal)
    assert staying.is_optimal
    room = 1e-7 * max(1.0, abs(free.value))
    assert staying.value <= free.value + room
    assert staying.certificate is not None
    assert staying.certificate.upper_bound >= free.value - room


@EXAMPLES
@given(seeds)
def test_a_plan_that_says_nothing_else_holds_with_shared_iterations(seed: int) -> None:
    """Memory and token times from the plan alone: every class at its pool's mean time per step."""
    entry = moving(memory_bound(seed), moves=False)
    found = answer(entry)
    assume(found.is_optimal and not any("as if decodes could move" in note for note in found.notes))
    assume(all(promise.kind is not PromiseKind.DECODE_FAIRNESS for promise in entry.promises))
    data, parts = found.formulation.data, split(found.formulation, found.solution.primal)
    for pool, part in zip(entry.pools, parts, strict=True):
        if pool.external is not None or pool.kv_token_capacity is None:
            continue
        finished = part.served - part.leaving
        work, slots = float(data.steps @ finished), float((part.decode_mixed + part.decode_solo).sum())
        own = slots / work if work > 0 else 0.0
        rate = max(mode.prefill_rate for mode in pool.modes)
        held = (
            part.served * data.uncached / rate * (data.prompt - data.uncached / 2)
            + own * data.steps * finished * (data.prompt + data.output / 2)
            + part.decode_queue * data.prompt
        )
        assert float(np.sum(held)) <= pool.replicas * pool.kv_token_capacity * (1 + 1e-5) + 1e-6


def scarce(seed: int) -> Problem:
    """An instance with requests that stay where memory or token times make it matter."""
    entry = staying(problem(seed), random.Random(seed))
    assume(any(stays(entry)))
    return entry


@EXAMPLES
@given(seeds, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_the_program_moved_to_other_paces_is_the_program_stated_at_them(seed: int, shares: list[float]) -> None:
    paced = Paced.of(scarce(seed))
    paces = paced.lowest + np.array(shares)[: len(paced.lowest)] * paced.width
    moved = paced.at(paces)
    stated = formulate(moved.problem, paces=moved.paces)
    point = np.random.default_rng(seed).random(stated.program.columns) * stated.program.scale
    sizes = stated.program.row_scale
    assert moved.program.times(point) / sizes == pytest.approx(stated.program.times(point) / sizes, rel=1e-8, abs=1e-8)
    assert moved.program.row_names() == stated.program.row_names()
    assert [columns.pace for columns in moved.pools] == [columns.pace for columns in stated.pools]


@EXAMPLES
@given(seeds, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_no_paces_earn_more_than_the_upper_bound(seed: int, shares: list[float]) -> None:
    entry = scarce(seed)
    assume(all(p.kind is not PromiseKind.SLOT_TPOT or p.hard for p in entry.promises))
    found = answer(entry, ties=False)
    assume(found.is_optimal and not any("as if decodes could move" in note for note in found.notes))
    assert found.certificate is not None
    paced = Paced.of(entry)
    other = paced.at(paced.lowest + np.array(shares)[: len(paced.lowest)] * paced.width)
    tried = solve(other.program)
    assume(tried.verdict.may_actuate)
    bound = found.certificate.upper_bound
    assert float(other.program.objective @ tried.primal) <= bound + 1e-6 * max(1.0, abs(bound))


@EXAMPLES
@given(seeds)
def test_the_pace_of_a_plan_is_that_of_its_split(seed: int) -> None:
    paced = Paced.of(scarce(seed))
    made = solve(paced.relaxed().program)
    assume(made.verdict.may_actuate)
    parts, steps = split(paced.formulation, made.primal), paced.formulation.data.steps
    for columns in paced.tied:
        own = [parts[place] for place in columns.group.places]
        work = sum(float(steps @ (part.served - part.leaving)) for part in own)
        slots = sum(float((part.decode_mixed + part.decode_solo).sum()) for part in own)
        seconds = mean_step_seconds(paced.formulation, columns, made.primal)
        assert seconds * max(work, 0.0) == pytest.approx(slots, rel=1e-6, abs=1e-6)


@EXAMPLES
@given(seeds)
def test_where_memory_is_ample_staying_costs_nothing(seed: int) -> None:
    entry = memory_bound(seed)
    entry = replace(
        entry,
        pools=tuple(replace(pool, kv_token_capacity=1e12) for pool in entry.pools),
        promises=tuple(p for p in entry.promises if p.kind is not PromiseKind.TPOT or p.class_name is None),
    )
    staying_put, free = (answer(moving(entry, moves=moves), ties=False) for moves in (False, True))
    assume(free.is_optimal)
    assert staying_put.notes == ()
    assert staying_put.value == pytest.approx(free.value, rel=1e-7, abs=1e-7)


@EXAMPLES
@given(seeds)
def test_the_same_problem_gives_the_same_plan(seed: int) -> None:
    entry = scarce(seed)
    assert planned(entry) == planned(entry)


def test_a_soft_slot_weighted_time_keeps_to_a_shared_pace_too() -> None:
    """Planned by cuts: each of them with one iteration time for all classes of the pool."""
    modes = (Mode(256, 15, 0.063), Mode(0, 16, 0.026))
    classes = tuple(
        ClassInput(
            name=name, rate=3.0, prompt_tokens=prompt, uncached_prompt_tokens=prompt, output_tokens=output,
            abandonment_rate=0.1, prompt_token_price=0.1, output_token_price=0.2,
        )
        for name, prompt, output in (("long", 3000, 300), ("short", 300, 900))
    )  # fmt: skip
    pool = PoolInput(name="gpu", ready=2, modes=modes, kv_token_capacity=25_000.0, decodes_move=False)
    promise = Promise(kind=PromiseKind.SLOT_TPOT, target=0.03, hard=False, penalty=100.0)
    entry = Problem(
        fleet="default/curved", charging=Charging.BUNDLED, pools=(pool,), classes=classes, promises=(promise,)
    )
    found = answer(entry)
    assert found.is_optimal
    assert found.formulation.paces != (None,)
    assert excesses(found.formulation, found.solution.primal) == ()
    assert found.value < 0.99 * answer(moving(entry, moves=True)).value


def two_classes(*, moves: bool) -> Problem:
    """One engine: 10 prompt tokens and 1 decode in 2 s, or 2 decodes in 1 s. Both classes: 10 tokens, 2 steps."""
    pool = PoolInput(name="gpu", ready=1, modes=(Mode(10, 1, 2.0), Mode(0, 2, 1.0)), decodes_move=moves)
    classes = tuple(
        ClassInput(
            name=name, rate=1.0, prompt_tokens=10, uncached_prompt_tokens=10, output_tokens=2, abandonment_rate=0.1,
            prompt_token_price=0.0, output_token_price=price,
        )
        for name, price in (("quick", 1.5), ("patient", 1.2))
    )  # fmt: skip
    promise = Promise(kind=PromiseKind.TPOT, class_name="quick", target=1.0)
    return Problem(fleet="default/two", charging=Charging.BUNDLED, pools=(pool,), classes=classes, promises=(promise,))


def planned(entry: Problem) -> Plan:
    outcome = plan(entry, now=0.0)
    assert outcome.plan is not None, outcome.message
    return outcome.plan


def test_moving_decodes_by_hand() -> None:
    """X of the time mixed prefills x/2 requests/s, whose x steps/s fit into 2 (1 - x) solo and x/2 mixed ones: x = 0.8.

    Quick requests take the 0.4 solo steps/s, patient ones the 0.4 mixed ones: 0.2 of each, 0.2 * 3 + 0.2 * 2.4.
    """
    found = planned(two_classes(moves=True))
    assert found.value_per_second == pytest.approx(1.08)
    assert [entry.admitted_rate for entry in found.classes] == pytest.approx([0.2, 0.2])
    assert found.notes == ()


def test_staying_decodes_by_hand() -> None:
    """A quick request must not meet a prefill while it decodes, so nobody decodes beside one: x = 2 (1 - x), x = 2/3.

    1/3 of quick requests at 3 each. Serving patient ones alone, who may decode beside prefills, earns 0.4 * 2.4 = 0.96.
    The tempting answer is the 1.08 of the program that places decodes freely: no engine can do that.
    """
    found = planned(two_classes(moves=False))
    assert found.value_per_second == pytest.approx(1.0)
    assert found.upper_bound == pytest.approx(1.08)
    assert [entry.admitted_rate for entry in found.classes] == pytest.approx([1 / 3, 0.0], abs=1e-9)
    assert found.promises[0].planned == pytest.approx(1.0)
    assert "at most 0.08 per second more" in found.notes[0]
