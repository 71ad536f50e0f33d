"""A class's limits as Envoy Gateway enforces them: one BackendTrafficPolicy per class. Pure.

The policy targets the class's rule by name (``sectionName``), which Envoy Gateway makes a
cluster of its own. It counts in every proxy apart, so limits are divided by the ready proxies.

**Breakers.** Envoy Gateway gives every cluster thresholds of 1024 that nobody asked for, and
setting one of them leaves the others there; with HTTP/1.1 engines a request is a connection,
so ``maxConnections`` would bind first. So the thresholds are always written together:
``maxParallelRequests`` carries the limit or the fence, all others are as wide as the field.
A class without a limit, on a route of ours, gets the same policy wide open: 1024 requests in
flight would otherwise be a limit where the plan rations nothing. On a user's route nothing is
written until there is a limit: what stands there is the user's. ``maxRequestsPerConnection``
stays unset: unlimited is its default.

**Placement.** Where the gate names the replica, the proxy takes its word from a header, and its own
choice where there is none or the named one is gone; the gate removes what clients write there.

**Rates.** ``rateLimit.local`` is a token bucket as deep as one unit's requests; its depth
cannot be chosen apart. See ``policy.division`` for the choice of the unit.

**Others' policies.** ``mergeType`` keeps what a policy on the Gateway says about everything
else (retries, health checks), which a route's policy would otherwise replace as a whole.

Reference: https://gateway.envoyproxy.io/docs/api/extension_types/#backendtrafficpolicy
"""

from __future__ import annotations

from sluice.actuate.envoy_gate import fence
from sluice.actuate.envoy_terms import UNBOUNDED, unbounded
from sluice.actuate.kinds import HTTP_ROUTE, TRAFFIC_POLICY
from sluice.actuate.objects import Document, owned_by_class
from sluice.actuate.order import breaker
from sluice.actuate.port import Order
from sluice.model.decision import ClassTarget
from sluice.model.fleet import GateUse, WorkloadClass
from sluice.model.gate import ENDPOINT_HEADER
from sluice.model.naming import ROUTE_RULE_NAME, owned_route
from sluice.policy.division import in_flight_per_proxy, rate_per_proxy


def open_thresholds() -> Document:
    """Thresholds that nothing reaches, all four: one that is left out would stand at 1024."""
    return unbounded("maxConnections", "maxPendingRequests", "maxParallelRequests", "maxParallelRetries")


def attached_to(workload: WorkloadClass) -> list[Document]:
    """The rule to which a class's policies are attached: of its own route, or of the user's."""
    route, rule = owned_route(workload), ROUTE_RULE_NAME
    if workload.route is not None:
        route, rule = workload.route.name, workload.route.rule_name
    return [{"group": HTTP_ROUTE.group, "kind": HTTP_ROUTE.name, "name": route, "sectionName": rule}]


def policies(order: Order) -> tuple[Document, ...]:
    """The BackendTrafficPolicies of all classes that need one."""
    documents = (_policy(order, workload, order.targets.of(workload.name)) for workload in order.classes)
    return tuple(document for document in documents if document is not None)


def _policy(order: Order, workload: WorkloadClass, target: ClassTarget | None) -> Document | None:
    """One class's policy; None where a user's route needs none."""
    if target is None:
        return None
    limit = breaker(target)
    gated = order.fleet.data_plane.gate is GateUse.ENABLED
    if workload.route is not None and target.rate_limit is None and limit is None and not gated:
        return None
    document = owned_by_class(TRAFFIC_POLICY, owned_route(workload), order.fleet, workload, order.targets.plan_id)
    document["spec"] = {
        "targetRefs": attached_to(workload),
        "mergeType": "StrategicMerge",
        "circuitBreaker": {
            **open_thresholds(),
            "maxConnections": _connections(order, workload),
            "maxParallelRequests": UNBOUNDED if limit is None else in_flight_per_proxy(limit, order.proxies),
        },
    }
    if order.fleet.data_plane.gate_places:
        override = {"extractFrom": [{"header": ENDPOINT_HEADER}]}
        document["spec"]["loadBalancer"] = {"type": "LeastRequest", "endpointOverride": override}
    if target.rate_limit is not None:
        share = rate_per_proxy(target.rate_limit, order.proxies)
        rule_limit = {"limit": {"requests": share.requests, "unit": share.unit.value}}
        document["spec"]["rateLimit"] = {"type": "Local", "local": {"rules": [rule_limit]}}
    return document


def _connections(order: Order, workload: WorkloadClass) -> int:
    """Behind the gate a fence for when it is gone: engines speak HTTP/1.1, and what exceeds it queues."""
    if order.fleet.data_plane.gate is not GateUse.ENABLED:
        return UNBOUNDED
    ready = {supply.pool: supply.ready for supply in order.supplies}
    return in_flight_per_proxy(fence(order, workload, ready), order.proxies)
