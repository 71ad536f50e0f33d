"""The gate as a pure state machine: events in, starts and refusals out; no clock, no I/O, no randomness.

    on_arrival      a request's headers came       -> start, wait or refuse
    on_first_chunk  its first token came back      -> its budget is free
    on_end          its stream ended without one   -> its place or its budget is free
    on_tick         time passed                    -> ages, estimates, promises
    on_terms        a new plan, other engines      -> another order
    on_reading      an engine's gauges             -> slots, KV memory and queues
    on_answers_over the proxy's reports            -> slots and KV memory

**Do no harm.** After every event nothing waits that an eligible engine could take: a request
is put in its queue, admission runs, and only what then still waits may be refused. A class of
which no replica is known is not held at all (``lanes.NO_ENGINE_SECONDS``): the gate may be the
one that does not see.

What was let go, and which engine holds it, is in ``accounts``; here is what waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from sluice.gate.accounts import Accounts
from sluice.gate.engines import Engine, Reading
from sluice.gate.harm import HarmWatch
from sluice.gate.lane_table import LaneTable
from sluice.gate.lanes import RELEASE_TICKS, Lane
from sluice.gate.placing import Placement, least_loaded, room_at_hand
from sluice.gate.refusals import aged, over_bounds, refuse
from sluice.gate.request import Effects, Freed, Phase, Refused, Request
from sluice.gate.scarcity import Scarcity, scarcity, short_of_prefill
from sluice.gate.terms import GateTerms
from sluice.policy.kernels import Late


class Gate:
    """The whole state, and what every event does to it."""

    def __init__(self, terms: GateTerms, *, holds: bool = True) -> None:
        self.terms = terms
        self.lanes: dict[str, Lane] = {}
        self.accounts = Accounts()
        self.holds = holds
        """False: nothing is held (shadow, kill switch); everything is still accounted for."""
        self.harm = HarmWatch()
        self._placement = Placement()
        self._queued = 0
        self._release_quota = 0
        self._longest_prompt = math.inf
        """Tokens that fit the memory of the largest engine, whatever length a client declares."""
        self._short = Scarcity()
        """What engines lacked at the last tick."""
        self._table = LaneTable(terms.policy, terms.lanes)
        self._take(terms, -math.inf)

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The replicas by address."""
        return self.accounts.engines

    @property
    def waiting(self) -> int:
        """Requests that wait, of all classes."""
        return self._queued

    @property
    def in_prefill(self) -> int:
        """Requests that hold budget."""
        return len(self.accounts.in_prefill)

    @property
    def unserved(self) -> frozenset[str]:
        """Classes of which no replica is known that they may use."""
        return frozenset(name for name, lane in self.lanes.items() if not lane.has_engine)

    def usable(self, lane: Lane) -> list[Engine]:
        """The ready replicas that a class may use."""
        return [engine for engine in self.engines.values() if engine.terms.ready and lane.may_use(engine)]

    def on_arrival(self, request: Request, now: float) -> Effects:
        """A request's headers came; its lane must be one of the terms'."""
        self.watch(now)
        effects = Effects([], [])
        lane = self.lanes[request.lane]
        request.prompt_tokens = min(request.prompt_tokens, self._longest_prompt)
        closed, unserved = request.lane in self.terms.closed, lane.is_unserved(now)
        if closed and self.holds and request.gated:
            effects.refusals.append(refuse(lane, request, Refused.CLASS_CLOSED))
            return effects
        if unserved or not (self.holds and request.gated):
            open_ = self._open_for(lane, now)
            # Not held; what an exact gate would have done is counted.
            request.would_wait = closed or (not unserved and (not open_ or lane.waiting > 0))
            engine = self._place(lane, request, open_ or self.usable(lane), now)
            self._table.accrue(now)
            self._start(lane, request, engine, now, effects)
            return effects
        if not self._queued and self._start_at_once(lane, request, now, effects):
            return effects
        self._enqueue(lane, request)
        self._admit(now, effects)
        if request.phase is Phase.WAITING:
            wait = self.predicted_wait_seconds(lane) if lane.has_engine else 0.0
            if reason := over_bounds(lane, request, wait):
                self._leave_queue(lane, request)
                effects.refusals.append(refuse(lane, request, reason, wait))
        return effects

    def on_first_chunk(self, request: Request, now: float) -> Effects:
        """The first token came back."""
        self.watch(now)
        effects = Effects([], [])
        if request.phase is Phase.PREFILL:
            self._free(request, Freed.FIRST_CHUNK)
        request.phase = Phase.OVER
        self._admit(now, effects)
        return effects

    def on_end(self, request: Request, now: float) -> Effects:
        """The stream is over: an answer without a body, an error, a client that went away."""
        self.watch(now)
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
        self.watch(now)
        self.accounts.tick(now, busy=self.waiting > 0)
        if self._table.watches:
            self._short = scarcity(self.engines.values(), now)
        for request, how in self.accounts.overdue(now, self.terms):
            self._free(request, how)
            request.phase = Phase.RELEASED
        self._admit(now, effects)
        if self.holds:
            self._expire(now, effects)
        self._let_go(now, effects)
        waiting = [lane for lane in self.lanes.values() if lane.waiting]
        if self.holds and self.harm.tick(waiting, self.engines.values(), now):
            self.set_holding(False)
        return effects

    def on_terms(self, terms: GateTerms, now: float) -> Effects:
        """A new plan, other classes, other engines: what waits and what runs stays."""
        effects = Effects([], [])
        before, self._table = self._table, LaneTable(terms.policy, terms.lanes)
        self._table.take_over(before)
        self._take(terms, now)
        if self.engines:
            self._admit(now, effects)
        return effects

    def on_reading(self, engine: str, reading: Reading, now: float) -> Effects:
        """An engine's gauges."""
        self.watch(now)
        effects = Effects([], [])
        if self.accounts.read(engine, reading, now):
            self._admit(now, effects)
        return effects

    def on_answers_over(self, reports: Iterable[tuple[str, str]], now: float) -> Effects:
        """Answers are over, by the proxy's report: (request id, address of the replica that gave it)."""
        self.watch(now)
        effects = Effects([], [])
        self.accounts.over(reports, self.lanes)
        self._admit(now, effects)
        return effects

    def watch(self, now: float) -> None:
        """Let prices follow what has kept engines closed since the last event, if anything waited that is not late.

        Every event does so first: prefill budgets are counted as they were in between, slots and memory as
        of the last tick.
        """
        if not self._table.watches:
            return
        short = None
        if self._queued and any(lane.live for lane in self.lanes.values()):
            prefill = short_of_prefill(self.engines.values())
            short = Scarcity(prefill, self._short.slots, self._short.memory)
        self._table.watch(short, now)

    def set_holding(self, holds: bool) -> None:
        """Hold again, or hold nothing any more: what waits then goes within ten ticks."""
        self.holds = holds
        self._release_quota = 0 if holds else -(-self.waiting // RELEASE_TICKS)

    def predicted_wait_seconds(self, lane: Lane) -> float:
        """Time until what goes before the lane's newest request has been prefilled, at the rate of late."""
        rate = self.accounts.tokens_per_second()
        ahead = sum(other.live.tokens for other in self.lanes.values() if self._goes_before(other, lane))
        return ahead / rate if rate > 0 else 0.0

    def eligible_engine_idle(self, now: float) -> bool:
        """Whether the invariant is broken: something waits that an open engine could take."""
        return any(lane.waiting and self._open_for(lane, now) for lane in self.lanes.values())

    def _take(self, terms: GateTerms, now: float) -> None:
        """Take over lanes and engines; what is gone stays as long as requests hold on to it."""
        self.terms = terms
        lanes = {}
        for number, entry in enumerate(terms.classes):
            lane = self.lanes.get(entry.name) or Lane(number, entry)
            lane.number, lane.terms = number, entry
            lanes[entry.name] = lane
        orphans = [request for name, lane in self.lanes.items() if name not in lanes for request in lane]
        if orphans and not lanes:
            raise ValueError("terms without a class, while requests wait")
        old = self.lanes
        self.lanes = lanes
        for request in orphans:
            old[request.lane].pull(request)
            request.lane = next(reversed(lanes))  # a class that is gone waits with the last one
            lanes[request.lane].live.push(request)
        self.accounts.take(terms, now)
        self._longest_prompt = max((one.kv_token_capacity or math.inf for one in terms.engines), default=math.inf)
        for lane in self.lanes.values():
            lane.in_prefill = 0
            lane.look_for_engines(self.engines.values(), now)
        for request in self.accounts.in_prefill:
            if request.lane in self.lanes:
                self.lanes[request.lane].in_prefill += 1
        self._table.count_engines(sum(engine.terms.ready for engine in self.engines.values()))
        for lane in self.lanes.values():
            self._table.set(lane.number, "in_prefill", lane.in_prefill)
            self._table.show(lane)

    def _start_at_once(self, lane: Lane, request: Request, now: float, effects: Effects) -> bool:
        """Nobody waits: every policy would take the one that comes, if any engine is open to it."""
        open_ = self._open_for(lane, now)
        if not open_:
            return False
        self._table.accrue(now)
        if self.terms.policy.late is not Late.IGNORE:
            latest = self._table.latest_start(lane.number, request.arrival, request.prompt_tokens)
            request.late = latest < now
        self._start(lane, request, self._place(lane, request, open_, now), now, effects)
        return True

    def _enqueue(self, lane: Lane, request: Request) -> None:
        request.phase = Phase.WAITING
        self._queued += 1
        lane.live.push(request)
        self._table.show(lane)

    def _leave_queue(self, lane: Lane, request: Request) -> None:
        request.phase = Phase.OVER
        self._queued -= 1
        lane.pull(request)
        self._table.show(lane)

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
        hidden = self._table.hide_unservable(self.lanes.values(), open_)
        while open_ and (choice := self._choose(open_, now)):
            number, late = choice
            lane = self.lanes[self._table.names[number]]
            request = (lane.late if late else lane.live).pop()
            request.late = late
            self._table.show(lane)
            engine = self._place(lane, request, [one for one in open_ if lane.may_use(one)], now)
            self._start(lane, request, engine, now, effects)
            if engine is not None and not engine.is_open(now):
                open_.remove(engine)
            self._set_late_apart(now, effects)
            hidden = self._table.hide_unservable(self.lanes.values(), open_)
        for lane in hidden:
            self._table.show(lane)

    def _choose(self, open_: list[Engine], now: float) -> tuple[int, bool] | None:
        """(lane, whether its late head) that starts next; the timely order looks at the engine at hand."""
        return self._table.choose(now, room_at_hand(open_) if self._table.watches else 0.0)

    def _let_go(self, now: float, effects: Effects) -> None:
        """A tenth of what need not wait any longer, oldest class by class: of all, or of classes without an engine."""
        left = self._release_quota
        for lane in self.lanes.values():
            count = min(lane.release(now) if self.holds else left, lane.waiting)
            left -= count
            for _ in range(count):
                request = (lane.live if lane.live else lane.late).pop()
                engine = self._place(lane, request, self.usable(lane), now)
                self._start(lane, request, engine, now, effects)
            if count:
                self._table.show(lane)

    def _set_late_apart(self, now: float, effects: Effects) -> None:
        """Move heads that can no longer keep their promise; refuse them where the class asked for it."""
        if self.terms.policy.late is Late.IGNORE:
            return
        for lane in self.lanes.values():
            wait = self.predicted_wait_seconds(lane) if lane.head_latest < now and lane.terms.refuse_late else 0.0
            while lane.head_latest < now:
                request = lane.live.pop()
                request.late = True
                if lane.terms.refuse_late and lane.has_engine and not self._open_for(lane, now):
                    self._queued -= 1
                    effects.refusals.append(refuse(lane, request, Refused.PROMISE_LOST, wait))
                else:
                    lane.late.push(request)
                self._table.show(lane)

    def _start(self, lane: Lane, request: Request, engine: Engine | None, now: float, effects: Effects) -> None:
        """Let ``request`` go."""
        if request.phase is Phase.WAITING:
            self._queued -= 1
        self.accounts.start(request, engine, now, self.terms)
        lane.in_prefill += 1
        self._table.record_start(lane.number)
        effects.starts.append(request)

    def _free(self, request: Request, how: Freed) -> None:
        self.accounts.free(request, how)
        if lane := self.lanes.get(request.lane):
            lane.in_prefill -= 1
            self._table.set(lane.number, "in_prefill", lane.in_prefill)

    def _place(self, lane: Lane, request: Request, engines: Sequence[Engine], now: float) -> Engine | None:
        """One of ``engines``; None where there is none."""
        request.placed = bool(engines) and self.terms.places and self.holds and request.gated
        if request.placed:
            return self._placement.choose(lane, request, engines, self.engines.values(), now)
        return least_loaded(engines)

    def _expire(self, now: float, effects: Effects) -> None:
        """Refuse what waited as long as its class allows."""
        for lane in filter(lambda one: one.has_engine, self.lanes.values()):
            old = aged(lane, now)
            wait = self.predicted_wait_seconds(lane) if old else 0.0  # of the queue as it was: many may leave at once
            for request in old:
                self._leave_queue(lane, request)
                effects.refusals.append(refuse(lane, request, Refused.WAITED_TOO_LONG, wait))

    def _open_for(self, lane: Lane, now: float) -> list[Engine]:
        return [engine for engine in self.engines.values() if lane.may_use(engine) and engine.is_open(now)]

    def _goes_before(self, other: Lane, lane: Lane) -> bool:
        """Whether what waits in ``other`` goes before a new request of ``lane``."""
        return other is lane or self._table.rank(other.number) <= self._table.rank(lane.number)
