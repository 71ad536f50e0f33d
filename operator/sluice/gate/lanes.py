"""One class at run time: what of it waits, and what is in prefill."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sluice.gate.engines import Engine
from sluice.gate.fair_queue import FairQueue
from sluice.gate.request import Request
from sluice.gate.terms import ClassTerms

NO_ENGINE_SECONDS = 5.0
"""A class whose last replica is gone waits for so long, as long as the gate is patient with harm; then it passes.

A list that is read anew, the last Pod of a rollout, a probe that fails once: shorter, and proxies have
nobody to send to either. What is longer may be the gate's own blindness.
"""
RELEASE_TICKS = 10
"""A queue that need not wait any longer is let go in so many ticks, not at once."""


@dataclass(slots=True, eq=False)
class Lane:
    """One class at run time."""

    number: int
    terms: ClassTerms
    live: FairQueue = field(default_factory=FairQueue)
    late: FairQueue = field(default_factory=FairQueue)
    in_prefill: int = 0
    head_latest: float = math.inf
    no_engine_since: float = -math.inf
    """When the last replica that the class may use went; inf: there is one, -inf: there never was."""
    release_quota: int = 0
    """Requests that go per tick, for want of an engine."""

    def __iter__(self) -> Iterator[Request]:
        yield from self.live
        yield from self.late

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self.live) + len(self.late)

    @property
    def tokens(self) -> float:
        """Prompt tokens that wait."""
        return self.live.tokens + self.late.tokens

    def may_use(self, engine: Engine) -> bool:
        """Whether the class may be prefilled there."""
        return not self.terms.pools or engine.terms.pool in self.terms.pools

    @property
    def has_engine(self) -> bool:
        """Whether a ready replica is known that the class may use."""
        return self.no_engine_since == math.inf

    def is_unserved(self, now: float) -> bool:
        """Whether no replica has been known for so long that nothing waits for one."""
        return now - self.no_engine_since >= NO_ENGINE_SECONDS

    def look_for_engines(self, engines: Iterable[Engine], now: float) -> None:
        """Other replicas are known from ``now`` on."""
        if any(engine.terms.ready and self.may_use(engine) for engine in engines):
            self.no_engine_since, self.release_quota = math.inf, 0
        elif self.has_engine:
            self.no_engine_since = now

    def release(self, now: float) -> int:
        """How many go in this tick for want of an engine."""
        if not self.is_unserved(now):
            return 0
        self.release_quota = max(self.release_quota, -(-self.waiting // RELEASE_TICKS))
        return self.release_quota

    def of_key(self, key: str) -> int:
        """How many of one fairness key wait."""
        return self.live.of_key(key) + self.late.of_key(key)

    def pull(self, request: Request) -> None:
        """Take ``request`` out wherever it stands."""
        if not self.live.remove(request):
            self.late.remove(request)
