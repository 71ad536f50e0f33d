"""What is no longer wanted: which of it is ours to delete, and how, while others write.

A class may move to another fleet. That fleet takes its objects over by name, and between our
look and our delete it may have done so: every delete is guarded by the object's version, and
what changed meanwhile is looked at again.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from sluice.actuate.kinds import HTTP_ROUTE, TRAFFIC_POLICY, Kind
from sluice.actuate.kubernetes_api import Answer, KubernetesApi
from sluice.actuate.objects import label_value, owner_name
from sluice.actuate.port import Order
from sluice.model.fleet import Fleet
from sluice.model.naming import FLEET_LABEL, MANAGED_BY

LOOKS = 3
"""How often an object that is to go is tried while it changes: a controller writes its status now and then."""
_CHANGED = 409


def is_removable(kind: Kind, observed: Mapping[str, Any], order: Order, held: Set[str]) -> bool:
    """Whether an object that is not wanted is ours to remove.

    A held class keeps what it has. A class that another fleet has by now keeps its route and the policy
    on it, which that fleet makes for each of its classes and so takes over; all else it may not want.
    """
    owner = owner_name(observed)
    kept = owner in held or (kind in (HTTP_ROUTE, TRAFFIC_POLICY) and owner in order.handed_over)
    return observed["metadata"].get("labels", {}).get(MANAGED_BY[0]) == MANAGED_BY[1] and not kept


def delete(api: KubernetesApi, kind: Kind, observed: Mapping[str, Any]) -> Answer:
    """Delete an object if it still is as it was seen; 409 where it is not."""
    metadata = observed["metadata"]
    guard = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    return api.send("DELETE", kind.path(metadata["namespace"], metadata["name"]), body={"preconditions": guard})


def delete_of_fleet(api: KubernetesApi, kind: Kind, observed: Mapping[str, Any], fleet: Fleet) -> Answer | None:
    """Delete an object of ``fleet``, also where its status changed meanwhile; None where it is another fleet's now."""
    answer = delete(api, kind, observed)
    for _ in range(LOOKS - 1):
        if answer.status != _CHANGED:
            break
        metadata = observed["metadata"]
        answer = api.send("GET", kind.path(metadata["namespace"], metadata["name"]))
        if answer.fine:
            if answer.document["metadata"].get("labels", {}).get(FLEET_LABEL) != label_value(fleet.name):
                return None
            answer = delete(api, kind, answer.document)
    return answer
