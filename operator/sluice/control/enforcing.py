"""Which fleets enforce, and what one of them leaves to another. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from sluice.control.ports import FleetKey, WorldView
from sluice.model.fleet import DataPlaneKind, Mode

Enforcing = Mapping[DataPlaneKind, frozenset[FleetKey]]
"""The fleets that enforce, by the data plane that they enforce through."""


def enforcing(view: WorldView) -> Enforcing:
    """The fleets of ``view`` that enforce; one that cannot be read may enforce anywhere."""
    unread = frozenset((entry.ref.namespace, entry.ref.name) for entry in view.refusals if _is_fleet(entry.ref.kind))
    return {
        kind: unread
        | {
            (fleet.metadata.namespace, fleet.metadata.name)
            for fleet in view.fleets
            if fleet.spec.mode is Mode.ENFORCE and fleet.spec.data_plane.kind is kind
        }
        for kind in DataPlaneKind
    }


def _is_fleet(kind: str) -> bool:
    return kind == "InferenceFleet"


def handed_over(view: WorldView, key: FleetKey) -> frozenset[str]:
    """Classes beside ``key``'s whose fleets enforce through Gateway objects, and so take their routes over.

    Without those on users' routes: of these no fleet makes anything that another could take over.
    """
    taking = enforcing(view)[DataPlaneKind.ENVOY_GATEWAY] - {key}
    return frozenset(
        entry.metadata.name
        for entry in view.classes
        if entry.spec.route_ref is None
        and entry.metadata.namespace == key[0]
        and (key[0], entry.spec.fleet_ref.name) in taking
    )


def moved_away(view: WorldView, key: FleetKey) -> frozenset[str]:
    """Classes of ``key``'s namespace that refer to another fleet."""
    namespace, name = key
    return frozenset(
        entry.metadata.name
        for entry in view.classes
        if entry.metadata.namespace == namespace and entry.spec.fleet_ref.name != name
    )
