"""Rates that may be off either way: what a cautious plan reserves, on an instance worked by hand.

One replica, iterations of 0.1 s either way: 20 decode steps a second, one less per 10 prompt tokens.
``unsure`` takes 2 steps a request and pays 3; 8 a second are expected, 4 to 12 may come. ``sure`` takes
10 steps and pays 9; 5 a second come. A step is worth 1.5 to unsure and 0.9 to sure, but only the first
4 requests of unsure are certain: the next 4 earn 1 - caution of their value, and what lies above the
estimate earns nothing.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice.model.fleet import Charging
from sluice.planning import plan
from sluice.planning.modes import Mode
from sluice.planning.problem import ClassInput, PoolInput, Problem
from sluice.planning.promises import Promise, PromiseKind


def _class(name: str, steps: float, value: float, rate: float, spread: float = 0.0) -> ClassInput:
    return ClassInput(
        name=name,
        rate=rate,
        prompt_tokens=100,
        uncached_prompt_tokens=100,
        output_tokens=steps,
        prompt_token_price=0.0,
        output_token_price=value / steps,
        rate_spread=spread,
    )


def by_hand(caution: float, *promises: Promise) -> Problem:
    return Problem(
        fleet="default/hand",
        charging=Charging.BUNDLED,
        pools=(PoolInput(name="only", ready=1, modes=(Mode(100, 1, 0.1), Mode(0, 2, 0.1))),),
        classes=(_class("unsure", 1.0, 3.0, 8.0, spread=0.5), _class("sure", 9.0, 9.0, 5.0)),
        promises=promises,
        caution=caution,
    )


WORKED = {
    "who trusts the estimate serves all that is expected: 16 steps for 8, and 4 for 0.4 of sure": (
        0.0, (8.0, 0.4), 8 * 3 + 0.4 * 9,
    ),
    "a little caution leaves it so: the uncertain steps earn 1.05 each, more than 0.9": (
        0.3, (8.0, 0.4), 4 * 3 + 4 * 3 * 0.7 + 0.4 * 9,
    ),
    "more caution serves who is certain first: the uncertain steps earn 0.75 each": (
        0.5, (4.0, 1.2), 4 * 3 + 1.2 * 9,
    ),
    "the worst case alone reserves nothing above the low end": (1.0, (4.0, 1.2), 4 * 3 + 1.2 * 9),
}  # fmt: skip


@pytest.mark.parametrize("worked", WORKED.values(), ids=list(WORKED))
def test_what_is_reserved_for_an_uncertain_class(worked: tuple[float, tuple[float, ...], float]) -> None:
    """Tempting and wrong: 8 of unsure whatever the caution, as if the estimate were the rate."""
    caution, rates, value = worked
    result = plan(by_hand(caution), now=0.0).plan
    assert result is not None
    assert [entry.admitted_rate for entry in result.classes] == pytest.approx(rates)
    assert result.value_per_second == pytest.approx(value, rel=1e-9)


def test_a_promise_must_hold_at_the_high_end() -> None:
    """Three quarters of 12 are 9 requests, 18 steps: one more than are expected, and it earns nothing."""
    floor = Promise(kind=PromiseKind.SERVED, class_name="unsure", target=0.75)
    result = plan(by_hand(0.5, floor), now=0.0).plan
    assert result is not None
    assert result.conflict is None
    assert result.classes[1].admitted_rate == pytest.approx(0.2)
    assert result.value_per_second == pytest.approx(4 * 3 + 4 * 3 * 0.5 + 0.2 * 9, rel=1e-9)
    assert result.classes[0].admitted_rate == pytest.approx(8.0), "nobody is admitted who is not expected"


def test_a_promise_that_only_the_estimate_could_keep_is_a_conflict() -> None:
    """All of 8 would take 16 steps of 20; all of 12 takes 24."""
    floor = Promise(kind=PromiseKind.SERVED, class_name="unsure", target=1.0)
    result = plan(by_hand(0.5, floor), now=0.0).plan
    assert result is not None
    assert result.conflict is not None
    assert result.promises[0].applied_target == pytest.approx(10 / 12, rel=1e-5), "20 steps are 10 requests of 12"


@pytest.mark.parametrize("caution", [0.0, 0.5, 1.0])
def test_a_box_of_no_width_is_the_plan_without_one(caution: float) -> None:
    problem = by_hand(caution)
    certain = replace(problem, classes=tuple(replace(entry, rate_spread=0.0) for entry in problem.classes))
    result = plan(certain, now=0.0).plan
    assert result is not None
    assert result.value_per_second == pytest.approx(8 * 3 + 0.4 * 9, rel=1e-9)
