"""How fast prompt tokens leave the queue: measured while something waits, smoothed over some seconds."""

from __future__ import annotations

WINDOW_SECONDS = 1.0
SMOOTHING = 0.3
"""Share of the newest window in the estimate."""


class Drain:
    """Prefilled tokens per second while engines are busy; 0 until a whole busy window was seen."""

    def __init__(self) -> None:
        self.rate = 0.0
        self._tokens = 0.0
        self._since: float | None = None

    def add(self, tokens: float) -> None:
        """So many tokens were prefilled."""
        self._tokens += tokens

    def tick(self, now: float, *, busy: bool) -> None:
        """Close a window; one in which nothing waited says nothing about capacity."""
        if not busy or self._since is None:
            self._since, self._tokens = (now if busy else None), 0.0
            return
        elapsed = now - self._since
        if elapsed < WINDOW_SECONDS:
            return
        measured = self._tokens / elapsed
        self.rate = measured if self.rate == 0.0 else self.rate + SMOOTHING * (measured - self.rate)
        self._since, self._tokens = now, 0.0
