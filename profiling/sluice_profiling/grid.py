"""Which working points to measure next: pure, so that a resumed run goes on where it stopped.

First a coarse grid: decode-only and powers of two in the chunk, at the operating batch
and at batches around it. Then points around the knee that the measurements so far
suggest, because that is where a straight line misleads most. A point that was
measured is never asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sluice_profiling.laws import fit_four
from sluice_profiling.measurement import Measurement, Point

KNEE_FRACTIONS = (0.5, 0.75, 1.0, 1.5, 2.0)
KNEE_ROUNDS = 2
"""How often the knee is estimated anew and surrounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What the law shall cover."""

    operating_batch: int
    """The batch the pool runs at: measured densest."""
    largest_batch: int
    smallest_chunk: int
    largest_chunk: int
    context_tokens: int

    def __post_init__(self) -> None:
        if not 1 <= self.operating_batch <= self.largest_batch:
            raise ValueError("the operating batch lies between 1 and the largest batch")
        if not 1 <= self.smallest_chunk <= self.largest_chunk:
            raise ValueError("the smallest chunk lies between 1 and the largest chunk")


def coarse(limits: Range) -> tuple[Point, ...]:
    """The first points, most telling first, so that a short time budget still gives a law."""
    chunks = [0, *_doubling(limits.smallest_chunk, limits.largest_chunk)]
    batches = _batches(limits)
    ordered = [(chunk, limits.operating_batch) for chunk in (0, limits.largest_chunk, limits.smallest_chunk)]
    ordered += [(0, batch) for batch in batches]
    ordered += [(chunk, batch) for batch in (limits.operating_batch, *batches) for chunk in chunks]
    return tuple(Point(chunk, batch, limits.context_tokens) for chunk, batch in dict.fromkeys(ordered))


def around_knee(limits: Range, measured: Sequence[Measurement]) -> tuple[Point, ...]:
    """Points around the knee that the measurements suggest, at the operating batch; none where they suggest none."""
    try:
        fit = fit_four(measured)
    except ValueError:
        return ()
    knee = fit.of("knee_tokens").value
    wanted = (round(knee * fraction) for fraction in KNEE_FRACTIONS)
    inside = [chunk for chunk in wanted if 1 <= chunk <= limits.largest_chunk]
    return _new((Point(chunk, limits.operating_batch, limits.context_tokens) for chunk in inside), measured)


def remaining(limits: Range, measured: Sequence[Measurement]) -> tuple[Point, ...]:
    """What to measure next, given what is measured; empty when the grid is complete."""
    if first := _new(coarse(limits), measured):
        return first
    refined = len(measured) - len(coarse(limits))
    return around_knee(limits, measured) if refined < KNEE_ROUNDS * len(KNEE_FRACTIONS) else ()


def _new(points: Iterable[Point], measured: Sequence[Measurement]) -> tuple[Point, ...]:
    done = {entry.point for entry in measured}
    return tuple(point for point in dict.fromkeys(points) if point not in done)


def _doubling(low: int, high: int) -> list[int]:
    values = []
    while low < high:
        values.append(low)
        low *= 2
    return [*values, high]


def _batches(limits: Range) -> list[int]:
    """One, the operating batch, its half and the largest: enough to see growth with the batch."""
    wanted = {1, max(1, limits.operating_batch // 2), limits.operating_batch, limits.largest_batch}
    return sorted(wanted)
