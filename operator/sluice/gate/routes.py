"""What the proxy calls a class: its route, by which requests are told, and its cluster. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from sluice.model.fleet import DataPlaneKind, Fleet, WorkloadClass
from sluice.model.naming import files_cluster, gateway_cluster, owned_route


def classifier(namespace: str, classes: Iterable[WorkloadClass]) -> Callable[[str], str | None]:
    """Envoy files name a route after its class; Envoy Gateway says ``httproute/NAMESPACE/NAME/rule/...``.

    A user's HTTPRoute that several classes share by rules cannot be told apart by name, and is
    left ungated: its requests are counted as ``UnknownClass``.
    """
    listed = tuple(classes)
    shared = Counter(workload.route.name for workload in listed if workload.route)
    names = {workload.name: workload.name for workload in listed if workload.match}
    for workload in listed:
        if workload.route is None:
            names[f"httproute/{namespace}/{owned_route(workload)}"] = workload.name
        elif shared[workload.route.name] == 1:
            names[f"httproute/{namespace}/{workload.route.name}"] = workload.name

    def classify(route: str) -> str | None:
        return names.get(route) or names.get("/".join(route.split("/", 3)[:3]))

    return classify


def clusters(fleet: Fleet, classes: Iterable[WorkloadClass]) -> dict[str, str]:
    """Class to its cluster at the proxy; a class of a user's route, whose place in it is not known here, has none."""
    if fleet.data_plane.kind is DataPlaneKind.ENVOY_FILES:
        return {workload.name: files_cluster(fleet.namespace, workload.name) for workload in classes}
    return {
        workload.name: gateway_cluster(fleet.namespace, owned_route(workload), 0)
        for workload in classes
        if workload.route is None
    }
