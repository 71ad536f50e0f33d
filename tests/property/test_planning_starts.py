"""Where a solve starts from saves time and changes nothing."""

from __future__ import annotations

import importlib
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.planning_instances import problem

from sluice.model.fleet import Charging
from sluice.planning.answer import answer
from sluice.planning.certificate import certify
from sluice.planning.formulate import formulate
from sluice.planning.modes import Mode
from sluice.planning.opening import opening
from sluice.planning.problem import ClassInput, PoolInput, Problem
from sluice.planning.program import Program
from sluice.planning.refine import at_corner
from sluice.planning.solver import solve

ties = importlib.import_module("sluice.planning.ties")
EXAMPLES = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 10**6)


@EXAMPLES
@given(seeds)
def test_a_guessed_start_finds_the_value_that_a_solve_from_nothing_finds(seed: int) -> None:
    entry = problem(seed)
    found = answer(entry, ties=False)
    if not found.is_optimal:
        return
    cold = solve(found.formulation.program)
    value = float(found.formulation.program.objective @ cold.primal)
    assert found.value == pytest.approx(value, rel=1e-7, abs=1e-7)


def plain(classes: int, pools: int, seed: int) -> Problem:
    """An overloaded fleet without promises, every class its own lengths and prices."""
    draw = random.Random(seed)
    return Problem(
        fleet="default/plain",
        charging=Charging.BUNDLED,
        pools=tuple(
            PoolInput(
                name=f"pool-{k}", ready=max(2, classes // 2),
                modes=(Mode(256, 15, 0.0333 * (1 + 0.3 * k)), Mode(0, 16, 0.022 * (1 + 0.2 * k))),
            )
            for k in range(pools)
        ),
        classes=tuple(
            ClassInput(
                name=f"class-{i}", rate=draw.uniform(0.25, 0.5) * pools,
                prompt_tokens=(prompt := draw.uniform(200, 3000)), uncached_prompt_tokens=prompt,
                output_tokens=draw.uniform(200, 3000), abandonment_rate=0.1,
                prompt_token_price=draw.uniform(0.05, 0.2), output_token_price=draw.uniform(0.1, 0.4),
            )
            for i in range(classes)
        ),
    )  # fmt: skip


@EXAMPLES
@given(st.integers(1, 40), seeds)
def test_one_pool_without_promises_needs_no_solver(classes: int, seed: int) -> None:
    """Where its decode steps bind; a pool that prefills all the time is the solver's."""
    formulation = formulate(plain(classes, 1, seed))
    program, start = formulation.program, opening(formulation)
    assert start is not None
    guessed = at_corner(program, start, rounds=0)
    assert guessed is not None
    best = solve(program)
    prefill = formulation.pools[0].prefill_row
    if abs(best.dual[prefill]) <= formulation.pools[0].group.displacement * abs(best.dual[prefill + 1]) * (1 + 1e-6):
        assert certify(program, guessed.primal, guessed.dual).holds


@pytest.mark.parametrize("pools", [2, 3])
def test_several_pools_leave_the_solver_a_few_pivots(pools: int) -> None:
    for seed in range(5):
        program = (formulation := formulate(plain(60, pools, seed))).program
        from_nothing, from_guess = solve(program), solve(program, start=opening(formulation))
        assert from_guess.iterations <= from_nothing.iterations / 5, (seed, from_guess.iterations)


@EXAMPLES
@given(seeds, st.sampled_from([1.0, 0.05]))
def test_ties_are_broken_on_a_part_as_on_the_whole_face(seed: int, load: float) -> None:
    """Every class has a twin, so two at the cut-off tie; or there is room, and every way to spread it does."""
    entry = plain(random.Random(seed).randint(2, 8), 3, seed)
    classes = tuple(replace(each, rate=each.rate * load) for each in entry.classes)
    twins = tuple(replace(each, name=f"twin of {each.name}") for each in classes)
    entry = replace(entry, classes=(*classes, *twins))
    found = answer(entry, ties=False)
    assert found.certificate is not None
    faces: list[Program] = []
    part = ties._rest

    def seen(whole: Program, *rest: object) -> Program:
        faces.append(whole)
        return part(whole, *rest)  # type: ignore[no-any-return]  # a module that was imported by name

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ties, "_rest", seen)
        settled = ties.untied(found.formulation, found.solution, found.certificate)
    if not faces:
        return
    whole = solve(faces[0]).primal
    served = [slice(columns.served.start, columns.served.stop) for columns in found.formulation.pools]
    scale = found.formulation.program.scale
    for place in served:
        assert settled[place] / scale[place] == pytest.approx(whole[place] / scale[place], abs=1e-6)
