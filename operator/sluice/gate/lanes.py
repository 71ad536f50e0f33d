"""One class at run time: what of it waits, and what is in prefill."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from sluice.gate.engines import Engine
from sluice.gate.fair_queue import FairQueue
from sluice.gate.request import Request
from sluice.gate.terms import ClassTerms


@dataclass(slots=True, eq=False)
class Lane:
    """One class at run time."""

    number: int
    terms: ClassTerms
    live: FairQueue = field(default_factory=FairQueue)
    late: FairQueue = field(default_factory=FairQueue)
    in_prefill: int = 0
    head_latest: float = math.inf

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

    def of_key(self, key: str) -> int:
        """How many of one fairness key wait."""
        return self.live.of_key(key) + self.late.of_key(key)

    def pull(self, request: Request) -> None:
        """Take ``request`` out wherever it stands."""
        if not self.live.remove(request):
            self.late.remove(request)
