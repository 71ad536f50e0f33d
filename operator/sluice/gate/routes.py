"""What the proxy calls a class: its route, by which requests are told, and its cluster. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from sluice.model.fleet import DataPlaneKind, Fleet, WorkloadClass
from sluice.model.naming import files_cluster, gateway_cluster, owned_route

Rules = Mapping[str, tuple[str, ...]]
"""HTTPRoute -> the names of its rules in their order; a rule without a name has an empty one."""
_ROUTE_PARTS, _RULE_PARTS = 3, 5
"""Parts of ``httproute/NAMESPACE/NAME/rule/POSITION/match/...`` as far as the name, and as far as the position."""


def classifier(namespace: str, classes: Iterable[WorkloadClass], rules: Rules) -> Callable[[str], str | None]:
    """Envoy files name a route after its class; Envoy Gateway by the position of a rule in its HTTPRoute.

    Several classes may share a user's HTTPRoute by rules. Where its rules cannot be seen, such
    classes cannot be told apart and pass ungated, counted as ``UnknownClass``.
    """
    listed = tuple(classes)
    shared = Counter(workload.route.name for workload in listed if workload.route)
    names = {workload.name: workload.name for workload in listed if workload.match}
    for workload in listed:
        if workload.route is None:
            names[f"httproute/{namespace}/{owned_route(workload)}"] = workload.name
        elif (position := _position(workload, rules)) is not None:
            names[gateway_cluster(namespace, workload.route.name, position)] = workload.name
        elif shared[workload.route.name] == 1:
            names[f"httproute/{namespace}/{workload.route.name}"] = workload.name

    @lru_cache(maxsize=1024)
    def classify(route: str) -> str | None:
        parts = route.split("/", _RULE_PARTS)
        heads = (route, "/".join(parts[:_RULE_PARTS]), "/".join(parts[:_ROUTE_PARTS]))
        return next((names[head] for head in heads if head in names), None)

    return classify


def clusters(fleet: Fleet, classes: Iterable[WorkloadClass], rules: Rules) -> dict[str, str]:
    """Class to its cluster at the proxy; a class of a user's route whose rules cannot be seen has none."""
    if fleet.data_plane.kind is DataPlaneKind.ENVOY_FILES:
        return {workload.name: files_cluster(fleet.namespace, workload.name) for workload in classes}
    found = {}
    for workload in classes:
        route = owned_route(workload) if workload.route is None else workload.route.name
        position = 0 if workload.route is None else _position(workload, rules)
        if position is not None:
            found[workload.name] = gateway_cluster(fleet.namespace, route, position)
    return found


def _position(workload: WorkloadClass, rules: Rules) -> int | None:
    """Where a class's rule stands in the user's HTTPRoute; None where that cannot be seen."""
    names = rules.get(workload.route.name, ()) if workload.route is not None else ()
    return names.index(workload.route.rule_name) if workload.route and workload.route.rule_name in names else None
