"""Requests to simulate: arrivals, lengths, patience and coins, drawn once and shared by every policy.

Each class and each quantity has its own random stream keyed by the seed. Two policies
under the same seed therefore see the same requests (common random numbers), and a change
of one class's law leaves the other classes' draws as they were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sluice.simulation.layout import NONE, REQUEST, State
from sluice.simulation.prefix_blocks import Blocks, expected_work

Floats = NDArray[np.float64]
TINY_DRAW = 1e-300
"""A draw of zero times endless patience would be no number."""


class Lengths(Protocol):
    """A distribution of token lengths."""

    @property
    def mean(self) -> float:
        """Mean, tokens."""

    def draw(self, source: np.random.Generator, count: int) -> Floats:
        """``count`` lengths, tokens; not rounded."""


@dataclass(frozen=True, slots=True)
class Exponential:
    """The paper's choice."""

    mean: float

    def draw(self, source: np.random.Generator, count: int) -> Floats:
        """``count`` lengths."""
        return source.exponential(self.mean, count)


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same length."""

    mean: float

    def draw(self, source: np.random.Generator, count: int) -> Floats:
        """``count`` lengths."""
        del source
        return np.full(count, self.mean)


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Log-normal with a given mean and coefficient of variation (reasoning outputs)."""

    mean: float
    variation: float

    def draw(self, source: np.random.Generator, count: int) -> Floats:
        """``count`` lengths."""
        variance = math.log1p(self.variation**2)
        return source.lognormal(math.log(self.mean) - variance / 2, math.sqrt(variance), count)


@dataclass(frozen=True, slots=True)
class Empirical:
    """Lengths drawn with replacement from observed ones."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean, tokens."""
        return sum(self.values) / len(self.values)

    def draw(self, source: np.random.Generator, count: int) -> Floats:
        """``count`` lengths."""
        return source.choice(np.asarray(self.values), count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """How a class's requests arrive around its mean rate."""

    variation: float = 1.0
    """Coefficient of variation of inter-arrival times: 1 Poisson, above it gamma bursts."""
    amplitude: float = 0.0
    """Relative amplitude of a sine wave over ``period_seconds`` (a day in small)."""
    period_seconds: float = 3600.0
    steps: tuple[tuple[float, float], ...] = ()
    """(from second, factor): the rate is multiplied by the factor from then on."""

    def times(self, source: np.random.Generator, rate: float, horizon: float) -> Floats:
        """Arrival times in [0, horizon), sorted: a renewal process run on the clock of the summed rate."""
        grid = np.linspace(0.0, horizon, 4097)
        elapsed = np.concatenate([[0.0], np.cumsum(self._factor((grid[1:] + grid[:-1]) / 2) * np.diff(grid))])
        total = elapsed[-1] * rate
        shape = 1.0 / self.variation**2
        gaps: list[Floats] = []
        reached = 0.0
        while reached <= total:
            block = source.gamma(shape, 1.0 / shape, max(16, int((total - reached) * 1.1) + 16))
            gaps.append(block)
            reached += float(block.sum())
        ticks = np.cumsum(np.concatenate(gaps))
        return np.asarray(np.interp(ticks[ticks < total], elapsed * rate, grid), dtype=np.float64)

    def _factor(self, seconds: Floats) -> Floats:
        factor = 1.0 + self.amplitude * np.sin(2 * math.pi * seconds / self.period_seconds)
        step = np.ones_like(seconds)
        for start, value in self.steps:
            step = np.where(seconds >= start, value, step)
        return np.maximum(factor * step, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassLoad:
    """The traffic of one class."""

    name: str
    rate: float
    """Requests per second of the whole fleet."""
    prompt: Lengths
    output: Lengths
    patience_seconds: float | None = None
    """Mean of exponential patience; None: for ever."""
    arrivals: Arrivals = Arrivals()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A finite stream of requests, sorted by arrival."""

    classes: tuple[str, ...]
    requests: Any
    """Record array of ``REQUEST``; ``klass`` is an index into ``classes``."""
    horizon_seconds: float
    blocks: Blocks | None = None
    """What prompts begin with, where that is known: engines then have prefix caches."""

    def fresh(self) -> Any:
        """A copy of the requests that one run may write its results into."""
        return self.requests.copy().view(np.recarray)

    def __len__(self) -> int:
        return len(self.requests)

    def rates(self) -> Floats:
        """Mean requests per second by class."""
        return np.bincount(self.requests["klass"], minlength=len(self.classes)) / self.horizon_seconds

    def means(self, field: str) -> Floats:
        """Mean of a request field by class."""
        count = np.maximum(1, np.bincount(self.requests["klass"], minlength=len(self.classes)))
        return np.bincount(self.requests["klass"], self.requests[field], minlength=len(self.classes)) / count

    def stretched(self, factor: float) -> Workload:
        """The same requests with time between arrivals multiplied by ``factor``."""
        requests = self.requests.copy()
        requests["arrival"] *= factor
        return replace(self, requests=requests, horizon_seconds=self.horizon_seconds * factor)

    def foreseen(self, caches: Sequence[float]) -> Workload:
        """The same requests with the work that prefix caches of so many tokens leave, as far as one can tell before.

        For plans; a simulation takes requests as they are, and finds out.
        """
        if self.blocks is None or not caches:
            return self
        requests = self.requests.copy()
        requests["work"] = expected_work(requests["prompt"], self.blocks, caches)
        return replace(self, requests=requests)

    def with_patience(self, means: Mapping[str, float | None], seed: int) -> Workload:
        """The same requests with exponential patience of each class's mean, seconds; None: for ever.

        A class that ``means`` does not name waits for ever. The draws do not depend on the means.
        """
        requests = self.requests.copy()
        source = _stream(seed, 0, 2)
        told = [means.get(name) for name in self.classes]
        scale = np.array([math.inf if mean is None else mean for mean in told])[requests["klass"]]
        for field in ("patience", "decode_patience"):
            requests[field] = np.maximum(source.standard_exponential(len(requests)), TINY_DRAW) * scale
        return replace(self, requests=requests)


def _stream(seed: int, klass: int, quantity: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, klass, quantity]))


def _patience(source: np.random.Generator, mean: float | None, count: int) -> Floats:
    return np.full(count, math.inf) if mean is None else source.exponential(mean, count)


def blank(count: int) -> Any:
    """``count`` requests that have not arrived."""
    requests = np.zeros(count, dtype=REQUEST)
    for field in ("started", "begun", "prefilled", "first", "ended"):
        requests[field] = -1.0
    requests["state"], requests["replica"], requests["next"] = int(State.FUTURE), NONE, NONE
    requests["patience"] = requests["decode_patience"] = math.inf
    return requests


def generate(classes: Sequence[ClassLoad], *, horizon_seconds: float, seed: int, whole_tokens: bool) -> Workload:
    """Draw a workload; ``whole_tokens`` rounds lengths up to at least one token (iterations need it)."""
    parts = []
    for i, load in enumerate(classes):
        times = load.arrivals.times(_stream(seed, i, 0), load.rate, horizon_seconds)
        part = blank(len(times))
        part["arrival"], part["klass"] = times, i
        part["prompt"] = _tokens(load.prompt.draw(_stream(seed, i, 1), len(times)), whole_tokens)
        part["output"] = _tokens(load.output.draw(_stream(seed, i, 3), len(times)), whole_tokens)
        part["work"] = part["prompt"]
        part["patience"] = _patience(_stream(seed, i, 4), load.patience_seconds, len(times))
        part["decode_patience"] = _patience(_stream(seed, i, 5), load.patience_seconds, len(times))
        part["coin"] = _stream(seed, i, 6).random(len(times))
        parts.append(part)
    requests = np.concatenate(parts) if parts else blank(0)
    requests = requests[np.argsort(requests["arrival"], kind="stable")]
    return Workload(classes=tuple(load.name for load in classes), requests=requests, horizon_seconds=horizon_seconds)


def _tokens(lengths: Floats, whole: bool) -> Floats:
    return np.maximum(1.0, np.ceil(lengths)) if whole else lengths
