"""How many requests hold a slot of an engine, between two readings of its gauges.

A reading says how many requests the engine holds. Since then the gate has let some go, which it
counts, and answers have ended. Ends are known exactly where the proxy reports them (its access
log); else they are expected, and expected on the side that lets no slot idle: as many as between
any two of the last readings. A reading heals whatever went wrong before it, so a report that is
lost, or one that comes after the reading that already shows it, is wrong for half a second.
"""

from __future__ import annotations

import math
from collections import deque

from sluice.model.gate import REPORT_SECONDS

POLL_SECONDS = 0.5
"""Time between two readings."""
REPORT_LAG_SECONDS = 2 * REPORT_SECONDS
"""An end is heard of so much later at most: the proxy gathers reports for half of it."""
REMEMBERED = 20
"""Intervals between readings whose ends are remembered: ten seconds."""


class Residents:
    """Requests that one engine holds: running and queued there."""

    __slots__ = ("_ends", "_resident", "_since", "ended", "started")

    def __init__(self) -> None:
        self._resident: float | None = None
        self._since = -math.inf
        self._ends: deque[float] = deque(maxlen=REMEMBERED)
        self.started = 0
        """Let go since the last reading."""
        self.ended = 0
        """Known to be over since the last reading."""

    def read(self, resident: float, now: float) -> None:
        """The engine says that it holds so many."""
        if self._resident is not None and now > self._since:
            ends = max(0.0, self._resident + self.started - resident)
            self._ends.append(ends * min(1.0, POLL_SECONDS / (now - self._since)))
        self._resident, self._since = resident, now
        self.started = self.ended = 0

    def taken(self, now: float, *, reported: bool) -> float | None:
        """Slots that are taken now, at the least; None before two readings. ``reported``: ends are heard of."""
        if self._resident is None or not self._ends:
            return None
        worst = max(self._ends)
        if reported:
            # What ended within the lag is not heard of yet.
            expected = self.ended + worst * REPORT_LAG_SECONDS / POLL_SECONDS
        else:
            expected = max(self.ended, worst * max(1.0, (now - self._since) / POLL_SECONDS))
        return max(0.0, self._resident + self.started - expected)
