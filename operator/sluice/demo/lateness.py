"""How late timers fire: whether the machine was too busy for its figures to be trusted. Pure.

Everything here happens in real time, so a machine that is busy with something else changes
what is measured: requests are sent late and simulated iterations end late. Both processes
count how late, and a run whose figures were taken on a busy machine says so.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

METRIC = "simulated_replica_late_seconds"
BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds."""
TRUSTED_SECONDS = 0.02
"""Where one timer in a hundred is later than this, TTFT figures of a tenth of a second are the machine's own."""


@dataclass(slots=True)
class Lateness:
    """A histogram of how late things were done."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total_seconds: float = 0.0

    @property
    def number(self) -> int:
        """Things counted."""
        return sum(self.counts)

    def add(self, seconds: float) -> None:
        """One more, in seconds after its time."""
        late = max(0.0, seconds)
        self.counts[bisect_left(BOUNDS, late)] += 1
        self.total_seconds += late

    def quantile(self, share: float) -> float:
        """Seconds within which ``share`` of all were done, at most: a bound of the histogram; 0 of nothing."""
        wanted, seen = share * self.number, 0
        for bound, count in zip((*BOUNDS, math.inf), self.counts, strict=True):
            seen += count
            if seen >= wanted:
                return bound if self.number else 0.0
        return math.inf

    @property
    def trusted(self) -> bool:
        """Whether the machine kept up."""
        return self.quantile(0.99) <= TRUSTED_SECONDS

    def lines(self) -> list[str]:
        """A Prometheus histogram."""
        result = [
            f"# HELP {METRIC} How late simulated iterations end, by the machine and not by the law.",
            f"# TYPE {METRIC} histogram",
        ]
        seen = 0
        for bound, count in zip((*(str(bound) for bound in BOUNDS), "+Inf"), self.counts, strict=True):
            seen += count
            result.append(f'{METRIC}_bucket{{le="{bound}"}} {seen}')
        return [*result, f"{METRIC}_count {seen}", f"{METRIC}_sum {self.total_seconds}"]


def read(expositions: Iterable[str]) -> Lateness:
    """The sum of what several replicas expose."""
    result = Lateness()
    for text in expositions:
        before = 0
        for number, bound in enumerate((*(str(bound) for bound in BOUNDS), "+Inf")):
            head = f'{METRIC}_bucket{{le="{bound}"}} '
            cumulated = next((int(line[len(head) :]) for line in text.splitlines() if line.startswith(head)), before)
            result.counts[number] += cumulated - before
            before = cumulated
    return result
