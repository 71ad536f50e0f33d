"""One pass of observing: few queries, all at one explicit time, into a ``model.Observation``.

Nothing here raises for what the world does: a source that fails is a finding, and every
signal that it would have told is a gap that names it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sluice.model.engine_sample import EngineSample
from sluice.model.fleet import DataPlaneKind, Fleet, Mode, WorkloadClass
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.signal import Gap, GapReason, Sample, Signal, Source
from sluice.model.snapshot import ClassSamples, Observation, PoolShares
from sluice.observe import proxies
from sluice.observe.catalogue import CATALOGUE, ENVOY
from sluice.observe.engines import engine_samples
from sluice.observe.envoy_admin import EnvoyAdmin, EnvoyAdminPort
from sluice.observe.prometheus import Credentials, Failure, PrometheusClient, PrometheusPort, QueryError
from sluice.observe.promql import Readings, Series, bucket_query, buckets, query, readings
from sluice.observe.proxies import Proxies
from sluice.observe.reading import sample, share_within
from sluice.observe.shares import ShareMeter, engine_shares, engines_query
from sluice.observe.sources import identities, preferences

Buckets = Mapping[str, tuple[tuple[float, float], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What one source said in this pass."""

    readings: Readings = field(default_factory=Readings)
    buckets: Buckets = field(default_factory=dict)
    failed: bool = False
    """Whether it did not answer."""


class Observer:
    """Observes one fleet; build it anew when the fleet's metrics settings, address or credentials change."""

    def __init__(self, prometheus: PrometheusPort | None, admin: EnvoyAdminPort | None = None) -> None:
        self._prometheus = prometheus
        self._admin = admin
        self._meter = ShareMeter()

    @classmethod
    def of(cls, fleet: Fleet, credentials: Credentials | None = None) -> Observer:
        """The observer that ``fleet`` declares."""
        settings, address = fleet.metrics, fleet.data_plane.admin_address
        prometheus = (
            PrometheusClient(settings.prometheus_url, timeout_seconds=settings.timeout_seconds, credentials=credentials)
            if settings.prometheus_url
            else None
        )
        admin = EnvoyAdmin(address, timeout_seconds=settings.timeout_seconds) if address else None
        return cls(prometheus, admin)

    async def observe(
        self, fleet: Fleet, classes: Sequence[WorkloadClass], now: float, around: Proxies | None = None
    ) -> Observation:
        """Measure everything at ``now`` (seconds since the epoch). ``around`` is what the cluster tells of proxies."""
        around = around or Proxies()
        one_pass = _Pass(fleet, tuple(classes), now, around, self._prometheus)
        admin = proxies.read_back(self._admin, fleet, classes, self._meter, now)
        engines, spread = one_pass.engines(), one_pass.shares()
        read, observation, seen, (shares, of_all) = await asyncio.gather(admin, one_pass.run(), engines, spread)
        return Observation(
            classes=observation.classes,
            enforced=read.enforced,
            shares=read.shares or shares,
            shares_of_all=of_all,
            unmatched_rate=observation.unmatched_rate,
            unrouted_rate=observation.unrouted_rate,
            proxies_ready=_proxies_ready(fleet, around),
            engines=seen,
            problems=(*observation.problems, *read.problems),
        )

    async def close(self) -> None:
        """End threads and connections."""
        if self._prometheus is not None:
            await self._prometheus.close()


class _Pass:
    """The state of one pass: who is who, and which queries failed."""

    def __init__(
        self,
        fleet: Fleet,
        classes: tuple[WorkloadClass, ...],
        now: float,
        around: Proxies,
        prometheus: PrometheusPort | None,
    ) -> None:
        self._fleet = fleet
        self._classes = classes
        self._now = now
        self._around = around
        self._prometheus = prometheus
        self._settings = fleet.metrics
        self._identities = identities(fleet, classes, around.rule_index)
        self._orders, self._misnamed = preferences(fleet)
        self._failures: list[QueryError] = []

    async def run(self) -> Observation:
        """Ask everything at once, then read the answers class by class."""
        asked = [source for source in CATALOGUE if self._wanted(source)]
        *answers, listener = await asyncio.gather(*map(self._ask, asked), self._ask_listener())
        found: dict[Source, _Answer] = dict(zip(asked, answers, strict=True))
        if envoy := found.get(Source.ENVOY):
            shared = proxies.with_shared_refusals(envoy.readings, self._clusters(), self._fleet, self._around)
            found[Source.ENVOY] = _Answer(readings=shared, failed=envoy.failed)
        samples = {workload.name: self._read(workload, found) for workload in self._classes}
        counted = found.get(Source.ENVOY, _Answer()).readings
        unmatched, unrouted = proxies.unmatched(
            listener.readings, counted, self._clusters(), self._fleet, self._around, self._now
        )
        return Observation(
            classes=samples,
            unmatched_rate=unmatched,
            unrouted_rate=unrouted,
            problems=(*self._problems(), *stale(samples), *proxies.miscounted(counted, self._clusters(), self._around)),
        )

    async def engines(self) -> Mapping[str, EngineSample]:
        """What each replica's engine did."""
        if self._prometheus is None:
            return {}
        return await engine_samples(self._prometheus, self._around.replicas, self._now, **self._spans())

    async def shares(self) -> tuple[Mapping[str, PoolShares], PoolShares | None]:
        """Where requests went, by the engines' counters; asked where weights of ours could be disobeyed."""
        plane = self._fleet.data_plane.kind
        if (
            self._prometheus is None
            or self._fleet.mode is not Mode.ENFORCE
            or plane is not DataPlaneKind.ENVOY_GATEWAY
            or len(set(self._around.pool_of.values())) < 2
        ):
            return {}, None
        window = self._settings.window_seconds
        try:
            series = await self._prometheus.query(engines_query(self._around.pool_of, window_seconds=window), self._now)
        except QueryError:
            return {}, None  # a Prometheus that fails is told by the other queries
        classes = {model: name for name, model in self._identities[Source.VLLM].items()}
        return engine_shares(series, self._around.pool_of, classes, self._now - window)

    def _clusters(self) -> Mapping[str, str]:
        """Class name to Envoy cluster, for the classes that have one."""
        return self._identities[Source.ENVOY]

    def _wanted(self, source: Source) -> bool:
        """Whether any class can be told apart by ``source`` and any signal asks it."""
        return bool(self._identities[source]) and any(source in order for order in self._orders.values())

    async def _ask(self, source: Source) -> _Answer:
        """One or two queries to one source."""
        entry, keys = CATALOGUE[source], self._identities[source]
        promised = [
            keys[workload.name]
            for workload in self._classes
            if workload.name in keys and workload.ttft_promise_seconds is not None
        ]
        extra = proxies.shared_keys(self._fleet, self._around) if entry is ENVOY else ()
        text = query(entry.terms, (*keys.values(), *extra), **self._spans())
        if entry.first_tokens is None or not promised:
            series = await self._series(text)
            return _Answer(failed=True) if series is None else _Answer(readings=readings(series))
        histogram = bucket_query(
            entry.first_tokens.metric,
            entry.key,
            promised,
            matcher=entry.first_tokens.matcher,
            window_seconds=self._settings.window_seconds,
        )
        series, shares = await asyncio.gather(self._series(text), self._series(histogram))
        if series is None or shares is None:
            return _Answer(failed=True)
        return _Answer(readings=readings(series), buckets=buckets(shares))

    async def _ask_listener(self) -> _Answer:
        """What the whole listener, or foreign routes to our pools, carried."""
        text = proxies.unmatched_query(self._fleet, self._around, **self._spans())
        series = await self._series(text) if text else ()
        return _Answer(failed=True) if series is None else _Answer(readings=readings(series))

    async def _series(self, promql: str) -> tuple[Series, ...] | None:
        """The answer to one query; None where there is none, with the failure noted."""
        if self._prometheus is None:
            return None
        try:
            return await self._prometheus.query(promql, self._now)
        except QueryError as error:
            self._failures.append(error)
            return None

    def _spans(self) -> Mapping[str, float]:
        return {
            "window_seconds": self._settings.window_seconds,
            "maximum_age_seconds": self._settings.maximum_age_seconds,
        }

    def _read(self, workload: WorkloadClass, found: Mapping[Source, _Answer]) -> ClassSamples:
        """Every signal of one class: the first source that has it, or why none has."""
        samples: dict[Signal, Sample] = {}
        gaps: dict[Signal, Gap] = {}
        for signal, order in self._orders.items():
            tried: list[tuple[Source, GapReason]] = []
            for source in order:
                outcome = self._one(signal, source, workload, found.get(source))
                if isinstance(outcome, Sample):
                    samples[signal] = outcome
                    break
                tried.append((source, outcome))
            else:
                gaps[signal] = Gap(signal=signal, tried=tuple(tried), detail=self._detail(workload, tried, found))
        return ClassSamples(samples=samples, gaps=gaps)

    def _one(
        self, signal: Signal, source: Source, workload: WorkloadClass, answer: _Answer | None
    ) -> Sample | GapReason:
        """One signal of one class from one source."""
        key = self._identities.get(source, {}).get(workload.name)
        if self._prometheus is None or key is None or answer is None:
            return GapReason.NOT_CONFIGURED
        if answer.failed:
            return GapReason.UNREACHABLE
        if signal is Signal.TTFT_WITHIN:
            return self._within(source, workload, key, answer)
        formulas = CATALOGUE[source].formulas.get(signal, ())
        return sample(
            formulas, answer.readings, key, source, now=self._now, maximum_age=self._settings.maximum_age_seconds
        )

    def _within(self, source: Source, workload: WorkloadClass, key: str, answer: _Answer) -> Sample | GapReason:
        """The share of first tokens within the promise, dated like the histogram's count."""
        promise, histogram = workload.ttft_promise_seconds, CATALOGUE[source].first_tokens
        if promise is None or histogram is None:
            return GapReason.NOT_CONFIGURED
        at_seconds = answer.readings.newest.get((key, histogram.dated_by))
        if at_seconds is None:
            return GapReason.NO_SERIES
        if not self._now - at_seconds <= self._settings.maximum_age_seconds:
            return GapReason.STALE
        found = answer.buckets.get(key)
        if found is None:
            return GapReason.TOO_YOUNG
        share = share_within(found, promise)
        if share is None:
            return GapReason.NOT_A_NUMBER
        return Sample(value=share, at_seconds=min(at_seconds, self._now), source=source)

    def _detail(
        self, workload: WorkloadClass, tried: Sequence[tuple[Source, GapReason]], found: Mapping[Source, _Answer]
    ) -> str:
        """A sentence for a gap whose reasons alone do not say what to do."""
        if self._prometheus is None:
            return "The fleet declares no Prometheus."
        if any(reason is GapReason.UNREACHABLE for _, reason in tried) and self._failures:
            return str(self._failures[0])
        stale = [source for source, reason in tried if reason is GapReason.STALE]
        return self._age(workload, stale, found) if stale else ""

    def _age(self, workload: WorkloadClass, sources: Iterable[Source], found: Mapping[Source, _Answer]) -> str:
        """How old the newest point is that any of ``sources`` has of the class."""
        times = [
            at
            for source in sources
            for (key, _), at in found[source].readings.newest.items()
            if key == self._identities[source][workload.name]
        ]
        allowed = self._settings.maximum_age_seconds
        return f"the newest point is {self._now - max(times):.0f} s old, at most {allowed:.0f} s are allowed"

    def _problems(self) -> tuple[Finding, ...]:
        """One finding per kind of failure, with the number of queries it struck."""
        if self._prometheus is None:
            text = "The fleet declares no Prometheus: demand is what the classes declare."
            return (_finding(Reason.NOT_CONFIGURED, text), *self._misnamed)
        struck = Counter(error.failure for error in self._failures)
        first = {error.failure: str(error) for error in reversed(self._failures)}
        return (
            *(_finding(_REASONS[failure], f"{first[failure]} ({count} queries)") for failure, count in struck.items()),
            *self._misnamed,
        )


def stale(samples: Mapping[str, ClassSamples]) -> tuple[Finding, ...]:
    """A finding where every class's demand was measured once and is told no longer: the scraping has stopped.

    One class alone may lack fresh points for reasons of its own; its own status says so.
    """
    gaps = [entry.gaps.get(Signal.OFFERED_RATE) for entry in samples.values()]
    if not gaps or not all(gap is not None and is_stale(gap) for gap in gaps):
        return ()
    detail = next((gap.detail for gap in gaps if gap is not None and gap.detail), "every sample is too old")
    return (_finding(Reason.METRICS_STALE, f"offered rate: {detail}"),)


def is_stale(gap: Gap) -> bool:
    """Whether some source has points, and all of them are too old."""
    return any(reason is GapReason.STALE for _, reason in gap.tried)


def _proxies_ready(fleet: Fleet, around: Proxies) -> int:
    """As the cluster shows them; 0 where a Gateway's are out of sight. Files and plans have one reader."""
    if around.ready is not None:
        return around.ready
    return 0 if fleet.data_plane.kind is DataPlaneKind.ENVOY_GATEWAY else 1


_REASONS: Mapping[Failure, Reason] = {
    Failure.UNREACHABLE: Reason.PROMETHEUS_UNREACHABLE,
    Failure.TIMED_OUT: Reason.PROMETHEUS_UNREACHABLE,
    Failure.REFUSED: Reason.PROMETHEUS_REFUSED,
    Failure.REJECTED: Reason.PROMETHEUS_UNREACHABLE,
}


def _finding(reason: Reason, message: str) -> Finding:
    return Finding(condition=ConditionType.METRICS_AVAILABLE, reason=reason, message=message)
