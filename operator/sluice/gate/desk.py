"""The gate at run time: the pure machine, a clock, and the futures of those who wait.

Everything runs on one event loop, so the machine needs no lock: an event is taken, its
effects are carried out, and only then the next one is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring_ascii as _quoted

from sluice.gate.decision_log import DecisionLog, wall_clock
from sluice.gate.engines import Reading
from sluice.gate.meters import Meters
from sluice.gate.request import Effects, Phase, Refusal, Request
from sluice.gate.state import Gate
from sluice.gate.terms import GateTerms
from sluice.gate.tracing import Tracer

TICK_SECONDS = 0.05
FLUSH_SECONDS = 0.5
"""How often the log is written."""

Ticket = asyncio.Future[Refusal | None]


class Desk:
    """Carries requests to the machine and its decisions back."""

    def __init__(
        self, gate: Gate, meters: Meters, log: DecisionLog, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.gate = gate
        self.meters = meters
        meters.gate = gate
        self.clock = clock
        self.killed = False
        """Kill switch: requests are not even looked at."""
        self.empty = asyncio.Event()
        """Set while nobody waits, as of the last tick."""
        self.tracer: Tracer | None = None
        """Where spans of waits go; None: nowhere."""
        self._log = log

    def arrive(self, request: Request) -> Refusal | None:
        """A request came; unless it is refused, it may go, or its phase says that it waits."""
        self.meters.arrived(request)
        effects = self.gate.on_arrival(request, request.arrival)
        self._carry_out(effects)
        return next((one for one in effects.refusals if one.request is request), None) if effects.refusals else None

    @staticmethod
    def wait(request: Request) -> Ticket:
        """What tells when a request that waits may go (None) or shall be refused."""
        ticket: Ticket = asyncio.get_running_loop().create_future()
        request.ticket = ticket
        return ticket

    def first_token(self, request: Request) -> None:
        """The first chunk of the answer's body came back."""
        now = self.clock()
        self.meters.first_token(request, now)
        self._carry_out(self.gate.on_first_chunk(request, now))

    def over(self, request: Request) -> None:
        """The stream of ``request`` is over, however."""
        if request.phase is Phase.OVER:
            return
        if request.phase is Phase.WAITING:
            self.meters.went_away(request)
            self._record(request, "Gone")
        self._carry_out(self.gate.on_end(request, self.clock()))

    def read(self, engine: str, reading: Reading) -> None:
        """Gauges of an engine."""
        self._carry_out(self.gate.on_reading(engine, reading, self.clock()))

    def answers_over(self, reports: Iterable[tuple[str, str]]) -> None:
        """Answers are over: (request id, address of the replica)."""
        self._carry_out(self.gate.on_answers_over(reports, self.clock()))

    def hear(self, *, reported: bool) -> None:
        """The proxy's reports of ends begin or cease."""
        self.gate.accounts.hear(reported=reported)

    def take_terms(self, terms: GateTerms, *, fresh: bool) -> None:
        """A new plan, new classes, other engines."""
        self.meters.fresh = fresh
        self._carry_out(self.gate.on_terms(terms, self.clock()))

    def tick(self) -> None:
        """Time passed."""
        self._carry_out(self.gate.on_tick(self.clock()))
        if self.gate.waiting:
            self.empty.clear()
        else:
            self.empty.set()

    async def run(self) -> None:
        """Tick, and write the log, for ever."""
        flushed = 0.0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tick()
            if self.clock() - flushed >= FLUSH_SECONDS:
                flushed = self.clock()
                self._log.flush()

    def close(self) -> None:
        """Write what is still to be written."""
        self._log.flush()

    def _carry_out(self, effects: Effects) -> None:
        for request in effects.starts:
            self.meters.started(request)
            self._record(request, "Started")
            self._wake(request, None)
        for refusal in effects.refusals:
            self.meters.refused(refusal)
            self._record(refusal.request, refusal.reason.value, refusal.retry_after_seconds)
            self._wake(refusal.request, refusal)

    @staticmethod
    def _wake(request: Request, word: Refusal | None) -> None:
        ticket = request.ticket
        if isinstance(ticket, asyncio.Future) and not ticket.done():
            ticket.set_result(word)

    def _record(self, request: Request, outcome: str, retry_after: float | None = None) -> None:
        """One line for ``sluice explain``, put together by hand: our own names need no escapes."""
        if self.tracer is not None and request.trace:
            waited = (request.started or self.clock()) - request.arrival
            self.tracer.add(request, outcome, waited, wall_clock(), self.gate.terms.plan_id)
        if not self._log.is_kept:
            return
        engine, terms = request.engine, self.gate.terms
        lane = self.gate.lanes.get(request.lane)
        waited = ((request.started or self.clock()) - request.arrival) * 1000.0
        charged = f'"{engine.terms.name}","engineUnfinishedTokens":{engine.unfinished_tokens:.0f}' if engine else "null"
        self._log.add(
            f'{{"id":{_quoted(request.request_id)},"time":{wall_clock():.3f},"class":"{request.lane}",'
            f'"outcome":"{outcome}","waitedMs":{waited:.1f},"promptTokens":{request.prompt_tokens:.0f},'
            f'"late":{_WORDS[request.late]},"attempt":{request.attempt},"plan":"{terms.plan_id}",'
            f'"policy":"{terms.policy.name}","holds":{_WORDS[self.gate.holds and request.gated]},'
            f'"waitingInClass":{lane.waiting if lane else 0},"retryAfter":{retry_after or 0:.1f},'
            f'"placed":{_WORDS[request.placed]},"engine":{charged}}}'
        )


_WORDS = {False: "false", True: "true"}
