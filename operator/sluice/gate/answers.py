"""Answers under way: which request holds a slot of which engine, from its start to the end of its answer.

The proxy reports ends by request id. Without reports only the newest requests are kept, for the
moment when reports begin; then an engine's gauges alone tell what it holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice

from sluice.gate.engines import Engine
from sluice.gate.request import Request

UNREPORTED_SECONDS = 10.0
"""Without reports a request is kept for so long."""
LONGEST_SECONDS = 3600.0
"""No answer takes longer: what is older was lost on its way here."""


class Answers:
    """Requests that were let go and whose answers are not known to be over."""

    def __init__(self) -> None:
        self.reported = False
        """Whether the proxy reports ends."""
        self.resident: Counter[str] = Counter()
        """Requests by engine; true while ends are reported."""
        self._under_way: dict[str, tuple[Request, Engine]] = {}
        self._excess: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, request: Request, engine: Engine) -> None:
        """A request goes to ``engine``."""
        if request.request_id not in self._under_way:  # ids that come twice count once
            self._under_way[request.request_id] = (request, engine)
            self.resident[engine.terms.name] += 1

    def end(self, request_id: str) -> tuple[Request, Engine] | None:
        """The answer of a request is over; None where it is not known."""
        found = self._under_way.pop(request_id, None)
        if found is not None:
            name = found[1].terms.name
            self.resident[name] -= 1
            if not self.resident[name]:
                del self.resident[name]  # replicas come and go for as long as the gate lives
                self._excess.pop(name, None)
        return found

    def hear(self, *, reported: bool) -> None:
        """Reports begin or cease; those that are missed in between would be kept for ever."""
        self.reported = reported
        if not reported:
            self._drop(list(self._under_way))

    def prune(self, now: float) -> None:
        """Forget what is too old to be true."""
        moment = now - (LONGEST_SECONDS if self.reported else UNREPORTED_SECONDS)
        old = []
        for request_id, (request, _) in self._under_way.items():
            if request.started > moment:
                break
            old.append(request_id)
        self._drop(old)

    def heal(self, engine: str, held: float) -> None:
        """An engine says that it holds ``held`` requests: what two readings in a row do not know was lost."""
        excess = max(0, self.resident[engine] - round(held))
        lost = min(excess, self._excess.get(engine, 0))
        self._excess.pop(engine, None)
        if excess > lost:
            self._excess[engine] = excess - lost
        if lost and self.reported:
            here = (key for key, (_, where) in self._under_way.items() if where.terms.name == engine)
            self._drop(list(islice(here, lost)))

    def _drop(self, request_ids: Iterable[str]) -> None:
        for request_id in request_ids:
            self.end(request_id)
