"""What became of each request, and what many of them come to. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from sluice.demo.arrivals import Arrival
from sluice.demo.load import Happening
from sluice.demo.scene import Service

WAITED_SECONDS = 0.005
"""A request that the gate held for less went straight on."""


@dataclass(slots=True, kw_only=True)
class Record:
    """One request as its client saw it; times are seconds since the start of the run."""

    arrival: Arrival
    sent_at: float
    late_seconds: float = 0.0
    """How much after its time it was sent."""
    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    waited_seconds: float = 0.0
    """At the gate, of a request that got a first token."""
    request_id: str | None = None
    reason: str | None = None
    """Of the gate's refusal."""
    end: Happening | None = None
    """None while it goes on."""
    ended_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Many requests of one class."""

    sent: int
    done: int
    good: int
    """Of them: first token within the promise."""
    refused: int
    gone: int
    failed: int
    waited: int
    """Requests that the gate held and then let go, as far as they got a first token."""
    reasons: tuple[tuple[str, int], ...]
    """The gate's reasons for refusals, by number."""
    value: float
    """Dollars."""
    good_value: float
    ttft_seconds: tuple[float, ...]
    """In ascending order. A client that left counts with the time it waited in vain: leaving it out
    would make the longest queue look short."""
    waited_seconds: tuple[float, ...]
    """Of those that waited, in ascending order."""
    tpot_seconds: float | None
    """Mean."""

    @property
    def in_flight(self) -> int:
        """Requests that have not ended."""
        return self.sent - self.done - self.refused - self.gone - self.failed

    def ttft(self, share: float) -> float | None:
        """The quantile of times to the first token."""
        return quantile(self.ttft_seconds, share)


def quantile(ascending: tuple[float, ...], share: float) -> float | None:
    """The smallest value that ``share`` of all do not exceed; None of nothing."""
    if not ascending:
        return None
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def totals(records: Iterable[Record], service: Service) -> Totals:
    """What the ``service``'s records among ``records`` come to."""
    mine = [record for record in records if record.arrival.workload == service.name]
    ends = Counter(record.end for record in mine)
    done = [record for record in mine if record.end is Happening.DONE]
    good = [record for record in done if (record.ttft_seconds or 0.0) <= service.promise_seconds]
    waits = [record.waited_seconds for record in mine if record.waited_seconds >= WAITED_SECONDS]
    tpots = [record.tpot_seconds for record in done if record.tpot_seconds is not None]
    return Totals(
        sent=len(mine),
        done=len(done),
        good=len(good),
        refused=ends[Happening.REFUSED],
        gone=ends[Happening.GONE],
        failed=ends[Happening.FAILED],
        waited=len(waits),
        reasons=tuple(Counter(record.reason for record in mine if record.reason).most_common()),
        value=sum(value(record, service) for record in done),
        good_value=sum(value(record, service) for record in good),
        ttft_seconds=tuple(sorted(wait for record in mine if (wait := _first_token(record)) is not None)),
        waited_seconds=tuple(sorted(waits)),
        tpot_seconds=fmean(tpots) if tpots else None,
    )


def value(record: Record, service: Service) -> float:
    """Dollars that its complete answer earns."""
    return service.value(record.arrival.prompt_tokens, record.arrival.output_tokens)


def _first_token(record: Record) -> float | None:
    """The wait for the first token, or in vain; None of a refusal and of what still waits."""
    if record.end is Happening.GONE and record.ended_at is not None:
        return record.ended_at - record.sent_at
    return record.ttft_seconds
