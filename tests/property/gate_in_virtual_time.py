"""The gate's own machine before the demo's engines, in virtual time: what ``sluice gate`` does, without processes.

Both are pure, so a heap of events runs minutes of traffic in a second, to the digit the same every time.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace

from sluice.demo.engine import EngineRequest, EngineSettings, EngineState, Step, step, submit
from sluice.gate.request import Effects, Request
from sluice.gate.state import Gate
from sluice.gate.terms import GateTerms
from sluice.simulation.replay import Passage

TICK_SECONDS = 0.05


class VirtualFleet:
    """One gate and the engines that its terms name."""

    def __init__(
        self, terms: GateTerms, engine: EngineSettings, *, round_trip_seconds: float, ticks: bool = True
    ) -> None:
        self.gate = Gate(terms)
        self._ticks = ticks
        self.passages: dict[int, Passage] = {}
        self._settings = engine
        self._trip = round_trip_seconds
        self._states = {replica.name: EngineState() for replica in terms.engines}
        self._busy: set[str] = set()
        self._requests: dict[int, Request] = {}
        self._events: list[tuple[float, int, str, int | str, Step | None]] = []
        self._count = 0

    def run(self, offered: Sequence[Passage]) -> tuple[Passage, ...]:
        """Offer the arrivals and lengths of ``offered``; what became of each, in the same order."""
        for number, passage in enumerate(offered):
            self.passages[number] = replace(passage, started=float("nan"), first=float("nan"), ended=float("nan"))
            self._push(passage.arrival, "arrive", number)
        if self._ticks:
            self._push(0.0, "tick", 0)
        last = max(passage.arrival for passage in offered)
        while self._events:
            now, _, what, which, outcome = heapq.heappop(self._events)
            # A price near its floor depends a little on how often it moves: as often as in the simulator, at
            # every event, also those of which a real gate learns nothing.
            self.gate.watch(now)
            if what == "arrive":
                self._arrive(int(which), now)
            elif what == "deliver":
                self._deliver(int(which), now)
            elif what == "end" and outcome is not None:
                self._end(str(which), outcome, now)
            elif what == "tick" and (now < last or self._requests):
                self._carry_out(self.gate.on_tick(now), now)
                self._push(now + TICK_SECONDS, "tick", 0)
        return tuple(self.passages.values())

    def _push(self, at: float, what: str, which: int | str, outcome: Step | None = None) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, what, which, outcome))

    def _arrive(self, number: int, now: float) -> None:
        passage = self.passages[number]
        request = Request(str(number), passage.klass, now, float(passage.prompt_tokens))
        self._requests[number] = request
        self._carry_out(self.gate.on_arrival(request, now), now)

    def _carry_out(self, effects: Effects, now: float) -> None:
        for request in effects.starts:
            number = int(request.request_id)
            self.passages[number] = replace(self.passages[number], started=now)
            self._push(now + self._trip, "deliver", number)
        for refusal in effects.refusals:
            number = int(refusal.request.request_id)
            self.passages[number] = replace(self.passages[number], ended=now)
            del self._requests[number]

    def _deliver(self, number: int, now: float) -> None:
        engine = self._requests[number].engine
        assert engine is not None
        name, passage = engine.terms.name, self.passages[number]
        fresh = EngineRequest(key=number, prompt_tokens=passage.prompt_tokens, output_tokens=passage.output_tokens)
        self._states[name] = submit(self._states[name], self._settings, fresh)
        if name not in self._busy:
            self._turn(name, now)

    def _turn(self, name: str, now: float) -> None:
        """Run one iteration, or rest."""
        if self._states[name].idle:
            self._busy.discard(name)
            return
        self._busy.add(name)
        self._states[name], outcome = step(self._states[name], self._settings)
        self._push(now + outcome.seconds, "end", name, outcome)

    def _end(self, name: str, outcome: Step, now: float) -> None:
        for number in outcome.first:
            self.passages[number] = replace(self.passages[number], first=now)
            self._carry_out(self.gate.on_first_chunk(self._requests[number], now), now)
        for number in outcome.finished:
            self.passages[number] = replace(self.passages[number], ended=now)
            del self._requests[number]
        self._turn(name, now)
