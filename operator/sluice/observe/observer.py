"""One pass of observing: few queries, all at one explicit time, into a ``model.Observation``.

Nothing here raises for what the world does: a source that fails is a finding, and every
signal that it would have told is a gap that names it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from sluice.model.engine_sample import EngineSample
from sluice.model.fleet import DataPlaneKind, Fleet, Mode, WorkloadClass
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.signal import Signal, Source
from sluice.model.snapshot import ClassSamples, Observation, PoolShares
from sluice.observe import proxies
from sluice.observe.answers import Answer, Answers, is_stale
from sluice.observe.catalogue import CATALOGUE, ENVOY
from sluice.observe.engines import engine_samples
from sluice.observe.envoy_admin import EnvoyAdmin, EnvoyAdminPort
from sluice.observe.prometheus import Credentials, Failure, PrometheusClient, PrometheusPort, QueryError
from sluice.observe.promql import Series, bucket_query, buckets, query, readings
from sluice.observe.proxies import Proxies
from sluice.observe.shares import ShareMeter, engine_shares, engines_query
from sluice.observe.sources import identities, preferences


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
        *said, listener = await asyncio.gather(*map(self._ask, asked), self._ask_listener())
        found: dict[Source, Answer] = dict(zip(asked, said, strict=True))
        if envoy := found.get(Source.ENVOY):
            shared = proxies.with_shared_refusals(envoy.readings, self._clusters(), self._fleet, self._around)
            found[Source.ENVOY] = Answer(readings=shared, failed=envoy.failed)
        answers = Answers(
            of_source=found,
            identities=self._identities,
            orders=self._orders,
            now=self._now,
            maximum_age_seconds=self._settings.maximum_age_seconds,
            complaint=str(self._failures[0]) if self._failures else "",
            asked=self._prometheus is not None,
        )
        samples = {workload.name: answers.about(workload) for workload in self._classes}
        counted = found.get(Source.ENVOY, Answer()).readings
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

    async def _ask(self, source: Source) -> Answer:
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
            return Answer(failed=True) if series is None else Answer(readings=readings(series))
        histogram = bucket_query(
            entry.first_tokens.metric,
            entry.key,
            promised,
            matcher=entry.first_tokens.matcher,
            window_seconds=self._settings.window_seconds,
        )
        series, shares = await asyncio.gather(self._series(text), self._series(histogram))
        if series is None or shares is None:
            return Answer(failed=True)
        return Answer(readings=readings(series), buckets=buckets(shares))

    async def _ask_listener(self) -> Answer:
        """What the whole listener, or foreign routes to our pools, carried."""
        text = proxies.unmatched_query(self._fleet, self._around, **self._spans())
        series = await self._series(text) if text else ()
        return Answer(failed=True) if series is None else Answer(readings=readings(series))

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
