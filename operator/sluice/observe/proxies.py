"""What concerns all proxies of a fleet: shared counters, unmatched traffic, how many report, what they enforce."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sluice.model import naming
from sluice.model.fleet import DataPlaneKind, Fleet, WorkloadClass
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.signal import Sample, Source
from sluice.model.snapshot import EnforcedLimit, PoolShares
from sluice.observe.catalogue import (
    ENVOY,
    FORWARDED,
    LIMITED,
    LISTENER,
    LISTENER_FORWARDED,
    LISTENER_UNROUTED,
    PROXIES,
)
from sluice.observe.envoy_admin import AdminError, EnvoyAdminPort
from sluice.observe.promql import Readings, query
from sluice.observe.reading import attribute_refusals, evaluate
from sluice.observe.shares import ShareMeter


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """What the cluster, not Prometheus, tells of proxies and replicas. All of it is optional."""

    ready: int | None = None
    """Ready proxy processes; None: not known."""
    rule_index: Mapping[str, int] = field(default_factory=dict)
    """Class name to the place of its rule in the user's HTTPRoute, for classes with a ``routeRef``."""
    rate_limits: Mapping[str, float] = field(default_factory=dict)
    """Class name to the rate limit in force, per second of the whole fleet."""
    foreign_clusters: tuple[str, ...] = ()
    """Envoy clusters of routes that are no class's and send to our pools."""
    replicas: tuple[str, ...] = ()
    """Addresses ``ip:port`` of the fleet's ready replicas."""
    pool_of: Mapping[str, str] = field(default_factory=dict)
    """Address of a ready replica to its pool, where one pool alone has it."""


def shared_keys(fleet: Fleet, around: Proxies) -> tuple[str, ...]:
    """Stat prefixes to ask for beside the classes' own."""
    shared = fleet.data_plane.kind is DataPlaneKind.ENVOY_GATEWAY and around.rate_limits
    return (naming.GATEWAY_RATE_LIMIT_STAT_PREFIX,) if shared else ()


def with_shared_refusals(counted: Readings, clusters: Mapping[str, str], fleet: Fleet, around: Proxies) -> Readings:
    """``counted`` with the refusals that Envoy Gateway counts for all routes together, given to classes.

    Envoy Gateway gives every route's local rate limit the same stat prefix. Limits that
    others set on other routes of the same proxies land in the same counter.
    """
    shared = counted.value(naming.GATEWAY_RATE_LIMIT_STAT_PREFIX, LIMITED)
    if shared is None or not shared_keys(fleet, around):
        return counted
    limits = {name: limit for name, limit in around.rate_limits.items() if name in clusters}
    admitted = {name: counted.value(clusters[name], "total") or 0.0 for name in limits}
    refused = attribute_refusals(shared, admitted, limits)
    values = {**counted.values, **{(clusters[name], LIMITED): rate for name, rate in refused.items()}}
    return Readings(values=values, newest=counted.newest)


def unmatched_query(fleet: Fleet, around: Proxies, *, window_seconds: float, maximum_age_seconds: float) -> str | None:
    """The query that tells traffic of no class; None where nothing can."""
    spans = {"window_seconds": window_seconds, "maximum_age_seconds": maximum_age_seconds}
    if fleet.data_plane.kind is DataPlaneKind.ENVOY_FILES:
        return query(LISTENER.terms, (naming.FILES_LISTENER_STAT_PREFIX,), **spans)
    return query(ENVOY.terms, around.foreign_clusters, **spans) if around.foreign_clusters else None


def unmatched(
    listener: Readings,
    counted: Readings,
    clusters: Mapping[str, str],
    fleet: Fleet,
    around: Proxies,
    now: float,
) -> tuple[Sample | None, Sample | None]:
    """Rates of requests that were forwarded for no class, and that no route took.

    With our own listener the first is what the router forwarded less what it forwarded to
    classes: both are counted by the same proxy and scraped at the same moment. On a
    gateway that others use too it is what foreign routes sent to our pools.
    """
    age = fleet.metrics.maximum_age_seconds
    if fleet.data_plane.kind is not DataPlaneKind.ENVOY_FILES:
        parts = [
            evaluate(FORWARDED, listener, cluster, Source.ENVOY, now=now, maximum_age=age)
            for cluster in around.foreign_clusters
        ]
        return _sum([part for part in parts if isinstance(part, Sample)]), None
    key = naming.FILES_LISTENER_STAT_PREFIX
    forwarded = evaluate(LISTENER_FORWARDED, listener, key, Source.ENVOY, now=now, maximum_age=age)
    unrouted = evaluate(LISTENER_UNROUTED, listener, key, Source.ENVOY, now=now, maximum_age=age)
    dropped = unrouted if isinstance(unrouted, Sample) else None
    ours = [
        evaluate(FORWARDED, counted, cluster, Source.ENVOY, now=now, maximum_age=age) for cluster in clusters.values()
    ]
    # A class whose cluster is just coming up would be taken for unmatched traffic: say nothing then.
    if not isinstance(forwarded, Sample) or not all(isinstance(one, Sample) for one in ours):
        return None, dropped
    matched = math.fsum(one.value for one in ours if isinstance(one, Sample))
    rest = Sample(value=max(0.0, forwarded.value - matched), at_seconds=forwarded.at_seconds, source=Source.ENVOY)
    return rest, dropped


def miscounted(counted: Readings, clusters: Mapping[str, str], around: Proxies) -> tuple[Finding, ...]:
    """A finding where the number of proxies with counters is not the number of ready proxies."""
    seen = {round(count) for cluster in clusters.values() if (count := counted.value(cluster, PROXIES)) is not None}
    if around.ready is None or not seen or seen == {around.ready}:
        return ()
    told = " or ".join(str(count) for count in sorted(seen))
    return (
        Finding(
            condition=ConditionType.METRICS_AVAILABLE,
            reason=Reason.PROXIES_MISCOUNTED,
            message=f"Prometheus holds counters of {told} proxies; {around.ready} are ready.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """What the proxy itself says."""

    enforced: Mapping[str, EnforcedLimit] = field(default_factory=dict)
    shares: Mapping[str, PoolShares] = field(default_factory=dict)
    problems: tuple[Finding, ...] = ()


async def read_back(
    admin: EnvoyAdminPort | None, fleet: Fleet, classes: Sequence[WorkloadClass], meter: ShareMeter, now: float
) -> ReadBack:
    """What the proxy says it does, by class; Envoy files only, for there is one proxy to ask."""
    if admin is None or fleet.data_plane.kind is not DataPlaneKind.ENVOY_FILES:
        return ReadBack()
    clusters = {workload.name: naming.files_cluster(fleet.namespace, workload.name) for workload in classes}
    try:
        report = await admin.read()
    except AdminError as error:
        finding = Finding(condition=ConditionType.EFFECTIVE, reason=Reason.NOT_VERIFIED, message=str(error))
        return ReadBack(problems=(finding,))
    shares = meter.read(report.endpoints, now, window_seconds=fleet.metrics.window_seconds)
    return ReadBack(
        enforced={name: report.enforced(cluster) for name, cluster in clusters.items() if report.knows(cluster)},
        shares={name: shares[cluster] for name, cluster in clusters.items() if cluster in shares},
    )


def _sum(parts: Sequence[Sample]) -> Sample | None:
    if not parts:
        return None
    return Sample(
        value=math.fsum(part.value for part in parts),
        at_seconds=min(part.at_seconds for part in parts),
        source=Source.ENVOY,
    )
