"""What the operator would have measured: the engine's counters as samples over a window.

The same signals as the observer's, with the same meaning (``model.signal``): the offered
rate counts refusals, lengths are those of completed requests only, and requests in flight
are a mean over the window. What is not followed: scrape delay and clock differences, so
every sample is fresh. Sampling noise is that of the simulated traffic itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.model.signal import Gap, GapReason, Sample, Signal, Source
from sluice.model.snapshot import ClassSamples, Observation
from sluice.simulation.layout import Sim, State

Floats = NDArray[np.float64]
Chosen = NDArray[np.bool_]


class Counters:
    """Reads one run's requests at every tick; keeps the numbers of those that the window may still see."""

    def __init__(self, names: Sequence[str], window_seconds: float) -> None:
        self.names, self.window_seconds = tuple(names), window_seconds
        self._recent: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._seen = 0

    def observe(self, sim: Sim, now: float) -> Observation:
        """The samples at ``now``, seconds since the start of the run."""
        start = max(0.0, now - self.window_seconds)
        rows = self._rows(sim, start)
        return Observation(
            classes={
                name: ClassSamples(**_split(_samples(rows[rows["klass"] == i], start, now)))
                for i, name in enumerate(self.names)
            }
        )

    def _rows(self, sim: Sim, start: float) -> Any:
        """Requests that arrived, ended or were in flight since ``start``."""
        arrived = int(sim.core[0].arrivals)
        numbers = np.concatenate([self._recent, np.arange(self._seen, arrived)])
        ended = sim.requests["ended"][numbers]
        self._recent, self._seen = numbers[(ended < 0.0) | (ended >= start)], arrived
        return sim.requests[self._recent]


def _split(found: Mapping[Signal, Sample | None]) -> Any:
    """Samples and gaps: a mean over nothing is no sample."""
    gaps = {
        signal: Gap(signal=signal, tried=((Source.ENVOY, GapReason.NOT_A_NUMBER),))
        for signal, sample in found.items()
        if sample is None
    }
    return {"samples": {signal: sample for signal, sample in found.items() if sample is not None}, "gaps": gaps}


def _samples(rows: Any, start: float, now: float) -> dict[Signal, Sample | None]:
    """Every signal of one class."""
    seconds = now - start
    arrived = rows["arrival"] >= start
    refused = rows["state"] == int(State.REFUSED)
    done = (rows["state"] == int(State.DONE)) & (rows["ended"] >= start)
    answered = rows["first"] >= start
    longer = done & (rows["output"] > 1.0)
    left = np.where(rows["ended"] >= 0.0, rows["ended"], now)
    inside = np.maximum(0.0, left - np.maximum(rows["arrival"], start))[~refused].sum() / seconds
    per_token = (rows["ended"][longer] - rows["first"][longer]) / (rows["output"][longer] - 1.0)
    engine = Source.VLLM
    return {
        Signal.OFFERED_RATE: _sample(arrived.sum() / seconds, now, Source.ENVOY),
        Signal.ADMITTED_RATE: _sample((arrived & ~refused).sum() / seconds, now, Source.ENVOY),
        Signal.REFUSED_RATE: _sample((arrived & refused).sum() / seconds, now, Source.ENVOY),
        Signal.COMPLETED_RATE: _sample(done.sum() / seconds, now, engine),
        Signal.IN_FLIGHT: _sample(inside, now, Source.ENVOY),
        Signal.PROMPT_TOKENS: _mean(rows["prompt"][done], now, engine),
        Signal.UNCACHED_PROMPT_TOKENS: _mean(rows["work"][done], now, engine),
        Signal.OUTPUT_TOKENS: _mean(rows["output"][done], now, engine),
        Signal.TTFT: _mean((rows["first"] - rows["arrival"])[answered], now, engine),
        Signal.TPOT: _mean(per_token, now, engine),
    }


def _sample(value: float, now: float, source: Source) -> Sample:
    return Sample(value=float(value), at_seconds=now, source=source)


def _mean(values: Floats, now: float, source: Source) -> Sample | None:
    return _sample(values.mean(), now, source) if len(values) else None
