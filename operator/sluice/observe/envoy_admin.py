"""What an Envoy says it enforces, read at its admin port: the honest half of ``Effective``.

Five pages are read (https://www.envoyproxy.io/docs/envoy/latest/operations/admin):
``/clusters`` has each breaker's threshold *in force*, overrides included; ``/runtime``
tells which layer set it, the last layer with a value; ``/config_dump`` has the routes'
token buckets; ``/stats`` counts refusals. An override made at this very port therefore
shows with its layer's name.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp

from sluice.model.snapshot import EnforcedLimit
from sluice.observe.shares import EndpointCounts

CONFIGURED = "cluster configuration"
"""The origin of a threshold that no runtime layer sets."""
ROUTE = "route configuration"
"""The origin of a rate limit, or of its absence, that no runtime layer lifts."""
_LIMITER = "envoy.filters.http.local_ratelimit"
_BREAKER_KEY = re.compile(r"circuit_breakers\.(?P<cluster>.+)\.default\.max_requests")
_REFUSALS = re.compile(
    r"cluster\.(?P<cluster>.+)\.upstream_rq_(?:active|pending)_overflow|(?P<prefix>.+)\.http_local_rate_limit\.enforced"
)
_PAGES = {
    "runtime": "/runtime?format=json",
    "clusters": "/clusters?format=json",
    "dynamic_routes": "/config_dump?resource=dynamic_route_configs",
    "static_routes": "/config_dump?resource=static_route_configs",
    "stats": "/stats?format=json&filter=upstream_rq_(active|pending)_overflow$|http_local_rate_limit.enforced$",
}
_PER_HUNDRED = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}


class AdminError(Exception):
    """The admin port did not answer, or not as Envoy does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeValue:
    """One runtime key: the value in force and the layer that set it."""

    value: str
    layer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RateInForce:
    """The local rate limit on the routes to one cluster."""

    per_second: float | None
    """Infinite: none is in force. None: in force for a share of requests only."""
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminReport:
    """One proxy's word; everything by cluster."""

    thresholds: Mapping[str, int] = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=dict)
    rates: Mapping[str, RateInForce] = field(default_factory=dict)
    refused: Mapping[str, float] = field(default_factory=dict)
    endpoints: Mapping[str, EndpointCounts] = field(default_factory=dict)

    def knows(self, cluster: str) -> bool:
        """Whether the proxy has the cluster at all."""
        return cluster in self.thresholds

    def enforced(self, cluster: str) -> EnforcedLimit:
        """The limits of one cluster."""
        rate = self.rates.get(cluster)
        return EnforcedLimit(
            in_flight=self.thresholds.get(cluster),
            rate=rate.per_second if rate else None,
            refused=self.refused.get(cluster, 0.0),
            origin=self.layers.get(cluster, CONFIGURED),
            rate_origin=rate.origin if rate else "",
        )


class EnvoyAdminPort(Protocol):
    """What the observer needs of a proxy."""

    async def read(self) -> AdminReport:
        """The proxy's present word; raises :class:`AdminError`."""
        ...


class EnvoyAdmin:
    """The port over HTTP."""

    def __init__(self, address: str, *, timeout_seconds: float = 5.0) -> None:
        self._address = address
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    async def read(self) -> AdminReport:
        """See :class:`EnvoyAdminPort`."""
        try:
            async with aiohttp.ClientSession(timeout=self._timeout) as session:
                pages = await asyncio.gather(*(self._page(session, path) for path in _PAGES.values()))
            return report(dict(zip(_PAGES, pages, strict=True)))
        except TimeoutError:
            raise self._error("does not answer in time") from None
        except aiohttp.ClientError as error:
            raise self._error(f"does not answer ({type(error).__name__})") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._error("does not answer as Envoy does") from None

    async def _page(self, session: aiohttp.ClientSession, path: str) -> Mapping[str, Any]:
        async with session.get(f"http://{self._address}{path}") as response:
            response.raise_for_status()
            page = json.loads(await response.text())
        if not isinstance(page, dict):
            raise TypeError(path)
        return page

    def _error(self, text: str) -> AdminError:
        return AdminError(f"Envoy's admin interface at {self._address} {text}.")


def report(pages: Mapping[str, Mapping[str, Any]]) -> AdminReport:
    """Read the five pages, keyed as in the request."""
    runtime = runtime_values(pages["runtime"])
    tables = [*_route_tables(pages["dynamic_routes"]), *_route_tables(pages["static_routes"])]
    layers = {match["cluster"]: entry.layer for key, entry in runtime.items() if (match := _BREAKER_KEY.fullmatch(key))}
    rates, prefixes = rate_limits(tables, runtime)
    return AdminReport(
        thresholds=thresholds(pages["clusters"]),
        layers=layers,
        rates=rates,
        refused=refusals(pages["stats"], prefixes),
        endpoints=endpoint_counts(pages["clusters"]),
    )


def runtime_values(page: Mapping[str, Any]) -> Mapping[str, RuntimeValue]:
    """``/runtime``: every key with its value in force and the last layer that gives one."""
    names: list[str] = page.get("layers", [])
    found: dict[str, RuntimeValue] = {}
    for key, entry in page.get("entries", {}).items():
        given = [name for name, value in zip(names, entry["layer_values"], strict=True) if value != ""]
        if given:
            found[key] = RuntimeValue(value=entry["final_value"], layer=given[-1])
    return found


def thresholds(page: Mapping[str, Any]) -> Mapping[str, int]:
    """``/clusters``: requests that the default-priority breaker of each cluster lets be in flight, now."""
    found: dict[str, int] = {}
    for cluster in page.get("cluster_statuses", []):
        for level in cluster.get("circuit_breakers", {}).get("thresholds", []):
            if level.get("priority", "DEFAULT") == "DEFAULT":
                found[cluster["name"]] = int(level.get("max_requests", 0))  # proto JSON leaves zeros out
    return found


def endpoint_counts(page: Mapping[str, Any]) -> Mapping[str, EndpointCounts]:
    """``/clusters``: requests that each endpoint was sent since the proxy started, with the zone it bears."""
    return {
        cluster["name"]: {
            (host.get("locality", {}).get("zone", ""), _address(host.get("address", {}))): _sent(host)
            for host in cluster.get("host_statuses", [])
        }
        for cluster in page.get("cluster_statuses", [])
    }


def _address(address: Mapping[str, Any]) -> str:
    socket = address.get("socket_address", {})
    return f"{socket.get('address', '')}:{socket.get('port_value', 0)}"


def _sent(host: Mapping[str, Any]) -> float:
    stats = {stat.get("name"): float(stat.get("value", 0)) for stat in host.get("stats", [])}
    return stats.get("rq_total", 0.0)  # proto JSON leaves zeros out


def rate_limits(
    tables: Iterable[Mapping[str, Any]], runtime: Mapping[str, RuntimeValue]
) -> tuple[Mapping[str, RateInForce], Mapping[str, str]]:
    """The rate limit in force per cluster, and which cluster a stat prefix belongs to.

    Each route has a bucket of its own: those of one cluster add up, and one route without
    a limit leaves the cluster unlimited.
    """
    rates: dict[str, RateInForce] = {}
    prefixes: dict[str, str] = {}
    for route in _routes(tables):
        cluster = route.get("route", {}).get("cluster")
        if cluster is None:
            continue
        limiter = route.get("typed_per_filter_config", {}).get(_LIMITER)
        here = _rate(limiter, runtime)
        if limiter is not None:
            prefixes[limiter["stat_prefix"]] = cluster
        before = rates.get(cluster)
        rates[cluster] = here if before is None else _joined(before, here)
    return rates, prefixes


def refusals(page: Mapping[str, Any], prefixes: Mapping[str, str]) -> Mapping[str, float]:
    """``/stats``: requests refused since the proxy started, by breaker and by rate limit, per cluster."""
    found: dict[str, float] = {}
    for stat in page.get("stats", []):
        match = _REFUSALS.fullmatch(stat.get("name", ""))
        if match is None:
            continue
        cluster = match["cluster"] or prefixes.get(match["prefix"] or "")
        if cluster is not None:
            found[cluster] = found.get(cluster, 0.0) + float(stat.get("value", 0))
    return found


def _route_tables(page: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for config in page.get("configs", []):
        if "route_config" in config:
            yield config["route_config"]


def _routes(tables: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for table in tables:
        for host in table.get("virtual_hosts", []):
            yield from host.get("routes", [])


def _rate(limiter: Mapping[str, Any] | None, runtime: Mapping[str, RuntimeValue]) -> RateInForce:
    """One route's limit: the bucket's refill, unless it is switched off or not enforced."""
    bucket = (limiter or {}).get("token_bucket")
    if limiter is None or bucket is None:
        return RateInForce(per_second=math.inf, origin=ROUTE)
    refill = float(bucket.get("tokens_per_fill", 1)) / float(bucket["fill_interval"].removesuffix("s"))
    origin = ROUTE
    for switch in ("filter_enabled", "filter_enforced"):
        share, layer = _share(limiter.get(switch, {}), runtime)
        origin = layer or origin
        if share <= 0:
            return RateInForce(per_second=math.inf, origin=origin)
        if share < 1:
            return RateInForce(per_second=None, origin=origin)
    return RateInForce(per_second=refill, origin=origin)


def _share(fraction: Mapping[str, Any], runtime: Mapping[str, RuntimeValue]) -> tuple[float, str]:
    """A runtime fraction, 0..1, and the layer that sets it; an absent one is zero.

    An integer in a runtime layer is percent, whatever the default's denominator.
    """
    override = runtime.get(fraction.get("runtime_key", ""))
    if override is not None and override.value.lstrip("-").isdigit():
        return int(override.value) / 100, override.layer
    default = fraction.get("default_value", {})
    return default.get("numerator", 0) / _PER_HUNDRED[default.get("denominator", "HUNDRED")], ""


def _joined(one: RateInForce, other: RateInForce) -> RateInForce:
    if one.per_second is None or other.per_second is None:
        return RateInForce(per_second=None, origin=one.origin)
    origin = other.origin if one.origin == ROUTE else one.origin
    return RateInForce(per_second=one.per_second + other.per_second, origin=origin)
