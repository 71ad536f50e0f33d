"""Which points are measured, in which order, and when repeating one ends."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from sluice.model.law import IterationLaw
from sluice_profiling.grid import Range, around_knee, coarse, remaining
from sluice_profiling.laws import predicted_seconds
from sluice_profiling.measurement import Measurement, Point
from sluice_profiling.timing import Patience, measure, summarise

LIMITS = Range(operating_batch=32, largest_batch=128, smallest_chunk=16, largest_chunk=1024, context_tokens=1024)
LAW = IterationLaw(solo_seconds=0.01, mixed_base_seconds=0.004, per_token_seconds=60e-6, per_sequence_seconds=1e-4)
"""Knee at 100 tokens."""


def by_law(points: tuple[Point, ...]) -> list[Measurement]:
    blank = [Measurement(point=point, seconds=1.0) for point in points]
    return [replace(entry, seconds=predicted_seconds(LAW, entry)) for entry in blank]


def test_a_short_budget_still_gives_a_law_at_the_operating_batch() -> None:
    first = coarse(LIMITS)[:3]
    assert {point.batch for point in first} == {32}
    assert {point.chunk_tokens for point in first} == {0, 16, 1024}


def test_the_coarse_grid_spans_the_range_and_asks_for_nothing_twice() -> None:
    points = coarse(LIMITS)
    assert len(set(points)) == len(points)
    assert {point.batch for point in points} == {1, 16, 32, 128}
    assert {point.chunk_tokens for point in points} == {0, 16, 32, 64, 128, 256, 512, 1024}


def test_the_knee_is_surrounded_once_it_can_be_guessed() -> None:
    points = around_knee(LIMITS, by_law(coarse(LIMITS)))
    assert {point.batch for point in points} == {32}
    assert [point.chunk_tokens for point in points] == pytest.approx([50, 75, 100, 150, 200], abs=2)
    assert around_knee(LIMITS, by_law(coarse(LIMITS)[:3])) == ()


def test_what_is_measured_is_never_asked_for_again_and_the_grid_ends() -> None:
    measured: list[Measurement] = []
    for _ in range(100):
        points = remaining(LIMITS, measured)
        if not points:
            break
        assert not {entry.point for entry in measured} & set(points)
        measured += by_law(points[:1])
    assert remaining(LIMITS, measured) == ()
    assert len(coarse(LIMITS)) < len(measured) <= len(coarse(LIMITS)) + 14


@pytest.mark.parametrize(
    "wrong", [{"operating_batch": 0}, {"operating_batch": 129}, {"smallest_chunk": 0}, {"largest_chunk": 8}]
)
def test_a_range_that_contradicts_itself_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="lies between"):
        replace(LIMITS, **wrong)


def test_times_that_stand_out_are_left_out_and_counted() -> None:
    timing = summarise([1.00, 1.01, 0.99, 1.00, 1.02, 0.98, 9.0])
    assert timing.seconds == pytest.approx(1.0)
    assert (timing.samples, timing.rejected) == (6, 1)
    assert 0 < timing.half_width_seconds < 0.05


PATIENCE = Patience(warm_up=2, fewest=5, most=50, relative_half_width=0.02, seconds=10.0)


@pytest.mark.parametrize(
    ("times", "clock_step", "samples"),
    [
        pytest.param([1.0], 0.0, 5, id="equal times need the fewest repetitions"),
        pytest.param([1.0, 3.0], 0.0, 50, id="times that never agree end at the most"),
        pytest.param([1.0, 3.0], 4.0, 4, id="the point's time ends it before"),
    ],
)
def test_repeating_ends_when_the_median_is_sure_or_patience_ends(
    times: list[float], clock_step: float, samples: int
) -> None:
    runs, ticks = itertools.cycle(times), itertools.count()
    timing = measure(lambda: next(runs), PATIENCE, clock=lambda: clock_step * next(ticks))
    assert timing.samples + timing.rejected == samples


def test_the_warm_up_is_not_counted() -> None:
    runs = iter([100.0, 100.0, *[1.0] * 5])
    assert measure(lambda: next(runs), PATIENCE, clock=lambda: 0.0).seconds == 1.0
