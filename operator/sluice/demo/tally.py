"""What clients see, by the load generator's events: every request's record, and figures of the last seconds. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from sluice.demo.arrivals import Arrival
from sluice.demo.lateness import Lateness
from sluice.demo.load import Event, Happening
from sluice.demo.record import Record, Totals, totals, value
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


class Tally:
    """Takes the events of one run."""

    def __init__(self, scene: Scene, arrivals: Sequence[Arrival]) -> None:
        self._scene = scene
        self._arrivals = arrivals
        self.records: dict[int, Record] = {}
        """What was sent so far, by number."""
        self.lateness = Lateness()
        """Of sending."""
        self._in_flight = {service.name: 0 for service in scene.services}
        self._recent: dict[str, dict[str, deque[tuple[float, float]]]] = {
            service.name: {kind: deque() for kind in ("sent", "refused", "ttft", "tpot", "value", "good")}
            for service in scene.services
        }

    @property
    def totals(self) -> dict[str, Totals]:
        """All requests so far, class by class."""
        return {service.name: totals(self.records.values(), service) for service in self._scene.services}

    def add(self, event: Event) -> None:
        """Count one event."""
        arrival = self._arrivals[event.number]
        if event.what is Happening.SENT:
            late = event.late_seconds or 0.0
            self.records[event.number] = Record(arrival=arrival, sent_at=event.at_seconds, late_seconds=late)
            self.lateness.add(late)
            self._in_flight[arrival.workload] += 1
            self._recent[arrival.workload]["sent"].append((event.at_seconds, 1.0))
            return
        record, recent = self.records[event.number], self._recent[arrival.workload]
        record.request_id = event.request_id or record.request_id
        if event.what is Happening.FIRST:
            record.ttft_seconds = event.ttft_seconds or 0.0
            record.waited_seconds = event.waited_seconds or 0.0
            recent["ttft"].append((event.at_seconds, record.ttft_seconds))
            return
        record.end, record.ended_at, record.reason = event.what, event.at_seconds, event.reason
        self._in_flight[arrival.workload] -= 1
        if event.what is Happening.REFUSED:
            recent["refused"].append((event.at_seconds, 1.0))
        elif event.what is Happening.DONE:
            self._earn(record, event)

    def _earn(self, record: Record, event: Event) -> None:
        service = self._scene.service(record.arrival.workload)
        recent = self._recent[service.name]
        record.ttft_seconds, record.tpot_seconds = event.ttft_seconds, event.tpot_seconds
        earned = value(record, service)
        recent["value"].append((event.at_seconds, earned))
        if event.ttft_seconds is not None and event.ttft_seconds <= service.promise_seconds:
            recent["good"].append((event.at_seconds, earned))
        if event.tpot_seconds is not None:
            recent["tpot"].append((event.at_seconds, event.tpot_seconds))

    def figures(self, now: float) -> dict[str, Figures]:
        """The figures of the last seconds at ``now``, seconds since the start of the run."""
        return {name: self._class_figures(name, now) for name in self._recent}

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
            in_flight=self._in_flight[name],
            ttft_seconds=fmean(values["ttft"]) if values["ttft"] else None,
            tpot_seconds=fmean(values["tpot"]) if values["tpot"] else None,
            value=sum(values["value"]) / window,
            good_value=sum(values["good"]) / window,
        )
