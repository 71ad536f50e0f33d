"""How often changes may drive passes of one fleet: at once a few times, then once a second. Pure.

A roll-out of hundreds of Pods changes the world several times a second for minutes. Each pass
would plan, write and tell for a moment's number of replicas. A person who applies three objects
should see the plan for all of them at once, all the same.

The figures are constants and no fields of a fleet: they bound the operator's own work, which no
fleet's owner pays for, and no change waits for more than about a second.
"""

from __future__ import annotations

from dataclasses import dataclass

PROMPT_PASSES = 3
"""Passes that may follow changes without a pause, after a quiet time."""
INTERVAL_SECONDS = 1.0
"""Between passes that changes drive, once the prompt ones are used up; each such time earns one back."""


@dataclass(slots=True)
class Pace:
    """A bucket of prompt passes. Times are monotonic seconds."""

    prompt_passes: int = PROMPT_PASSES
    interval_seconds: float = INTERVAL_SECONDS
    _left: float = 0.0
    _since: float | None = None

    def take(self, now: float) -> float:
        """Take one pass; the seconds to wait before it."""
        elapsed = float("inf") if self._since is None else now - self._since
        self._left = min(self.prompt_passes, self._left + elapsed / self.interval_seconds) - 1.0
        self._since = now
        return max(0.0, -self._left * self.interval_seconds)
