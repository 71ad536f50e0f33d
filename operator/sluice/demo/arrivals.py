"""Real arrivals and lengths, replayed at the rates of a scene. Pure: the seed is an argument.

Each class takes consecutive rows of its excerpt, from a row that the seed chooses. A phase
of the scene holds as many rows as its mean rate times its duration, and the rows' own gaps are
stretched or squeezed to fill it (on a ramp, less and less). So every phase has exactly the load
it announces, while lengths, their order and the burstiness inside a phase stay as they were in
the real service.
"""

from __future__ import annotations

import csv
import math
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
    body_bytes: int
    """Size of the request on the wire."""


BYTES_SPREAD = 0.15
"""Texts of one service take so many more or fewer bytes per token than its mean, relatively."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A phase of a run whose rate goes evenly from one value to another, requests per second."""

    seconds: float
    rate: float
    rate_at_end: float

    @property
    def requests(self) -> int:
        """How many it holds."""
        return round((self.rate + self.rate_at_end) / 2.0 * self.seconds)

    def moment(self, share: float) -> float:
        """When the given share (0..1) of its requests has come, seconds since its start."""
        # rate * x + (rate_at_end - rate) * x^2 / 2 = share * (rate + rate_at_end) / 2, in parts x of its length;
        # written without a difference in the denominator, so that an even rate is no special case.
        wanted = share * (self.rate + self.rate_at_end)
        root = math.sqrt(self.rate**2 + (self.rate_at_end - self.rate) * wanted)
        return self.seconds * wanted / (self.rate + root) if wanted else 0.0


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
    workload: str,
    rows: Sequence[Row],
    stretches: Sequence[Stretch],
    *,
    patience_seconds: float,
    bytes_per_token: float,
    seed: int,
) -> Iterator[Arrival]:
    """One class's arrivals, in order; patience is exponential with the given mean."""
    needed = sum(stretch.requests for stretch in stretches)
    if needed >= len(rows):
        raise ValueError(f"{workload}: {needed} requests are asked for, the excerpt holds {len(rows)} rows")
    draws = random.Random(f"{seed}/{workload}")  # noqa: S311 - a reproducible load, no secret
    sizes = random.Random(f"{seed}/{workload}/bytes")  # noqa: S311 - as above
    position = draws.randrange(len(rows) - needed)
    start = 0.0
    for stretch in stretches:
        count = stretch.requests
        block = rows[position : position + count + 1]
        origin, span = block[0].arrival_seconds, max(block[-1].arrival_seconds - block[0].arrival_seconds, 1e-9)
        for row in block[:count]:
            size = bytes_per_token * (1.0 + BYTES_SPREAD * sizes.uniform(-1.0, 1.0))
            yield Arrival(
                at_seconds=start + stretch.moment((row.arrival_seconds - origin) / span),
                workload=workload,
                prompt_tokens=row.prompt_tokens,
                output_tokens=row.output_tokens,
                patience_seconds=draws.expovariate(1.0 / patience_seconds),
                body_bytes=round(size * row.prompt_tokens),
            )
        position += count
        start += stretch.seconds
