"""Real arrivals and lengths, replayed at the rates of a scene. Pure: the seed is an argument.

Each class takes consecutive rows of its excerpt, from a row that the seed chooses. A phase
of the scene holds as many rows as rate times duration, and the rows' own gaps are stretched
or squeezed to fill it. So every phase has exactly the load it announces, while lengths, their
order and the burstiness inside a phase stay as they were in the real service.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

_DATA = resources.files("sluice.demo") / "data"


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a real service."""

    arrival_seconds: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request to be sent."""

    at_seconds: float
    """Since the start of the run."""
    workload: str
    """Class."""
    prompt_tokens: int
    output_tokens: int
    patience_seconds: float
    """The client goes away when it has waited so long for its first token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A phase of a run at constant rate."""

    seconds: float
    rate: float
    """Requests per second."""


def excerpt(name: str) -> tuple[Row, ...]:
    """The rows of ``data/<name>.csv``."""
    with (_DATA / f"{name}.csv").open(encoding="utf-8") as file:
        return tuple(
            Row(
                arrival_seconds=int(row["arrival_ms"]) / 1000.0,
                prompt_tokens=int(row["prompt_tokens"]),
                output_tokens=int(row["output_tokens"]),
            )
            for row in csv.DictReader(file)
        )


def replay(
    workload: str, rows: Sequence[Row], stretches: Sequence[Stretch], patience_seconds: float, seed: int
) -> Iterator[Arrival]:
    """One class's arrivals, in order; patience is exponential with the given mean."""
    needed = sum(round(stretch.rate * stretch.seconds) for stretch in stretches)
    if needed >= len(rows):
        raise ValueError(f"{workload}: {needed} requests are asked for, the excerpt holds {len(rows)} rows")
    draws = random.Random(f"{seed}/{workload}")  # noqa: S311 - a reproducible load, no secret
    position = draws.randrange(len(rows) - needed)
    start = 0.0
    for stretch in stretches:
        count = round(stretch.rate * stretch.seconds)
        block = rows[position : position + count + 1]
        origin, span = block[0].arrival_seconds, max(block[-1].arrival_seconds - block[0].arrival_seconds, 1e-9)
        for row in block[:count]:
            yield Arrival(
                at_seconds=start + (row.arrival_seconds - origin) / span * stretch.seconds,
                workload=workload,
                prompt_tokens=row.prompt_tokens,
                output_tokens=row.output_tokens,
                patience_seconds=draws.expovariate(1.0 / patience_seconds),
            )
        position += count
        start += stretch.seconds
