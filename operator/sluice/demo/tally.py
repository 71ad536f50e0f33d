"""What clients saw, class by class: totals of a run and figures of the last seconds. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from sluice.demo.arrivals import Arrival
from sluice.demo.load import Event, Happening
from sluice.demo.scene import Scene

WINDOW_SECONDS = 10.0
"""Window of the live figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One class now: rates per second and means over the last ``WINDOW_SECONDS``."""

    offered: float
    refused: float
    in_flight: int
    """Sent and neither ended nor refused, as the clients count."""
    ttft_seconds: float | None
    tpot_seconds: float | None
    value: float
    """Dollars per second of answers that were completed."""
    good_value: float
    """The same, of those whose first token kept the promise."""


@dataclass(slots=True, kw_only=True)
class ClassTotals:
    """One class over the whole run."""

    sent: int = 0
    done: int = 0
    good: int = 0
    refused: int = 0
    gone: int = 0
    failed: int = 0
    value: float = 0.0
    """Dollars."""
    good_value: float = 0.0
    ttft_seconds: list[float] = field(default_factory=list)
    """Of every request that got a first token, in order of its time."""
    tpot_seconds: list[float] = field(default_factory=list)

    @property
    def in_flight(self) -> int:
        """Requests that have not ended."""
        return self.sent - self.done - self.refused - self.gone - self.failed


class Tally:
    """Counts the events of one run."""

    def __init__(self, scene: Scene, arrivals: Sequence[Arrival]) -> None:
        self._scene = scene
        self._arrivals = arrivals
        self.totals = {service.name: ClassTotals() for service in scene.services}
        self._recent: dict[str, dict[str, deque[tuple[float, float]]]] = {
            service.name: {kind: deque() for kind in ("sent", "refused", "ttft", "tpot", "value", "good")}
            for service in scene.services
        }

    def add(self, event: Event) -> None:
        """Count one event."""
        arrival = self._arrivals[event.number]
        totals, recent = self.totals[arrival.workload], self._recent[arrival.workload]
        now = event.at_seconds
        match event.what:
            case Happening.SENT:
                totals.sent += 1
                recent["sent"].append((now, 1.0))
            case Happening.REFUSED:
                totals.refused += 1
                recent["refused"].append((now, 1.0))
            case Happening.GONE:
                totals.gone += 1
            case Happening.FAILED:
                totals.failed += 1
            case Happening.FIRST:
                ttft = event.ttft_seconds or 0.0
                totals.ttft_seconds.append(ttft)
                recent["ttft"].append((now, ttft))
            case Happening.DONE:
                self._earn(arrival, event)

    def _earn(self, arrival: Arrival, event: Event) -> None:
        service = self._scene.service(arrival.workload)
        totals, recent = self.totals[arrival.workload], self._recent[arrival.workload]
        value = service.value(arrival.prompt_tokens, arrival.output_tokens)
        kept = event.ttft_seconds is not None and event.ttft_seconds <= service.promise_seconds
        totals.done += 1
        totals.value += value
        recent["value"].append((event.at_seconds, value))
        if kept:
            totals.good += 1
            totals.good_value += value
            recent["good"].append((event.at_seconds, value))
        if event.tpot_seconds is not None:
            totals.tpot_seconds.append(event.tpot_seconds)
            recent["tpot"].append((event.at_seconds, event.tpot_seconds))

    def figures(self, now: float) -> dict[str, Figures]:
        """The figures of the last seconds at ``now``, seconds since the start of the run."""
        return {name: self._class_figures(name, now) for name in self.totals}

    def _class_figures(self, name: str, now: float) -> Figures:
        window = max(1.0, min(WINDOW_SECONDS, now))
        values: dict[str, list[float]] = {}
        for kind, entries in self._recent[name].items():
            while entries and entries[0][0] < now - window:
                entries.popleft()
            values[kind] = [value for _, value in entries]
        return Figures(
            offered=sum(values["sent"]) / window,
            refused=sum(values["refused"]) / window,
            in_flight=self.totals[name].in_flight,
            ttft_seconds=fmean(values["ttft"]) if values["ttft"] else None,
            tpot_seconds=fmean(values["tpot"]) if values["tpot"] else None,
            value=sum(values["value"]) / window,
            good_value=sum(values["good"]) / window,
        )
