"""Watches the promise to do no harm against the engines' own word.

The state machine cannot break the invariant by its own account. Its account can be wrong: a
lost event, a wrong budget, an engine that was replaced. So what is watched here is what the
engines report: something waits, and an engine that may serve it has had nothing at all to do
since well after the last start there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

from sluice.gate.engines import READING_AGE_SECONDS, Engine

SETTLE_SECONDS = 1.0
"""A request needs so long at most from the proxy to the engine's gauges."""
PATIENCE_SECONDS = 5.0
"""After so many seconds of harm in a row the gate stops holding."""


class WaitingLane(Protocol):
    """A class with something in its queue."""

    def may_use(self, engine: Engine) -> bool:
        """Whether the class may be prefilled there."""
        ...


class HarmWatch:
    """Seconds in which something waited while something idled."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.tripped = False
        self._streak = 0.0
        self._last = math.nan
        self._idle_since: dict[str, float] = {}

    def tick(self, waiting: Iterable[WaitingLane], engines: Iterable[Engine], now: float) -> bool:
        """Account for the time since the last tick; True once, when patience is over."""
        elapsed = 0.0 if math.isnan(self._last) else max(0.0, now - self._last)
        self._last = now
        lanes = list(waiting)
        known = list(engines)
        idle = [engine for engine in known if self._idles(engine, now)]
        if len(self._idle_since) > len(known):
            names = {engine.terms.name for engine in known}
            self._idle_since = {name: since for name, since in self._idle_since.items() if name in names}
        if not any(lane.may_use(engine) for lane in lanes for engine in idle):
            self._streak = 0.0
            return False
        self.seconds += elapsed
        self._streak += elapsed
        if self._streak < PATIENCE_SECONDS or self.tripped:
            return False
        self.tripped = True
        return True

    def _idles(self, engine: Engine, now: float) -> bool:
        """Whether a fresh reading shows nothing to do, and did so for longer than a request is under way."""
        reading = engine.reading
        busy = reading is None or now - engine.read_at > READING_AGE_SECONDS or reading.running > 0
        if busy or reading is None or reading.waiting > 0 or not engine.terms.ready:
            self._idle_since.pop(engine.terms.name, None)
            return False
        since = self._idle_since.setdefault(engine.terms.name, now)
        return now - since >= SETTLE_SECONDS and now - engine.last_start >= SETTLE_SECONDS
