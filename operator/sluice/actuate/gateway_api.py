"""A class's share of each pool as Gateway API says it: our own route, or weights in a user's. Pure.

**Own route** (the class has ``match``): an HTTPRoute with one named rule, owned by the class.
The rule sets the fairness id and, where the fleet has any, names the class's objective; it has
no request time-out unless the user sets one (a gateway's own default, 15 s in Envoy, would cut
streams), and one back end per pool.

**A user's route** (the class has ``routeRef``): only ``weight`` of the rule's back ends is ours.
Server-side apply cannot say that: ``spec.rules`` and ``backendRefs`` are atomic lists in
HTTPRoute, so applying one weight would take over every rule. A JSON patch can: it replaces
single weights and tests, in the same transaction, the object's resourceVersion and the names
of the rule and of the back ends it counts by position. In ``managedFields`` the whole list is
then shared between the user's manager and ours; a GitOps tool that owns the list will write
its own weights back on its next sync unless told to ignore them.

Reference: https://gateway-api.sigs.k8s.io/reference/spec/ (v1 HTTPRoute).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sluice.actuate import inference_objectives
from sluice.actuate.kinds import HTTP_ROUTE
from sluice.actuate.objects import Document, owned_by_class
from sluice.actuate.port import Order
from sluice.model.decision import ClassTarget
from sluice.model.fleet import BackendRef, Fleet, WorkloadClass
from sluice.model.naming import FAIRNESS_HEADER, ROUTE_RULE_NAME, owned_route
from sluice.model.reasons import ConditionType, Finding, Reason

BackendKey = tuple[str, str, str, str, int | None]
"""(group, kind, namespace, name, port) of a back end."""


def routes(order: Order) -> tuple[tuple[Document, ...], tuple[Finding, ...]]:
    """The HTTPRoutes of the classes that have a match, and why some class has none."""
    documents: list[Document] = []
    findings: list[Finding] = []
    for workload in order.classes:
        target = order.targets.of(workload.name)
        if workload.match is None or target is None:
            continue
        finding = _missing(order.fleet, workload, target)
        if finding is None:
            documents.append(_route(order, workload, target))
        else:
            findings.append(finding)
    return tuple(documents), tuple(findings)


def _missing(fleet: Fleet, workload: WorkloadClass, target: ClassTarget) -> Finding | None:
    """What a class's route would need and the fleet does not say."""
    if fleet.gateway is None:
        return Finding(
            condition=ConditionType.RESOLVED_REFS,
            reason=Reason.GATEWAY_NOT_FOUND,
            message="the fleet names no gatewayRef for the routes of its classes",
            subject=f"WorkloadClass/{workload.name}",
        )
    used = {pool for pool, weight in target.weights if weight > 0}
    bare = [pool.name for pool in fleet.pools if pool.name in used and pool.backend is None]
    return _no_backend(workload, bare) if bare else None


def _no_backend(workload: WorkloadClass, pools: Sequence[str]) -> Finding:
    return Finding(
        condition=ConditionType.PROGRAMMED,
        reason=Reason.WRITE_FAILED,
        message=f"a route needs a backendRef of pool {', '.join(pools)}",
        subject=f"WorkloadClass/{workload.name}",
    )


def _route(order: Order, workload: WorkloadClass, target: ClassTarget) -> Document:
    """One HTTPRoute with one rule; every default of the server is written out."""
    fleet, match = order.fleet, workload.match
    namespace, gateway = fleet.gateway or (fleet.namespace, "")
    path = {"type": "PathPrefix", "value": (match.path_prefix if match else None) or "/"}
    matched: Document = {"path": path}
    if match and match.headers:
        matched["headers"] = [{"type": "Exact", "name": h.name, "value": h.value} for h in match.headers]
    written = [{"name": FAIRNESS_HEADER, "value": workload.fairness_id or workload.name}]
    if objective := inference_objectives.header(fleet, owned_route(workload)):
        written.append({"name": objective[0], "value": objective[1]})
    rule = {
        "name": ROUTE_RULE_NAME,
        "matches": [matched],
        "filters": [
            {
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {"set": written},
            }
        ],
        "timeouts": {"request": gateway_duration(workload.request_timeout_seconds)},
        "backendRefs": _backends(fleet, target),
    }
    document = owned_by_class(HTTP_ROUTE, owned_route(workload), fleet, workload, order.targets.plan_id)
    document["spec"] = {
        "parentRefs": [
            {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": namespace, "name": gateway}
        ],
        "rules": [rule],
    }
    return document


def _backends(fleet: Fleet, target: ClassTarget) -> list[Document]:
    """One back end per pool of the class; a weight of zero stays listed, so positions do not move."""
    listed: list[Document] = []
    weights = dict(target.weights)
    for pool in fleet.pools:
        if pool.name not in weights or pool.backend is None:
            continue
        backend = pool.backend
        entry: Document = {"group": backend.group, "kind": backend.kind, "name": backend.name}
        if backend.namespace is not None:
            entry["namespace"] = backend.namespace
        if backend.port is not None:
            entry["port"] = backend.port
        listed.append({**entry, "weight": weights[pool.name]})
    return listed


def weights_patch(
    observed: Mapping[str, Any] | None, fleet: Fleet, workload: WorkloadClass, target: ClassTarget
) -> tuple[list[Document], Finding | None]:
    """The JSON patch that puts a class's weights into the named rule of a user's HTTPRoute.

    Empty when the weights are there already. The finding says why the rule cannot carry the
    plan: no such rule, or a pool with a share has no back end in it. Back ends that belong to
    no pool keep their weight.
    """
    route = workload.route
    if route is None or observed is None:
        return [], _unresolved(workload, "does not exist")
    rules = observed.get("spec", {}).get("rules", [])
    found = [index for index, rule in enumerate(rules) if rule.get("name") == route.rule_name]
    if not found:
        return [], _unresolved(workload, f"has no rule named {route.rule_name}")
    index = found[0]
    namespace = observed["metadata"]["namespace"]
    backends = rules[index].get("backendRefs", [])
    keys = [_key_of(backend, namespace) for backend in backends]
    operations: list[Document] = []
    weights = dict(target.weights)
    for pool in fleet.pools:
        weight = weights.get(pool.name)
        if weight is None:
            continue
        key = _key(pool.backend, fleet.namespace) if pool.backend else None
        if key is None or key not in keys:
            if weight > 0:
                return [], _unresolved(workload, f"has no backendRef for pool {pool.name} in rule {route.rule_name}")
            continue
        position = keys.index(key)
        if backends[position].get("weight", 1) != weight:
            place = f"/spec/rules/{index}/backendRefs/{position}"
            operations += [
                {"op": "test", "path": f"{place}/name", "value": backends[position]["name"]},
                {"op": "add", "path": f"{place}/weight", "value": weight},
            ]
    if not operations:
        return [], None
    version = observed["metadata"]["resourceVersion"]
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "test", "path": f"/spec/rules/{index}/name", "value": route.rule_name},
        *operations,
    ], None


def _unresolved(workload: WorkloadClass, what: str) -> Finding:
    name = workload.route.name if workload.route else ""
    return Finding(
        condition=ConditionType.RESOLVED_REFS,
        reason=Reason.ROUTE_NOT_FOUND,
        message=f"HTTPRoute {name} {what}",
        subject=f"WorkloadClass/{workload.name}",
    )


def _key(backend: BackendRef, namespace: str) -> BackendKey:
    return (backend.group, backend.kind, backend.namespace or namespace, backend.name, backend.port)


def _key_of(backend: Mapping[str, Any], namespace: str) -> BackendKey:
    """The same of a back end in an object, with the server's defaults."""
    return (
        backend.get("group", ""),
        backend.get("kind", "Service"),
        backend.get("namespace", namespace),
        backend["name"],
        backend.get("port"),
    )


def gateway_duration(seconds: float | None) -> str:
    """A Gateway API duration (GEP-2257: at most five digits per unit); None is no time-out."""
    left = max(1, round(seconds * 1000)) if seconds else 0
    parts = []
    for unit, milliseconds in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, milliseconds)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
