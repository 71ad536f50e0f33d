"""What the cluster's objects tell about a fleet's gateway: proxies, rule positions, foreign traffic. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sluice.control.ports import WorldView
from sluice.model.decision import Targets
from sluice.model.fleet import DataPlaneKind, Fleet, LimitKind, Mode, WorkloadClass
from sluice.model.naming import CLASS_LABEL, gateway_cluster
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.observe.proxies import Proxies
from sluice.observe.sources import is_exported

OWNING_GATEWAY = "gateway.envoyproxy.io/owning-gateway-name"
OWNING_GATEWAY_NAMESPACE = "gateway.envoyproxy.io/owning-gateway-namespace"
"""Labels that Envoy Gateway puts on the Pods of its proxies, wherever it runs them."""
OWNING_CLASS = "gateway.envoyproxy.io/owning-gatewayclass"
"""The label in their place where the EnvoyProxy merges all Gateways of a class (``mergeGateways``)."""

Document = Mapping[str, Any]


def proxies(view: WorldView, fleet: Fleet, classes: Sequence[WorkloadClass], in_force: Targets | None) -> Proxies:
    """What measuring must know of the data plane beyond the fleet's own declaration."""
    if fleet.data_plane.kind is not DataPlaneKind.ENVOY_GATEWAY:
        return Proxies()
    limits = {
        target.name: target.rate_limit
        for target in (in_force.classes if in_force is not None else ())
        if target.rate_limit is not None
    }
    return Proxies(
        ready=ready_proxies(view, fleet),
        rule_index=dict(_rule_positions(view, fleet, classes)),
        rate_limits=limits,
        foreign_clusters=tuple(sorted(_foreign_clusters(view, fleet, classes))),
    )


def ready_proxies(view: WorldView, fleet: Fleet) -> int | None:
    """Ready proxy Pods of the fleet's Gateway; None where no such Pod can be seen."""
    if fleet.gateway is None:
        return None
    classes = {
        (entry.get("spec") or {}).get("gatewayClassName")
        for entry in _of_kind(view, "Gateway")
        if (_namespace(entry), _name(entry)) == fleet.gateway
    }
    found = [pod for pod in _of_kind(view, "Pod") if _serves(_labels(pod), fleet.gateway, classes)]
    return sum(map(_is_ready, found)) if found else None


def _serves(labels: Mapping[str, str], gateway: tuple[str, str], classes: Collection[str | None]) -> bool:
    owner = labels.get(OWNING_GATEWAY_NAMESPACE), labels.get(OWNING_GATEWAY)
    return owner == gateway or (OWNING_CLASS in labels and labels[OWNING_CLASS] in classes)


def uncounted_proxies(fleet: Fleet, taken: int) -> tuple[Finding, ...]:
    """A finding where limits are divided by the ``taken`` proxies because nobody knows how many are ready."""
    plane = fleet.data_plane
    divided = plane.kind is DataPlaneKind.ENVOY_GATEWAY and plane.limit is not LimitKind.NONE
    if fleet.gateway is None or fleet.mode is not Mode.ENFORCE or not divided:
        return ()
    return (
        Finding(
            condition=ConditionType.DEGRADED,
            reason=Reason.PROXIES_UNCOUNTED,
            message=f"no ready proxy of Gateway {'/'.join(fleet.gateway)} is seen; limits are divided by {taken}: "
            "name the namespace of its Pods with --proxy-namespace (chart: rbac.proxyNamespaces)",
        ),
    )


def findings(view: WorldView, fleet: Fleet, classes: Sequence[WorkloadClass]) -> tuple[Finding, ...]:
    """References to objects that do not exist, as far as they can be seen."""
    if fleet.data_plane.kind is not DataPlaneKind.ENVOY_GATEWAY or not view.complete:
        return ()
    return (
        *_missing_gateway(view, fleet),
        *_missing_routes(view, fleet, classes),
        *_unmeasurable_routes(view, fleet, classes),
    )


def _missing_gateway(view: WorldView, fleet: Fleet) -> Iterator[Finding]:
    if fleet.gateway is None or "Gateway" in view.unwatched:
        return
    namespace, name = fleet.gateway
    seen = [_name(entry) for entry in _of_kind(view, "Gateway") if _namespace(entry) == namespace]
    if name in seen or namespace != fleet.namespace:  # another namespace may lie outside of what we watch
        return
    yield Finding(
        condition=ConditionType.RESOLVED_REFS,
        reason=Reason.GATEWAY_NOT_FOUND,
        message=f"spec.gatewayRef.name: no Gateway {name} in namespace {namespace}",
    )


def _missing_routes(view: WorldView, fleet: Fleet, classes: Sequence[WorkloadClass]) -> Iterator[Finding]:
    if "HTTPRoute" in view.unwatched:
        return
    found = {name for name, _ in _rule_positions(view, fleet, classes)}
    for workload in classes:
        if workload.route is not None and workload.name not in found:
            yield Finding(
                condition=ConditionType.RESOLVED_REFS,
                reason=Reason.ROUTE_NOT_FOUND,
                message=f"spec.routeRef: no rule {workload.route.rule_name} in HTTPRoute {workload.route.name}",
                subject=f"WorkloadClass/{workload.name}",
            )


def _unmeasurable_routes(view: WorldView, fleet: Fleet, classes: Sequence[WorkloadClass]) -> Iterator[Finding]:
    """Users' routes whose clusters Envoy's exporter cannot tell; our own are named so that it can."""
    positions = dict(_rule_positions(view, fleet, classes))
    for workload in classes:
        if workload.route is None or workload.name not in positions:
            continue
        if not is_exported(gateway_cluster(fleet.namespace, workload.route.name, positions[workload.name])):
            yield Finding(
                condition=ConditionType.METRICS_AVAILABLE,
                reason=Reason.NO_SAMPLES,
                message=f"spec.routeRef: Envoy exports no series of HTTPRoute {workload.route.name}, for its name has "
                "a dot; give it a name without one, or let another source tell the class",
                subject=f"WorkloadClass/{workload.name}",
            )


def _rule_positions(view: WorldView, fleet: Fleet, classes: Sequence[WorkloadClass]) -> Iterator[tuple[str, int]]:
    """(class, place of its rule in the user's route): the place is part of Envoy Gateway's cluster name."""
    routes = {_name(entry): entry for entry in _of_kind(view, "HTTPRoute") if _namespace(entry) == fleet.namespace}
    for workload in classes:
        route = routes.get(workload.route.name) if workload.route is not None else None
        if workload.route is None or route is None:
            continue
        for position, rule in enumerate(_rules(route)):
            if rule.get("name") == workload.route.rule_name:
                yield workload.name, position


def _foreign_clusters(view: WorldView, fleet: Fleet, classes: Sequence[WorkloadClass]) -> Iterator[str]:
    """Clusters of routes that are no class's and send to the fleet's backends: traffic that takes capacity."""
    backends = {(pool.backend.kind, pool.backend.name) for pool in fleet.pools if pool.backend is not None}
    taken = {(workload.route.name, workload.route.rule_name) for workload in classes if workload.route is not None}
    for route in _of_kind(view, "HTTPRoute"):
        if _namespace(route) != fleet.namespace or CLASS_LABEL in _labels(route):
            continue
        for position, rule in enumerate(_rules(route)):
            sends = {(ref.get("kind", "Service"), ref.get("name")) for ref in rule.get("backendRefs") or ()}
            if sends & backends and (_name(route), rule.get("name")) not in taken:
                yield gateway_cluster(fleet.namespace, _name(route), position)


def _of_kind(view: WorldView, kind: str) -> Iterable[Document]:
    return (entry for entry in view.objects if entry.get("kind") == kind)


def _metadata(entry: Document) -> Document:
    return entry.get("metadata") or {}


def _name(entry: Document) -> str:
    return str(_metadata(entry).get("name", ""))


def _namespace(entry: Document) -> str:
    return str(_metadata(entry).get("namespace", "default"))


def _labels(entry: Document) -> Mapping[str, str]:
    return _metadata(entry).get("labels") or {}


def _rules(route: Document) -> Sequence[Document]:
    return (route.get("spec") or {}).get("rules") or ()


def _is_ready(pod: Document) -> bool:
    if _metadata(pod).get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(entry.get("type") == "Ready" and entry.get("status") == "True" for entry in conditions)
