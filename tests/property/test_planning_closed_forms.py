"""The program against the closed forms of the model , on random instances."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.model.fleet import Charging
from sluice.planning import plan
from sluice.planning.formulate import formulate
from sluice.planning.modes import Mode
from sluice.planning.problem import ClassInput, PoolInput, Problem
from sluice.planning.solver import solve

BATCH, CHUNK = 16, 256


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    """A grid of a million points: random enough, and without denormal numbers."""
    return st.integers(0, 10**6).map(lambda k: low + (high - low) * k / 10**6)


@st.composite
def workloads(draw: st.DrawFn, index: int = 0) -> ClassInput:
    prompt = draw(numbers(200, 3000))
    return ClassInput(
        name=f"class-{index}",
        rate=draw(numbers(0, 2)),
        prompt_tokens=prompt,
        uncached_prompt_tokens=prompt,
        output_tokens=draw(numbers(20, 3000)),
        abandonment_rate=draw(st.sampled_from([0.0, 0.05, 0.1, 1.0])),
        prompt_token_price=0.1,
        output_token_price=0.2,
    )


@st.composite
def one_pool_problems(draw: st.DrawFn, charging: Charging) -> Problem:
    """One replica by the paper's law, where prefilling never makes decode faster (kappa >= 0)."""
    solo = draw(numbers(0.015, 0.05))
    mixed = max(solo, draw(numbers(0.012, 0.02)) + CHUNK * draw(numbers(1e-5, 3e-4)))
    classes = tuple(draw(workloads(i)) for i in range(draw(st.integers(1, 5))))
    return Problem(
        fleet="default/random",
        charging=charging,
        pools=(PoolInput(name="only", ready=1, modes=(Mode(CHUNK, BATCH - 1, mixed), Mode(0, BATCH, solo))),),
        classes=classes,
    )


def value(problem: Problem) -> float:
    outcome = plan(problem, now=0.0)
    assert outcome.plan is not None, outcome.message
    assert outcome.plan.upper_bound == pytest.approx(outcome.plan.value_per_second, rel=1e-7, abs=1e-7), (
        "strong duality"
    )
    return outcome.plan.value_per_second


def bundled_knapsack(problem: Problem) -> float:
    """Greedy over the token row, by two-row enumeration where the prefill row binds as well."""
    mixed, solo = problem.pools[0].modes
    kappa = solo.decode_rate - mixed.decode_rate
    seconds = [entry.prompt_tokens / mixed.prefill_rate for entry in problem.classes]
    tokens = [entry.output_tokens + kappa * s for entry, s in zip(problem.classes, seconds, strict=True)]
    return two_row_knapsack(
        [entry.value for entry in problem.classes],
        [entry.rate for entry in problem.classes],
        tokens,
        solo.decode_rate,
        seconds,
        1.0,
    )


def two_row_knapsack(
    worth: list[float], most: list[float], first: list[float], first_cap: float, second: list[float], second_cap: float
) -> float:
    """Max worth z, first z <= first_cap, second z <= second_cap, 0 <= z <= most, by Lagrange on the second row.

    The dual in the second row's price is piecewise linear and convex; its minimum lies at a kink, where two
    classes tie in bang per buck or where one's worth is used up.
    """

    def dual(price: float) -> float:
        left, total = first_cap, price * second_cap
        net = [w - price * s for w, s in zip(worth, second, strict=True)]
        for i in sorted(range(len(net)), key=lambda i: -net[i] / first[i]):
            if net[i] > 0:
                taken = min(most[i], left / first[i])
                total += net[i] * taken
                left -= first[i] * taken
        return total

    kinks = {0.0} | {w / s for w, s in zip(worth, second, strict=True) if s > 0}
    for i in range(len(worth)):
        for j in range(i):
            slope = second[i] / first[i] - second[j] / first[j]
            if slope:
                kinks.add((worth[i] / first[i] - worth[j] / first[j]) / slope)
    return min(dual(price) for price in kinks if price >= 0)


def separate_curve(problem: Problem) -> float:
    """One concave variable: the prefill occupancy X (kinks where a class is used up or decode is full)."""
    mixed, solo = problem.pools[0].modes
    kappa = solo.decode_rate - mixed.decode_rate
    order = sorted(problem.classes, key=lambda entry: -entry.output_tokens / entry.prompt_tokens)
    prompt_price, output_price = order[0].prompt_token_price, order[0].output_token_price

    def decode_inflow(occupancy: float) -> float:
        left, total = occupancy * mixed.prefill_rate, 0.0
        for entry in order:
            prefilled = min(left, entry.rate * entry.prompt_tokens)
            total += prefilled * entry.output_tokens / entry.prompt_tokens
            left -= prefilled
        return total

    most = min(1.0, sum(entry.rate * entry.prompt_tokens for entry in order) / mixed.prefill_rate)
    kinks, reached = [0.0, most], 0.0
    for entry in order:
        start, reached = reached, reached + entry.rate * entry.prompt_tokens / mixed.prefill_rate
        slope = mixed.prefill_rate * entry.output_tokens / entry.prompt_tokens
        crossing = (solo.decode_rate - decode_inflow(start) + slope * start) / (slope + kappa)
        kinks += [x for x in (reached, crossing) if 0 <= x <= most]
    return max(
        prompt_price * mixed.prefill_rate * x + output_price * min(solo.decode_rate - kappa * x, decode_inflow(x))
        for x in kinks
    )


def kappa_is_positive(problem: Problem) -> bool:
    mixed, solo = problem.pools[0].modes
    return solo.decode_rate >= mixed.decode_rate


@settings(max_examples=150, deadline=None)
@given(one_pool_problems(Charging.BUNDLED))
def test_bundled_program_is_the_two_row_knapsack(problem: Problem) -> None:
    if kappa_is_positive(problem):
        assert value(problem) == pytest.approx(bundled_knapsack(problem), rel=1e-7, abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(one_pool_problems(Charging.SEPARATE))
def test_separate_program_is_one_concave_curve(problem: Problem) -> None:
    impatient = tuple(replace(entry, abandonment_rate=entry.abandonment_rate or 0.1) for entry in problem.classes)
    problem = replace(problem, classes=impatient)
    assert value(problem) == pytest.approx(separate_curve(problem), rel=1e-7, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(one_pool_problems(Charging.BUNDLED), st.integers(2, 4))
def test_equal_pools_give_the_plan_of_one(problem: Problem, count: int) -> None:
    pool = problem.pools[0]
    demand = tuple(replace(entry, rate=entry.rate * count) for entry in problem.classes)
    one = replace(problem, pools=(replace(pool, ready=count),), classes=demand)
    many = replace(problem, pools=tuple(replace(pool, name=f"pool-{k}") for k in range(count)), classes=demand)
    assert value(many) == pytest.approx(value(one), rel=1e-9, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(one_pool_problems(Charging.BUNDLED))
def test_solver_and_certificate_agree_on_strong_duality(problem: Problem) -> None:
    program = formulate(problem).program
    answer = solve(program)
    bound = float(answer.dual @ [b if abs(b) < 1e300 else 0.0 for b in program.row_upper])
    assert bound == pytest.approx(float(program.objective @ answer.primal), rel=1e-7, abs=1e-9)
