"""Replay what a fleet behind a gate was recorded to do, and say where the simulator differs.

A *passage* is one request as somebody saw it go through: when it came, when the gate let it
go, its first token, its end. The simulator is given the arrivals and lengths of recorded
passages and its own passages are compared with them: mean occupancies by class (waiting at
the gate, in prefill, decoding) and mean TTFT.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sluice.simulation.measure import BATCHES, Interval, interval_of
from sluice.simulation.run import Record
from sluice.simulation.workload import Workload, blank

Floats = NDArray[np.float64]

TOLERANCE = 0.03
"""Relative difference that counts as agreement where there is enough to count."""
ENOUGH = 1.0
"""Mean occupancy from which on the relative difference counts; below it the 95 % interval does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One request; seconds since the recording began, NaN for what never came."""

    klass: str
    prompt_tokens: int
    output_tokens: int
    arrival: float
    started: float = math.nan
    """The gate let it go."""
    first: float = math.nan
    """Its first token."""
    ended: float = math.nan
    """Its last token, or its refusal."""


class Quantity(StrEnum):
    """What is compared."""

    WAITING = "waiting"
    """Mean requests that wait at the gate."""
    PREFILL = "prefill"
    """Mean requests between their start and their first token."""
    DECODE = "decode"
    TTFT = "TTFT"
    """Mean seconds from arrival to first token."""


_STAGES = {
    Quantity.WAITING: ("arrival", "started"),
    Quantity.PREFILL: ("started", "first"),
    Quantity.DECODE: ("first", "ended"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One quantity of one class."""

    klass: str
    quantity: Quantity
    measured: Interval
    simulated: float
    occupancy: float
    """Measured mean requests that the quantity rests on: for TTFT those before their first token."""
    tolerance: float

    @property
    def difference(self) -> float:
        """Relative to what was measured."""
        return (self.simulated - self.measured.mean) / self.measured.mean if self.measured.mean else math.nan

    @property
    def by_interval(self) -> bool:
        """Whether there is too little for a relative difference."""
        return self.occupancy < ENOUGH

    @property
    def agrees(self) -> bool:
        """Within the tolerance, or inside the interval where there is little."""
        if self.by_interval:
            return self.measured.covers(self.simulated)
        return abs(self.difference) <= self.tolerance


def workload_of(passages: Sequence[Passage], classes: tuple[str, ...], *, settle_seconds: float = 60.0) -> Workload:
    """The recorded arrivals and lengths as a workload that ends ``settle_seconds`` after the last arrival."""
    ordered = sorted(passages, key=lambda passage: passage.arrival)
    requests = blank(len(ordered))
    requests["arrival"] = [passage.arrival for passage in ordered]
    requests["klass"] = [classes.index(passage.klass) for passage in ordered]
    requests["prompt"] = requests["work"] = [passage.prompt_tokens for passage in ordered]
    requests["output"] = [passage.output_tokens for passage in ordered]
    horizon = ordered[-1].arrival + settle_seconds if ordered else settle_seconds
    return Workload(classes=classes, requests=requests, horizon_seconds=horizon)


def passages_of(record: Record) -> tuple[Passage, ...]:
    """What the simulator did with every request, in order of arrival."""
    names = record.setup.workload.classes
    rows = record.requests

    def moment(value: float) -> float:
        return float(value) if value >= 0.0 else math.nan

    return tuple(
        Passage(
            klass=names[int(row["klass"])],
            prompt_tokens=int(row["prompt"]),
            output_tokens=int(row["output"]),
            arrival=float(row["arrival"]),
            started=moment(row["started"]),
            first=moment(row["first"]),
            ended=moment(row["ended"]),
        )
        for row in rows
    )


def compare(
    measured: Sequence[Passage],
    simulated: Sequence[Passage],
    classes: tuple[str, ...],
    *,
    start: float,
    end: float,
    tolerance: float = TOLERANCE,
) -> tuple[Comparison, ...]:
    """Every quantity of every class over ``[start, end)`` seconds, with the interval of what was measured."""
    edges = np.linspace(start, end, BATCHES + 1)
    rows = []
    for name in classes:
        mine = [passage for passage in measured if passage.klass == name]
        theirs = [passage for passage in simulated if passage.klass == name]
        occupancies = {}
        for quantity, (since, until) in _STAGES.items():
            interval = interval_of(_occupancy(mine, since, until, edges))
            occupancies[quantity] = interval.mean
            rows.append(
                Comparison(
                    klass=name,
                    quantity=quantity,
                    measured=interval,
                    simulated=float(_occupancy(theirs, since, until, edges).mean()),
                    occupancy=interval.mean,
                    tolerance=tolerance,
                )
            )
        batches, mean = _ttft(mine, edges)
        rows.append(
            Comparison(
                klass=name,
                quantity=Quantity.TTFT,
                measured=Interval(mean, interval_of(batches).half_width),
                simulated=_ttft(theirs, edges)[1],
                occupancy=occupancies[Quantity.WAITING] + occupancies[Quantity.PREFILL],
                tolerance=tolerance,
            )
        )
    return tuple(rows)


def table(rows: Sequence[Comparison]) -> str:
    """The comparison for people, one line per class and quantity."""
    lines = [f"{'class':8} {'quantity':9} {'measured':>20} {'simulated':>10} {'difference':>10}  verdict"]
    for row in rows:
        rule = "95 % interval" if row.by_interval else f"{row.tolerance:.0%}"
        verdict = f"{'agrees' if row.agrees else 'DIFFERS'} ({rule})"
        figures = f"{row.measured!s:>20} {row.simulated:10.4g} {row.difference:+10.1%}"
        lines.append(f"{row.klass:8} {row.quantity:9} {figures}  {verdict}")
    return "\n".join(lines)


def _times(passages: Sequence[Passage], field: str) -> Floats:
    return np.array([getattr(passage, field) for passage in passages], dtype=np.float64)


def _occupancy(passages: Sequence[Passage], since: str, until: str, edges: Floats) -> Floats:
    """Mean requests between two moments, by batch; what never left its stage ended when the request did."""
    begin, leave, ended = _times(passages, since), _times(passages, until), _times(passages, "ended")
    leave = np.where(np.isnan(leave), ended, leave)
    leave = np.where(np.isnan(leave), math.inf, leave)
    known = ~np.isnan(begin)
    begin, leave = begin[known], leave[known]
    inside = [
        np.maximum(0.0, np.minimum(leave, right) - np.maximum(begin, left)).sum() / (right - left)
        for left, right in itertools.pairwise(edges)
    ]
    return np.array(inside, dtype=np.float64)


def _ttft(passages: Sequence[Passage], edges: Floats) -> tuple[Floats, float]:
    """Mean TTFT by batch of arrivals (batches without any are left out), and over all."""
    arrival, first = _times(passages, "arrival"), _times(passages, "first")
    chosen = (arrival >= edges[0]) & (arrival < edges[-1]) & ~np.isnan(first)
    arrival, waited = arrival[chosen], (first - arrival)[chosen]
    counts, _ = np.histogram(arrival, bins=edges)
    sums, _ = np.histogram(arrival, bins=edges, weights=waited)
    return sums[counts > 0] / counts[counts > 0], float(waited.mean()) if len(waited) else math.nan
