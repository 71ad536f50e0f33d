"""Names that two rooms must agree on: who writes an object and who looks for it later."""

from __future__ import annotations

import hashlib

from sluice.model.fleet import WorkloadClass

GROUP = "sluice.dev"
VERSION = "v1alpha1"
FIELD_MANAGER = "sluice"
CLASS_LABEL = f"{GROUP}/class"
FLEET_LABEL = f"{GROUP}/fleet"
MANAGED_BY = ("app.kubernetes.io/managed-by", FIELD_MANAGER)
"""Label and value on everything that we create."""
PLAN_ID_ANNOTATION = f"{GROUP}/plan-id"
"""On objects that we own; never on the user's."""

FAIRNESS_HEADER = "x-llm-d-inference-fairness-id"
"""Set by our routes to the class's fairness id: the endpoint picker labels its series with it."""
ROUTE_RULE_NAME = "sluice"
"""Name of the one rule in an HTTPRoute that we own."""


def files_cluster(namespace: str, class_name: str) -> str:
    """The Envoy cluster of a class in the Envoy-files data plane; also the stem of its runtime keys.

    Envoy's exporter ends a cluster's name at the first dot. An underscore, which no name of an object
    has, stands for it.
    """
    return f"sluice-{namespace}-{class_name.replace('.', '_')}"


FILES_ROUTES = "sluice"
"""Envoy files: the name of the route configuration and of its virtual host."""
FILES_RUNTIME_LAYER = "sluice"
"""Envoy files: the runtime layer with our in-flight limits; the admin layer above it can override them."""


def files_in_flight_key(namespace: str, class_name: str) -> str:
    """The runtime key that holds a class's in-flight limit in the Envoy-files data plane."""
    return f"circuit_breakers.{files_cluster(namespace, class_name)}.default.max_requests"


def gateway_cluster(namespace: str, route: str, rule_index: int) -> str:
    """The Envoy cluster that Envoy Gateway makes of one HTTPRoute rule."""
    return f"httproute/{namespace}/{route}/rule/{rule_index}"


def owned_route(workload: WorkloadClass) -> str:
    """The HTTPRoute and the policies that we create for a class bear its name.

    A route's name becomes part of a cluster's, and Envoy's exporter ends that at the first dot: a name
    with dots is written with hyphens, and a digest that keeps it apart from a class of that very name.
    """
    if "." not in workload.name:
        return workload.name
    digest = hashlib.sha256(workload.name.encode()).hexdigest()[:8]
    return f"{workload.name.replace('.', '-')[:244]}-{digest}"


def plan_config_map(fleet: str) -> str:
    """The ConfigMap that holds a fleet's plan."""
    return f"{fleet}-plan"


def rate_limit_stat_prefix(cluster: str) -> str:
    """``stat_prefix`` of the local rate limit filter on a class's route (Envoy files).

    It is the class's cluster, so that refusals before the router can be told apart:
    Envoy exports ``envoy_http_local_rate_limit_enforced{envoy_local_http_ratelimit_prefix=...}``.
    """
    return cluster


FILES_LISTENER_STAT_PREFIX = "sluice"
"""``stat_prefix`` of the connection manager on our listener (Envoy files).

A request that matches no class gets Envoy's own 404 there and is counted in ``envoy_http_no_route``.
"""
GATEWAY_RATE_LIMIT_STAT_PREFIX = "http_local_rate_limiter"
"""What Envoy Gateway gives the local rate limits of *all* routes: they share their counters."""
