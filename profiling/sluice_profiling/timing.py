"""How long one call takes: warm-up, repetition until the median is sure, outliers left out."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sluice_profiling.student import quantile

OUTLIER_DEVIATIONS = 5.0
"""Beyond this many robust standard deviations a time is somebody else's: a scheduler, a page fault."""
MAD_TO_SIGMA = 1.4826
MEDIAN_WIDENING = math.sqrt(math.pi / 2)
"""Standard error of a median over that of a mean, for normal errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """When to stop repeating."""

    warm_up: int = 3
    fewest: int = 10
    most: int = 200
    relative_half_width: float = 0.01
    """Half the 95 % interval of the median over the median, below which the time is sure enough."""
    seconds: float = 5.0
    """Time one point may take, warm-up included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """A median and how sure it is."""

    seconds: float
    half_width_seconds: float
    samples: int
    rejected: int


def summarise(times: Sequence[float]) -> Timing:
    """Median of the times that do not stand out."""
    middle = statistics.median(times)
    spread = MAD_TO_SIGMA * statistics.median(abs(value - middle) for value in times)
    kept = (
        [value for value in times if abs(value - middle) <= OUTLIER_DEVIATIONS * spread] if spread > 0 else list(times)
    )
    median = statistics.median(kept)
    half = 0.0
    if len(kept) > 1:
        error = MEDIAN_WIDENING * statistics.stdev(kept) / math.sqrt(len(kept))
        half = quantile(0.975, len(kept) - 1) * error
    return Timing(seconds=median, half_width_seconds=half, samples=len(kept), rejected=len(times) - len(kept))


def measure(timed: Callable[[], float], patience: Patience, *, clock: Callable[[], float] = time.monotonic) -> Timing:
    """Repeat ``timed``, which runs once and returns its seconds, until its median is sure or patience ends."""
    began = clock()
    for _ in range(patience.warm_up):
        timed()
    times: list[float] = []
    while True:
        times.append(timed())
        if len(times) < 2:
            continue
        out_of_time = clock() - began > patience.seconds
        if len(times) < patience.fewest and not out_of_time:
            continue
        timing = summarise(times)
        sure = timing.half_width_seconds <= patience.relative_half_width * timing.seconds
        if sure or out_of_time or len(times) >= patience.most:
            return timing
