"""The gate as a pure state machine: events in, starts and refusals out; no clock, no I/O, no randomness.

    on_arrival      a request's headers came       -> start, wait or refuse
    on_first_chunk  its first token came back      -> its budget is free
    on_end          its stream ended without one   -> its place or its budget is free
    on_tick         time passed                    -> ages, estimates, promises
    on_terms        a new plan, other engines      -> another order
    on_reading      an engine's gauges             -> KV memory and queues

**Do no harm.** After every event nothing waits that an eligible engine could take: a request
is put in its queue, admission runs, and only what then still waits may be refused.

**Exactness.** An engine's account moves only in ``_start`` and ``_free``; each request passes
each of them at most once, whatever order the events come in.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from dataclasses import dataclass, field

from sluice.gate.calibration import Calibration
from sluice.gate.drain import Drain
from sluice.gate.engines import Engine, Reading
from sluice.gate.fair_queue import FairQueue
from sluice.gate.harm import HarmWatch
from sluice.gate.lane_table import LaneTable
from sluice.gate.request import Effects, Freed, Phase, Refusal, Refused, Request
from sluice.gate.terms import ClassTerms, GateTerms
from sluice.policy.kernels import Late, Order

LONGEST_RETRY_SECONDS = 60.0
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


class Gate:
    """The whole state, and what every event does to it."""

    def __init__(self, terms: GateTerms, *, holds: bool = True) -> None:
        self.terms = terms
        self.lanes: dict[str, Lane] = {}
        self.engines: dict[str, Engine] = {}
        self.holds = holds
        """False: nothing is held (shadow, kill switch); everything is still accounted for."""
        self.freed: Counter[Freed] = Counter()
        self.harm = HarmWatch()
        self.calibration = Calibration()
        self._in_prefill: dict[Request, None] = {}
        self._queued = 0
        self._release_quota = 0
        self._table = LaneTable(terms.policy, terms.lanes)
        self._drain = Drain()
        self._take(terms)

    @property
    def waiting(self) -> int:
        """Requests that wait, of all classes."""
        return self._queued

    @property
    def in_prefill(self) -> int:
        """Requests that hold budget."""
        return len(self._in_prefill)

    def on_arrival(self, request: Request, now: float) -> Effects:
        """A request's headers came; its lane must be one of the terms'."""
        effects = Effects([], [])
        lane = self.lanes[request.lane]
        if request.lane in self.terms.closed:
            effects.refusals.append(self._refuse(lane, request, Refused.CLASS_CLOSED, 0.0))
            return effects
        if not (self.holds and request.gated):
            open_ = self._open_for(lane, now)
            # Not held; what an exact gate would have done is counted.
            request.would_wait = not open_ or lane.waiting > 0
            engine = self._least_loaded(open_ or [e for e in self.engines.values() if lane.may_use(e)])
            self._table.accrue(now)
            self._start(lane, request, engine, now, effects)
            return effects
        if not self._queued and self._start_at_once(lane, request, now, effects):
            return effects
        self._enqueue(lane, request)
        self._admit(now, effects)
        if request.phase is Phase.WAITING and (refusal := self._over_bounds(lane, request)):
            self._leave_queue(lane, request)
            effects.refusals.append(refusal)
        return effects

    def on_first_chunk(self, request: Request, now: float) -> Effects:
        """The first token came back."""
        effects = Effects([], [])
        if request.phase is Phase.PREFILL:
            self._free(request, Freed.FIRST_CHUNK)
        request.phase = Phase.OVER
        self._admit(now, effects)
        return effects

    def on_end(self, request: Request, now: float) -> Effects:
        """The stream is over: an answer without a body, an error, a client that went away."""
        effects = Effects([], [])
        if request.phase is Phase.WAITING:
            self._leave_queue(self.lanes[request.lane], request)
        elif request.phase is Phase.PREFILL:
            self._free(request, Freed.ENDED)
        request.phase = Phase.OVER
        self._admit(now, effects)
        return effects

    def on_tick(self, now: float) -> Effects:
        """Time passed: call it some twenty times a second."""
        effects = Effects([], [])
        self._drain.tick(now, busy=self.waiting > 0)
        for engine in self.engines.values():
            engine.seen_at = now
        self._release_overdue(now)
        self._admit(now, effects)
        if self.holds:
            self._expire(now, effects)
        else:
            self._let_go(now, effects)
        waiting = [lane for lane in self.lanes.values() if lane.waiting]
        if self.holds and self.harm.tick(waiting, self.engines.values(), now):
            self.set_holding(False)
        return effects

    def on_terms(self, terms: GateTerms, now: float) -> Effects:
        """A new plan, other classes, other engines: what waits and what runs stays."""
        effects = Effects([], [])
        credit, accrued = self._table.credit(), self._table.accrued
        self._table = LaneTable(terms.policy, terms.lanes)
        self._table.remember(credit, accrued)
        self._take(terms)
        if self.engines:
            self._admit(now, effects)
        return effects

    def on_reading(self, engine: str, reading: Reading, now: float) -> Effects:
        """An engine's gauges."""
        effects = Effects([], [])
        if account := self.engines.get(engine):
            if (counted := account.counted_since(reading)) is not None:
                self.calibration.add(account.finished_tokens, counted)
            account.read(reading, now)
            self._admit(now, effects)
        return effects

    def set_holding(self, holds: bool) -> None:
        """Hold again, or hold nothing any more: what waits then goes within ten ticks."""
        self.holds = holds
        self._release_quota = 0 if holds else -(-self.waiting // RELEASE_TICKS)

    def predicted_wait_seconds(self, lane: Lane) -> float:
        """Time until what goes before the lane's newest request has been prefilled, at the rate of late."""
        rate = self._drain.rate or self._lawful_rate()
        ahead = sum(other.live.tokens for other in self.lanes.values() if self._goes_before(other, lane))
        return ahead / rate if rate > 0 else 0.0

    def eligible_engine_idle(self, now: float) -> bool:
        """Whether the invariant is broken: something waits that an open engine could take."""
        return any(lane.waiting and self._open_for(lane, now) for lane in self.lanes.values())

    def _take(self, terms: GateTerms) -> None:
        """Take over lanes and engines; what is gone stays as long as requests hold on to it."""
        self.terms = terms
        lanes = {}
        for number, entry in enumerate(terms.classes):
            lane = self.lanes.get(entry.name) or Lane(number, entry)
            lane.number, lane.terms = number, entry
            lanes[entry.name] = lane
        orphans = [request for name, lane in self.lanes.items() if name not in lanes for request in _everyone(lane)]
        if orphans and not lanes:
            raise ValueError("terms without a class, while requests wait")
        old = self.lanes
        self.lanes = lanes
        for request in orphans:
            lane = old[request.lane]
            self._pull(lane, request)
            request.lane = next(reversed(lanes))  # a class that is gone waits with the last one
            lanes[request.lane].live.push(request)
        engines = {}
        for replica in terms.engines:
            engine = self.engines.get(replica.name) or Engine(replica)
            engine.terms = replica
            engines[replica.name] = engine
        self.engines = engines  # an engine that is gone lives on in the requests that hold it
        for lane in self.lanes.values():
            lane.in_prefill = 0
        for request in self._in_prefill:
            if request.lane in self.lanes:
                self.lanes[request.lane].in_prefill += 1
        for lane in self.lanes.values():
            self._table.set(lane.number, "in_prefill", lane.in_prefill)
            self._show(lane)

    def _start_at_once(self, lane: Lane, request: Request, now: float, effects: Effects) -> bool:
        """Nobody waits: every policy would take the one that comes, if any engine is open to it."""
        open_ = self._open_for(lane, now)
        if not open_:
            return False
        self._table.accrue(now)
        if self.terms.policy.late is not Late.IGNORE:
            latest = self._table.latest_start(lane.number, request.arrival, request.prompt_tokens)
            request.late = latest < now
        self._start(lane, request, self._least_loaded(open_), now, effects)
        return True

    def _enqueue(self, lane: Lane, request: Request) -> None:
        request.phase = Phase.WAITING
        self._queued += 1
        lane.live.push(request)
        self._show(lane)

    def _leave_queue(self, lane: Lane, request: Request) -> None:
        request.phase = Phase.OVER
        self._queued -= 1
        self._pull(lane, request)
        self._show(lane)

    def _pull(self, lane: Lane, request: Request) -> None:
        if not lane.live.remove(request):
            lane.late.remove(request)

    def _show(self, lane: Lane) -> None:
        """Enter the lane's heads into the kernels' record."""
        table, number = self._table, lane.number
        table.set(number, "waiting", len(lane.live))
        table.set(number, "late", len(lane.late))
        lane.head_latest = math.inf
        if head := lane.live.head():
            lane.head_latest = table.latest_start(number, head.arrival, head.prompt_tokens)
            table.set(number, "head_arrival", head.arrival)
            table.set(number, "head_latest", lane.head_latest)
        if late := lane.late.head():
            table.set(number, "late_arrival", late.arrival)

    def _admit(self, now: float, effects: Effects) -> None:
        """Start what may start, in the policy's order, until no engine is open or nobody waits."""
        if not self._queued:
            return
        if not self.holds:
            return
        self._set_late_apart(now, effects)
        open_ = [engine for engine in self.engines.values() if engine.is_open(now)]
        if not open_:
            return
        self._table.accrue(now)
        hidden = self._hide_unservable(open_)
        while open_ and (choice := self._table.choose(now)):
            number, late = choice
            lane = self.lanes[self._table.names[number]]
            request = (lane.late if late else lane.live).pop()
            request.late = late
            self._show(lane)
            engine = self._least_loaded([one for one in open_ if lane.may_use(one)])
            self._start(lane, request, engine, now, effects)
            if engine is not None and not engine.is_open(now):
                open_.remove(engine)
            self._set_late_apart(now, effects)
            hidden = self._hide_unservable(open_)
        for lane in hidden:
            self._show(lane)

    def _hide_unservable(self, open_: list[Engine]) -> list[Lane]:
        """Hide lanes that none of the open engines may serve from the kernel; returns them."""
        pools = {engine.terms.pool for engine in open_}
        hidden = [
            lane
            for lane in self.lanes.values()
            if lane.waiting and lane.terms.pools and lane.terms.pools.isdisjoint(pools)
        ]
        for lane in hidden:
            self._table.set(lane.number, "waiting", 0)
            self._table.set(lane.number, "late", 0)
        return hidden

    def _let_go(self, now: float, effects: Effects) -> None:
        """Nothing is held any more: a tenth of the queue per tick, oldest class by class."""
        left = self._release_quota
        for lane in self.lanes.values():
            while left > 0 and lane.waiting:
                request = (lane.live if lane.live else lane.late).pop()
                left -= 1
                engine = self._least_loaded([e for e in self.engines.values() if lane.may_use(e)])
                self._start(lane, request, engine, now, effects)
            self._show(lane)

    def _set_late_apart(self, now: float, effects: Effects) -> None:
        """Move heads that can no longer keep their promise; refuse them where the class asked for it."""
        if self.terms.policy.late is Late.IGNORE:
            return
        for lane in self.lanes.values():
            moved = False
            while lane.head_latest < now:
                moved = True
                request = lane.live.pop()
                request.late = True
                if lane.terms.refuse_late and not self._open_for(lane, now):
                    self._queued -= 1
                    effects.refusals.append(self._refuse(lane, request, Refused.PROMISE_LOST, 0.0))
                else:
                    lane.late.push(request)
                self._show(lane)
            if moved:
                self._show(lane)

    def _start(self, lane: Lane, request: Request, engine: Engine | None, now: float, effects: Effects) -> None:
        """Let ``request`` go; without any engine known there is nothing to account for."""
        if request.phase is Phase.WAITING:
            self._queued -= 1
        request.phase, request.started, request.engine = Phase.PREFILL, now, engine
        self._in_prefill[request] = None
        lane.in_prefill += 1
        self._table.record_start(lane.number)
        request.release_at = math.inf
        if engine is not None:
            engine.start(request.prompt_tokens, now)
            seconds = engine.unfinished_tokens / engine.terms.prefill_tokens_per_second
            if seconds > 0:
                allowed = max(self.terms.release_floor_seconds, self.terms.release_factor * seconds)
                request.release_at = now + allowed
        effects.starts.append(request)

    def _free(self, request: Request, how: Freed) -> None:
        del self._in_prefill[request]
        self.freed[how] += 1
        if request.engine is not None:
            request.engine.finish(request.prompt_tokens, leaves=how is Freed.ENDED)
            if how is Freed.FIRST_CHUNK:
                request.engine.finished_tokens += request.prompt_tokens
        self._drain.add(request.prompt_tokens)
        if lane := self.lanes.get(request.lane):
            lane.in_prefill -= 1
            self._table.set(lane.number, "in_prefill", lane.in_prefill)

    def _release_overdue(self, now: float) -> None:
        """Free by the law's estimate, and at the hard deadline."""
        hard = now - self.terms.hard_deadline_seconds
        overdue = [one for one in self._in_prefill if one.release_at <= now or one.started <= hard]
        for request in overdue:
            self._free(request, Freed.ESTIMATE if request.release_at <= now else Freed.HARD_DEADLINE)
            request.phase = Phase.RELEASED

    def _expire(self, now: float, effects: Effects) -> None:
        """Refuse what waited as long as its class allows."""
        for lane in self.lanes.values():
            moment = now - lane.terms.max_wait_seconds
            for request in lane.live.older_than(moment) + lane.late.older_than(moment):
                self._leave_queue(lane, request)
                effects.refusals.append(self._refuse(lane, request, Refused.WAITED_TOO_LONG, 0.0))

    def _over_bounds(self, lane: Lane, request: Request) -> Refusal | None:
        """Why a request that cannot start now may not wait either."""
        terms = lane.terms
        if lane.waiting > terms.max_waiting:
            return self._refuse(lane, request, Refused.QUEUE_FULL, self.predicted_wait_seconds(lane))
        if request.key and lane.live.of_key(request.key) > max(1.0, terms.key_share * terms.max_waiting):
            return self._refuse(lane, request, Refused.KEY_SHARE, self.predicted_wait_seconds(lane))
        wait = self.predicted_wait_seconds(lane)
        if wait > terms.max_wait_seconds:
            return self._refuse(lane, request, Refused.WAIT_TOO_LONG, wait)
        return None

    def _refuse(self, lane: Lane, request: Request, reason: Refused, wait: float) -> Refusal:
        """A refusal with a time to come back that differs from request to request."""
        request.phase = Phase.OVER
        over = max(1.0, min(LONGEST_RETRY_SECONDS / 2, wait - lane.terms.max_wait_seconds))
        jitter = zlib.crc32(request.request_id.encode()) / 0xFFFFFFFF
        return Refusal(request, reason, over * (1.0 + jitter), wait)

    def _open_for(self, lane: Lane, now: float) -> list[Engine]:
        return [engine for engine in self.engines.values() if lane.may_use(engine) and engine.is_open(now)]

    def _lawful_rate(self) -> float:
        """Prefill tokens per second by the law; 0 where no law says so."""
        rates = [engine.terms.prefill_tokens_per_second for engine in self.engines.values() if engine.terms.ready]
        total = sum(rates)
        return total if math.isfinite(total) else 0.0

    def _goes_before(self, other: Lane, lane: Lane) -> bool:
        """Whether what waits in ``other`` goes before a new request of ``lane``."""
        if self.terms.policy.order not in (Order.BANDS, Order.INDEX) or other is lane:
            return True
        table = self._table
        ranks = [
            (
                table.get(one.number, "band") if self.terms.policy.order is Order.BANDS else 0.0,
                -table.get(one.number, "index"),
            )
            for one in (other, lane)
        ]
        return ranks[0] <= ranks[1]

    @staticmethod
    def _least_loaded(engines: list[Engine]) -> Engine | None:
        if len(engines) < 2:
            return engines[0] if engines else None
        return min(engines, key=lambda engine: (engine.unfinished_tokens, engine.unfinished_requests))


def _everyone(lane: Lane) -> list[Request]:
    return [*lane.live, *lane.late]
