"""What a run earned and what users saw, with confidence intervals.

Rates carry an interval by batch means: the time after the warm-up is cut into equal
batches, whose means are nearly independent when a batch is much longer than a request.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.simulation.layout import State
from sluice.simulation.run import Record

Floats = NDArray[np.float64]

BATCHES = 20
"""Batches of the batch-means estimate: enough for an interval, few enough to be long."""
STUDENT_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145)
"""Two-sided 95 % points of Student's t for 1, 2, ... degrees of freedom."""
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the half-width of its 95 % interval."""

    mean: float
    half_width: float

    def covers(self, value: float) -> bool:
        """Whether ``value`` lies inside."""
        return abs(value - self.mean) <= self.half_width

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.half_width:.2g}"


def interval_of(samples: Sequence[float] | Floats) -> Interval:
    """Mean and 95 % half-width of independent samples."""
    values = np.asarray(samples, dtype=np.float64)
    freedom = len(values) - 1
    if freedom < 1:
        return Interval(float(values.mean()) if len(values) else math.nan, math.inf)
    factor = STUDENT_95[freedom - 1] if freedom <= len(STUDENT_95) else 1.96 + 2.4 / freedom
    return Interval(float(values.mean()), float(factor * values.std(ddof=1) / math.sqrt(len(values))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a class pays, and what it is promised."""

    prompt_token: float
    output_token: float
    promise_seconds: float = math.inf
    """TTFT within which an answer counts as good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A latency's distribution, seconds; nan where nothing was measured."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMeasure:
    """One class (or all together) under one policy, after the warm-up."""

    name: str
    arrivals: int
    value_per_second: Interval
    good_value_per_second: Interval
    served: float
    """Share of arrivals that finished."""
    kept: float
    """Share of arrivals that finished and kept their promise."""
    refused: float
    abandoned: float
    ttft: Latency
    tpot: Latency
    queue: float
    """Mean requests waiting for their prefill, at the gate or in an engine."""
    prefill: float
    """Mean prefills in batches (X)."""
    decode_queue: float
    decode_mixed: float
    """Mean decodes beside a prefill (Y_m)."""
    decode_solo: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One run."""

    regime: str
    classes: tuple[ClassMeasure, ...]
    total: ClassMeasure
    utilisation: float
    """Share of replica time with anything in the batch."""


def measure(record: Record, prices: Sequence[Prices]) -> Measure:
    """Sum a run up per class and in total."""
    window = _Window(record, prices)
    everyone = np.ones(len(record.requests), dtype=bool)
    names = record.setup.workload.classes
    classes = tuple(window.of(name, record.requests["klass"] == i) for i, name in enumerate(names))
    horizon = record.setup.workload.horizon_seconds
    return Measure(
        regime=record.regime,
        classes=classes,
        total=window.of("all", everyone),
        utilisation=record.busy_seconds / (horizon * record.setup.count),
    )


def rates(record: Record, prices: Sequence[Prices]) -> tuple[float, float]:
    """Value and good value per second of all classes together, without the rest of a measure."""
    return _Window(record, prices).earned()


def values_of(requests: Any, prices: Sequence[Prices]) -> Floats:
    """Money per request if it finishes: its own tokens at its class's prices."""
    prompt = np.array([price.prompt_token for price in prices])[requests["klass"]]
    output = np.array([price.output_token for price in prices])[requests["klass"]]
    return np.asarray(prompt * requests["prompt"] + output * requests["output"])


def kept_promise(requests: Any, prices: Sequence[Prices]) -> NDArray[np.bool_]:
    """Whether each request finished with its first token in time."""
    promise = np.array([price.promise_seconds for price in prices])[requests["klass"]]
    in_time = requests["first"] - requests["arrival"] <= promise
    return np.asarray((requests["state"] == int(State.DONE)) & in_time)


class _Window:
    """The arrays of one run, cut to the time after the warm-up."""

    def __init__(self, record: Record, prices: Sequence[Prices]) -> None:
        self.requests = record.requests
        self.start = record.setup.warmup_seconds
        self.end = record.setup.workload.horizon_seconds
        self.values = values_of(record.requests, prices)
        self.good = kept_promise(record.requests, prices)
        self.done = record.requests["state"] == int(State.DONE)
        self.edges = np.linspace(self.start, self.end, BATCHES + 1)

    def earned(self) -> tuple[float, float]:
        """Value and good value per second of everything that finished."""
        finished = self.done & (self.requests["ended"] >= self.start)
        return self._rate(finished).mean, self._rate(finished & self.good).mean

    def of(self, name: str, chosen: NDArray[np.bool_]) -> ClassMeasure:
        requests = self.requests
        arrived = chosen & (requests["arrival"] >= self.start)
        count = int(arrived.sum())
        state = requests["state"][arrived]
        finished = chosen & self.done & (requests["ended"] >= self.start)
        seen = arrived & (requests["first"] >= 0.0)
        mixed, solo = self._decode(finished)
        return ClassMeasure(
            name=name,
            arrivals=count,
            value_per_second=self._rate(finished),
            good_value_per_second=self._rate(finished & self.good),
            served=_share(arrived & self.done, count),
            kept=_share(arrived & self.good, count),
            refused=float((state == int(State.REFUSED)).sum() / max(1, count)),
            abandoned=float(np.isin(state, [int(State.ABANDONED), int(State.ABANDONED_DECODE)]).sum() / max(1, count)),
            ttft=_latency((requests["first"] - requests["arrival"])[seen]),
            tpot=_latency(self._tpot(finished)),
            queue=self._occupied(chosen, "arrival", "begun"),
            prefill=self._occupied(chosen & (requests["begun"] >= 0), "begun", "prefilled"),
            decode_queue=self._occupied(chosen & (requests["prefilled"] >= 0), "prefilled", "first"),
            decode_mixed=mixed,
            decode_solo=solo,
        )

    def _rate(self, chosen: NDArray[np.bool_]) -> Interval:
        """Value per second of finished requests, by batch means."""
        sums, _ = np.histogram(self.requests["ended"][chosen], bins=self.edges, weights=self.values[chosen])
        return interval_of(sums / (self.edges[1] - self.edges[0]))

    def _tpot(self, finished: NDArray[np.bool_]) -> Floats:
        rows = self.requests[finished & (self.requests["output"] > 1.0)]
        return np.asarray((rows["ended"] - rows["first"]) / (rows["output"] - 1.0))

    def _occupied(self, chosen: NDArray[np.bool_], since: str, until: str) -> float:
        """Mean number of requests between two moments; one that has not come yet lasts to the end."""
        rows = self.requests[chosen]
        leave = np.where(rows[until] >= 0.0, rows[until], np.where(rows["ended"] >= 0.0, rows["ended"], self.end))
        inside = np.minimum(leave, self.end) - np.maximum(rows[since], self.start)
        inside[rows["state"] == int(State.FUTURE)] = 0.0
        return float(np.maximum(inside, 0.0).sum() / (self.end - self.start))

    def _decode(self, finished: NDArray[np.bool_]) -> tuple[float, float]:
        """Mean decodes on mixed and on solo replicas (Little's law on finished requests)."""
        rows = self.requests[finished]
        mixed = float(rows["mixed"].sum())
        total = float((rows["ended"] - rows["first"]).sum())
        span = self.end - self.start
        return mixed / span, (total - mixed) / span


def _share(chosen: NDArray[np.bool_], count: int) -> float:
    return float(chosen.sum() / max(1, count))


def _latency(samples: Floats) -> Latency:
    if len(samples) == 0:
        return Latency(mean=math.nan, p50=math.nan, p95=math.nan, p99=math.nan)
    p50, p95, p99 = np.quantile(samples, QUANTILES)
    return Latency(mean=float(samples.mean()), p50=float(p50), p95=float(p95), p99=float(p99))
