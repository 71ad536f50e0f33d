"""What was let go: who holds which engine's budget, and whose answers are under way.

An engine's account moves only in ``start`` and ``free``; each request passes each of them at most
once, whatever order the events come in.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from sluice.gate.affinity import AffinityCounts
from sluice.gate.answers import Answers
from sluice.gate.calibration import Calibration
from sluice.gate.drain import Drain
from sluice.gate.engines import Engine, Reading
from sluice.gate.lanes import Lane
from sluice.gate.request import Freed, Phase, Request
from sluice.gate.terms import GateTerms


class Accounts:
    """Engines, and the requests that hold something of them."""

    def __init__(self) -> None:
        self.engines: dict[str, Engine] = {}
        self.in_prefill: dict[Request, None] = {}
        self.freed: Counter[Freed] = Counter()
        self.calibration = Calibration()
        self.answers = Answers()
        self.affinity = AffinityCounts()
        self.drain = Drain()
        self.misplaced = 0
        """Requests that the proxy, by its report, sent to another replica than the one named."""
        self._places = False
        self._departed: dict[str, Engine] = {}
        """Replicas that are gone and may return with what they held: a probe that fails, a list that is read anew."""

    def take(self, terms: GateTerms, now: float) -> None:
        """Other engines; one that is gone is kept aside while it holds something, and taken back by its name."""
        self._places = terms.places
        since = now if self.engines else -math.inf  # those that were there before the gate are not new
        known = self._departed | self.engines
        self.engines = {}
        for replica in terms.engines:
            engine = known.pop(replica.name, None) or Engine(replica, since=since)
            engine.terms = replica
            engine.ends_reported = self.answers.reported
            engine.seen_at = max(engine.seen_at, now)
            self.engines[replica.name] = engine
        self._departed = known

    def start(self, request: Request, engine: Engine | None, now: float, terms: GateTerms) -> None:
        """``request`` goes; without any engine known there is nothing to account for."""
        request.phase, request.started, request.engine = Phase.PREFILL, now, engine
        self.in_prefill[request] = None
        request.release_at = math.inf
        if engine is None:
            return
        engine.start(request.prompt_tokens, now)
        self.answers.begin(request, engine)
        if request.affinity and request.placed:
            self.affinity.served(request.lane, request.affinity, engine.terms.name, placed=True)
        seconds = engine.unfinished_tokens / engine.terms.prefill_tokens_per_second
        if seconds > 0:
            request.release_at = now + max(terms.release_floor_seconds, terms.release_factor * seconds)

    def free(self, request: Request, how: Freed) -> None:
        """The budget that ``request`` holds is free again."""
        del self.in_prefill[request]
        self.freed[how] += 1
        self.drain.add(request.prompt_tokens)
        if request.engine is not None:
            # Where the proxy reports ends, it reports this one too.
            leaves = how is Freed.ENDED and not self.answers.reported
            request.engine.finish(request.prompt_tokens, leaves=leaves)
            if how is Freed.FIRST_CHUNK:
                request.engine.count_finished(request.lane, request.prompt_tokens)

    def overdue(self, now: float, terms: GateTerms) -> list[tuple[Request, Freed]]:
        """What is to be freed by the law's estimate, and at the hard deadline."""
        hard = now - terms.hard_deadline_seconds
        return [
            (one, Freed.ESTIMATE if one.release_at <= now else Freed.HARD_DEADLINE)
            for one in self.in_prefill
            if one.release_at <= now or one.started <= hard
        ]

    def over(self, request_ids: Iterable[tuple[str, str]], lanes: dict[str, Lane]) -> None:
        """Answers are over, by the proxy's report: (request id, address of the replica that gave it)."""
        for request_id, address in request_ids:
            found = self.answers.end(request_id)
            if found is None:
                continue
            request, engine = found
            lane = lanes.get(request.lane)
            engine.leave(request.prompt_tokens + (lane.terms.mean_output_tokens if lane else 0.0))
            if request.placed:
                self.misplaced += address not in ("", engine.terms.name)
            elif request.affinity and address:
                self.affinity.served(request.lane, request.affinity, address, placed=False)

    def hear(self, *, reported: bool) -> None:
        """The proxy's reports begin or cease."""
        self.answers.hear(reported=reported)
        for engine in self.engines.values():
            engine.ends_reported = reported

    def read(self, name: str, reading: Reading, now: float) -> bool:
        """An engine's gauges; False where nobody knows it."""
        engine = self.engines.get(name)
        if engine is None:
            return False
        before = engine.reading
        if before is not None:
            if (counted := reading.finished_since(before)) is not None:
                self.calibration.add(engine.finished_tokens, counted)
            if (looked_up := reading.looked_up_since(before)) is not None:
                self.affinity.looked_up(*looked_up, placed=self._places)
        self.answers.heal(name, reading.running + reading.waiting + engine.residents.started)
        engine.read(reading, now)
        return True

    def tick(self, now: float, *, busy: bool) -> None:
        """Time passed."""
        self.drain.tick(now, busy=busy)
        self.answers.prune(now)
        for engine in self.engines.values():
            engine.seen_at = now
        if self._departed:
            self._departed = {name: one for name, one in self._departed.items() if one.is_remembered(now)}

    def tokens_per_second(self) -> float:
        """The rate of late at which prompts leave the queue, else the law's; 0 where no law says so."""
        if self.drain.rate:
            return self.drain.rate
        rates = [engine.terms.prefill_tokens_per_second for engine in self.engines.values() if engine.terms.ready]
        total = sum(rates)
        return total if math.isfinite(total) else 0.0
