"""From what the sources said in one pass to samples and gaps, class by class. Pure.

The first source in a signal's order that has it tells it; where none has, the gap names each with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sluice.model.fleet import WorkloadClass
from sluice.model.signal import Gap, GapReason, Sample, Signal, Source
from sluice.model.snapshot import ClassSamples
from sluice.observe.catalogue import CATALOGUE
from sluice.observe.promql import Readings
from sluice.observe.reading import sample, share_within

Buckets = Mapping[str, tuple[tuple[float, float], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one source said."""

    readings: Readings = field(default_factory=Readings)
    buckets: Buckets = field(default_factory=dict)
    failed: bool = False
    """Whether it did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What all sources said at ``now`` (seconds since the epoch)."""

    of_source: Mapping[Source, Answer]
    identities: Mapping[Source, Mapping[str, str]]
    """Source -> class -> the key by which the source's series name it."""
    orders: Mapping[Signal, Sequence[Source]]
    now: float
    maximum_age_seconds: float
    complaint: str = ""
    """The first failure in words, if there was one."""
    asked: bool = True
    """False: the fleet declares no Prometheus."""

    def about(self, workload: WorkloadClass) -> ClassSamples:
        """Every signal of one class: the first source that has it, or why none has."""
        samples: dict[Signal, Sample] = {}
        gaps: dict[Signal, Gap] = {}
        for signal, order in self.orders.items():
            tried: list[tuple[Source, GapReason]] = []
            for source in order:
                outcome = self._one(signal, source, workload)
                if isinstance(outcome, Sample):
                    samples[signal] = outcome
                    break
                tried.append((source, outcome))
            else:
                gaps[signal] = Gap(signal=signal, tried=tuple(tried), detail=self._detail(workload, tried))
        return ClassSamples(samples=samples, gaps=gaps)

    def _one(self, signal: Signal, source: Source, workload: WorkloadClass) -> Sample | GapReason:
        """One signal of one class from one source."""
        key, answer = self.identities.get(source, {}).get(workload.name), self.of_source.get(source)
        if not self.asked or key is None or answer is None:
            return GapReason.NOT_CONFIGURED
        if answer.failed:
            return GapReason.UNREACHABLE
        if signal is Signal.TTFT_WITHIN:
            return self._within(source, workload, key, answer)
        formulas = CATALOGUE[source].formulas.get(signal, ())
        return sample(formulas, answer.readings, key, source, now=self.now, maximum_age=self.maximum_age_seconds)

    def _within(self, source: Source, workload: WorkloadClass, key: str, answer: Answer) -> Sample | GapReason:
        """The share of first tokens within the promise, dated like the histogram's count."""
        promise, histogram = workload.ttft_promise_seconds, CATALOGUE[source].first_tokens
        if promise is None or histogram is None:
            return GapReason.NOT_CONFIGURED
        at_seconds = answer.readings.newest.get((key, histogram.dated_by))
        if at_seconds is None:
            return GapReason.NO_SERIES
        if not self.now - at_seconds <= self.maximum_age_seconds:
            return GapReason.STALE
        found = answer.buckets.get(key)
        if found is None:
            return GapReason.TOO_YOUNG
        share = share_within(found, promise)
        if share is None:
            return GapReason.NOT_A_NUMBER
        return Sample(value=share, at_seconds=min(at_seconds, self.now), source=source)

    def _detail(self, workload: WorkloadClass, tried: Sequence[tuple[Source, GapReason]]) -> str:
        """A sentence for a gap whose reasons alone do not say what to do."""
        if not self.asked:
            return "The fleet declares no Prometheus."
        if self.complaint and any(reason is GapReason.UNREACHABLE for _, reason in tried):
            return self.complaint
        stale = [source for source, reason in tried if reason is GapReason.STALE]
        return self._age(workload, stale) if stale else ""

    def _age(self, workload: WorkloadClass, sources: Iterable[Source]) -> str:
        """How old the newest point is that any of ``sources`` has of the class."""
        times = [
            at
            for source in sources
            for (key, _), at in self.of_source[source].readings.newest.items()
            if key == self.identities[source][workload.name]
        ]
        allowed = self.maximum_age_seconds
        return f"the newest point is {self.now - max(times):.0f} s old, at most {allowed:.0f} s are allowed"


def is_stale(gap: Gap) -> bool:
    """Whether some source has points, and all of them are too old."""
    return any(reason is GapReason.STALE for _, reason in gap.tried)
