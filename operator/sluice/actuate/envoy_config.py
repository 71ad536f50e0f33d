"""Envoy's own configuration for a fleet: clusters, endpoints, routes, runtime, beside its bootstrap. Pure.

The documents are laid out so that what moves often is cheap to move (API v3,
https://www.envoyproxy.io/docs/envoy/latest/api-v3/api):

==================  ====================  =====================================================
file                discovery service     moves when
==================  ====================  =====================================================
bootstrap.json      none: read at start   ports change (Envoy must then be restarted)
cds.json            CDS                   a class comes or goes
eds/CLUSTER.json    EDS                   weights move or replicas come and go; the breaker goes
                                          on counting, which a rebuilt cluster would not
rds.json            RDS                   a rate limit or a match changes (its buckets start full)
runtime/limits.json RTDS                  an in-flight limit changes; nothing is rebuilt
==================  ====================  =====================================================

One cluster per class with one locality per pool: locality weights are the route's weights,
and inside a pool the least loaded of two replicas takes the request. A proxy without a
limit of ours must not have one by accident, so every threshold that Envoy sets to 1024 by
itself stands at ``UNBOUNDED``; the runtime key alone carries a limit.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable, Mapping

from sluice.actuate import envoy_gate
from sluice.actuate.envoy_bootstrap import bootstrap
from sluice.actuate.envoy_terms import LIMITER, TYPE_URL, discovery, duration, file_source, socket_address, unbounded
from sluice.actuate.objects import Document
from sluice.actuate.order import breaker
from sluice.actuate.port import Order
from sluice.model.decision import ClassTarget
from sluice.model.fleet import Endpoint, Fleet, GateUse, Pool, WorkloadClass
from sluice.model.naming import (
    FAIRNESS_HEADER,
    FILES_ROUTES,
    FILES_RUNTIME_LAYER,
    files_cluster,
    files_in_flight_key,
    rate_limit_stat_prefix,
)

UPSTREAM_IDLE_SECONDS = 4
"""Idle connections are dropped before the engine's HTTP server does it (vLLM: after 5 s):
a request sent into a connection that is just being closed would be lost."""
SHORTEST_FILL_SECONDS = 0.05
"""Envoy refuses a fill interval below 50 ms."""

_BALANCING: Document = {
    "lb_policy": "LEAST_REQUEST",
    "common_lb_config": {"locality_weighted_lb_config": {}},
}


def render(order: Order, root: str) -> dict[str, Document]:
    """Path below ``root`` -> document, in the order in which they must be written.

    Make before break: endpoints before the cluster that reads them, limits before the route
    that opens a class, the route last. ``root`` is the absolute folder as Envoy sees it.
    """
    fleet = order.fleet
    served = [workload for workload in order.classes if workload.match is not None]
    files = {"bootstrap.json": bootstrap(fleet, root)}
    addresses = {pool.name: _replicas(pool, order) for pool in fleet.pools}  # once, not once per class
    for workload in served:
        name = files_cluster(fleet.namespace, workload.name)
        files[f"eds/{name}.json"] = discovery([_endpoints(name, workload, order, addresses)])
    files["cds.json"] = discovery(
        _cluster(files_cluster(fleet.namespace, workload.name), root, fleet) for workload in served
    )
    files["runtime/limits.json"] = discovery([_runtime(order, served)])
    files["rds.json"] = discovery([_routes(order, served)])
    return files


def _cluster(name: str, root: str, fleet: Fleet) -> Document:
    """A class's cluster: endpoints from their own file, no threshold that binds by accident."""
    thresholds = unbounded("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {
        "@type": f"{TYPE_URL}.config.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": file_source(f"{root}/eds/{name}.json", f"{root}/eds")},
        "connect_timeout": "5s",
        **(_BALANCING if not envoy_gate.has_gate(fleet) else {"load_balancing_policy": envoy_gate.balancing()}),
        "circuit_breakers": {"thresholds": [{"priority": "DEFAULT", **thresholds}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE_URL}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": f"{UPSTREAM_IDLE_SECONDS}s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def _replicas(pool: Pool, order: Order) -> list[Document]:
    return [{"endpoint": {"address": socket_address(at.address, at.port)}} for at in pool_addresses(pool, order)]


def _endpoints(name: str, workload: WorkloadClass, order: Order, addresses: Mapping[str, list[Document]]) -> Document:
    """One locality per pool with a share; a pool without one is left out, for Envoy knows no weight of zero.

    An enabled gate names the replica, and Envoy takes its word only for a replica of the cluster.
    """
    target = order.targets.of(workload.name)
    weights = dict(target.weights) if target else {}
    localities = [
        {
            "locality": {"zone": pool.name},
            "load_balancing_weight": weight,
            "lb_endpoints": addresses[pool.name],
        }
        for pool in order.fleet.pools
        if (weight := _weight(pool, workload, weights, order.fleet)) > 0 and addresses[pool.name]
    ]
    return {
        "@type": f"{TYPE_URL}.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": name,
        "endpoints": localities,
    }


def _weight(pool: Pool, workload: WorkloadClass, weights: Mapping[str, int], fleet: Fleet) -> int:
    """A pool's share; behind an enabled gate no pool that the class may use is out of its reach."""
    may_use = not workload.pools or pool.name in workload.pools
    placed = fleet.data_plane.gate is GateUse.ENABLED
    least = 1 if placed and envoy_gate.has_gate(fleet) and weights and may_use else 0
    return max(least, weights.get(pool.name, 0))


def pool_addresses(pool: Pool, order: Order) -> tuple[Endpoint, ...]:
    """Where a pool's replicas listen: as declared, else as counted; sorted, so that equal sets are equal bytes."""
    if pool.endpoints:
        return pool.endpoints
    counted = (address for supply in order.supplies if supply.pool == pool.name for address in supply.addresses)
    split = (address.rpartition(":") for address in sorted(counted))
    return tuple(Endpoint(address=host.strip("[]"), port=int(port)) for host, _, port in split)


def names_as_addresses(order: Order) -> tuple[str, ...]:
    """Endpoints that are host names: Envoy's endpoint discovery takes IP addresses only."""
    every = (endpoint for pool in order.fleet.pools for endpoint in pool_addresses(pool, order))
    return tuple(sorted({endpoint.address for endpoint in every if not _is_ip(endpoint.address)}))


def _routes(order: Order, served: Iterable[WorkloadClass]) -> Document:
    """One route per class, the narrowest first; everything else is Envoy's own 404, counted as ``no_route``."""
    routes = [_route(workload, order) for workload in sorted(served, key=_narrowest_first)]
    return {
        "@type": f"{TYPE_URL}.config.route.v3.RouteConfiguration",
        "name": FILES_ROUTES,
        "virtual_hosts": [{"name": FILES_ROUTES, "domains": ["*"], "routes": routes}],
    }


def _narrowest_first(workload: WorkloadClass) -> tuple[int, int, str]:
    """Envoy takes the first route that matches: longer paths, then more headers, then by name."""
    match = workload.match
    if match is None:
        return (0, 0, workload.name)
    return (-len((match.path_prefix or "").rstrip("/")), -len(match.headers), workload.name)


def _route(workload: WorkloadClass, order: Order) -> Document:
    """A class's route: its match, its cluster, no time-out unless the user sets one, its rate limit."""
    match = workload.match
    headers = match.headers if match else ()
    name = files_cluster(order.fleet.namespace, workload.name)
    target = order.targets.of(workload.name)
    route: Document = {
        "name": workload.name,
        "match": {
            **_path(match.path_prefix if match else None),
            "headers": [{"name": header.name, "string_match": {"exact": header.value}} for header in headers],
        },
        "route": {"cluster": name, "timeout": duration(workload.request_timeout_seconds or 0.0)},
        "request_headers_to_add": [
            {
                "header": {"key": FAIRNESS_HEADER, "value": workload.fairness_id or workload.name},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }
    per_filter = {}
    if target and target.rate_limit is not None:
        per_filter[LIMITER] = _rate_limit(rate_limit_stat_prefix(name), target)
    if envoy_gate.has_gate(order.fleet):
        per_filter[envoy_gate.FILTER] = envoy_gate.route_override(workload)
        route["response_headers_to_add"] = envoy_gate.answer_headers()
    if per_filter:
        route["typed_per_filter_config"] = per_filter
    return route


def _path(prefix: str | None) -> Document:
    """A prefix by whole segments, as Gateway API means it: /v1 matches /v1/chat, not /v1beta."""
    trimmed = (prefix or "/").rstrip("/")
    return {"path_separated_prefix": trimmed} if trimmed else {"prefix": "/"}


def _rate_limit(prefix: str, target: ClassTarget) -> Document:
    """A token bucket at the planned rate; its depth is the policy's (see ``policy.targets``)."""
    rate = target.rate_limit or 0.0
    tokens = max(1, math.ceil(rate * SHORTEST_FILL_SECONDS))
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "@type": f"{TYPE_URL}.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": prefix,
        "token_bucket": {
            "max_tokens": max(tokens, target.burst or 1),
            "tokens_per_fill": tokens,
            "fill_interval": duration(tokens / rate),
        },
        "filter_enabled": always,
        "filter_enforced": always,
    }


def _runtime(order: Order, served: Iterable[WorkloadClass]) -> Document:
    """The in-flight limits; a class without one has no key, and its cluster's own threshold does not bind."""
    layer = {}
    replicas = {pool.name: len(pool_addresses(pool, order)) for pool in order.fleet.pools}
    for workload in served:
        target = order.targets.of(workload.name)
        limit = breaker(target) if target else None
        if limit is not None:
            layer[files_in_flight_key(order.fleet.namespace, workload.name)] = limit
        if order.fleet.data_plane.gate is GateUse.ENABLED:
            name = files_cluster(order.fleet.namespace, workload.name)
            layer[envoy_gate.fence_key(name)] = envoy_gate.fence(order, workload, replicas)
    return {"@type": f"{TYPE_URL}.service.runtime.v3.Runtime", "name": FILES_RUNTIME_LAYER, "layer": layer}


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True
