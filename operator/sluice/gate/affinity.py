"""How often a request came to the engine that served its key last: what its prefix cache can be worth.

Counted apart for requests that the gate placed and for those that the proxy did, so that both
can be compared. Engines also count the prompt tokens they looked up in their cache and found
there; these are taken over as they come, apart in the same way.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from enum import StrEnum

REMEMBERED_KEYS = 50_000


class Served(StrEnum):
    """Where a key's request went, relative to the one before it."""

    FIRST = "First"
    """The key is new, or was long ago."""
    SAME = "Same"
    OTHER = "Other"


class AffinityCounts:
    """Shares of requests, by key, and of tokens, by the engines' own counts."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, Served, bool]] = Counter()
        """By class, where it went, and whether the gate placed it."""
        self.queried_tokens: Counter[bool] = Counter()
        self.hit_tokens: Counter[bool] = Counter()
        self._last: OrderedDict[str, str] = OrderedDict()

    def served(self, lane: str, key: str, engine: str, *, placed: bool) -> None:
        """``engine`` serves a request of ``key``."""
        before = self._last.pop(key, None)
        self._last[key] = engine
        if len(self._last) > REMEMBERED_KEYS:
            self._last.popitem(last=False)
        where = Served.FIRST if before is None else Served.SAME if before == engine else Served.OTHER
        self.requests[lane, where, placed] += 1

    def looked_up(self, queried: float, hit: float, *, placed: bool) -> None:
        """An engine looked so many prompt tokens up in its cache, and found so many."""
        self.queried_tokens[placed] += round(queried)
        self.hit_tokens[placed] += round(hit)
