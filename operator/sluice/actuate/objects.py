"""Kubernetes objects that we own: identity, metadata, and whether one is as it should be. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluice.model.fleet import Fleet, WorkloadClass
from sluice.model.naming import CLASS_LABEL, FLEET_LABEL, GROUP, MANAGED_BY, PLAN_ID_ANNOTATION, VERSION

Document = dict[str, Any]
LABEL_VALUE_LENGTH = 63


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind as its API serves it."""

    group: str
    version: str
    plural: str
    name: str

    @property
    def api_version(self) -> str:
        """``group/version``; the core group has no name."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def collection(self, namespace: str) -> str:
        """Path of the kind's objects in a namespace."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{namespace}/{self.plural}"

    def path(self, namespace: str, name: str) -> str:
        """Path of one object."""
        return f"{self.collection(namespace)}/{name}"


HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
TRAFFIC_POLICY = Kind("gateway.envoyproxy.io", "v1alpha1", "backendtrafficpolicies", "BackendTrafficPolicy")
EXTENSION_POLICY = Kind("gateway.envoyproxy.io", "v1alpha1", "envoyextensionpolicies", "EnvoyExtensionPolicy")
CONFIG_MAP = Kind("", "v1", "configmaps", "ConfigMap")


def label_value(name: str) -> str:
    """``name`` as a label value: itself, or, beyond 63 characters, its head and a digest."""
    if len(name) <= LABEL_VALUE_LENGTH:
        return name
    return f"{name[:54]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def owned_by_class(kind: Kind, name: str, fleet: Fleet, workload: WorkloadClass, plan_id: str) -> Document:
    """An object without content that goes when the class goes (the API server collects it)."""
    labels = {CLASS_LABEL: label_value(workload.name), **_fleet_labels(fleet)}
    owner = _owner("WorkloadClass", workload.name, workload.uid)
    return _document(kind, fleet.namespace, name, labels, owner, plan_id)


def owned_by_fleet(kind: Kind, name: str, fleet: Fleet, plan_id: str) -> Document:
    """An object without content that goes when the fleet goes."""
    owner = _owner("InferenceFleet", fleet.name, fleet.uid)
    return _document(kind, fleet.namespace, name, _fleet_labels(fleet), owner, plan_id)


def _fleet_labels(fleet: Fleet) -> dict[str, str]:
    return {FLEET_LABEL: label_value(fleet.name), MANAGED_BY[0]: MANAGED_BY[1]}


def _owner(kind: str, name: str, uid: str) -> Document:
    """A controller reference. ``blockOwnerDeletion`` stays out: it would need rights on finalizers."""
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "name": name, "uid": uid, "controller": True}


def _document(
    kind: Kind, namespace: str, name: str, labels: Mapping[str, str], owner: Document, plan_id: str
) -> Document:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {
            "namespace": namespace,
            "name": name,
            "labels": dict(labels),
            "annotations": {PLAN_ID_ANNOTATION: plan_id},
            "ownerReferences": [owner],
        },
    }


def is_ours(observed: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """Whether an object that exists under our name was made by us for an owner of the same name.

    The owner's uid may differ: a class that was deleted and made anew adopts what the old one
    left behind, whether or not the garbage collector has come by.
    """
    metadata = observed.get("metadata", {})
    owners = {(owner.get("kind"), owner.get("name")) for owner in metadata.get("ownerReferences", [])}
    wanted = desired["metadata"]["ownerReferences"][0]
    ours = metadata.get("labels", {}).get(MANAGED_BY[0]) == MANAGED_BY[1]
    return ours and (wanted["kind"], wanted["name"]) in owners


def is_as_desired(observed: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """Whether nothing would change.

    Our objects are rendered with every default of the server written out, so content must be
    equal. Labels of others may stand beside ours. The plan's id is not compared: it tells
    which plan last changed the object, and alone is no reason to write.
    """
    before, after = observed.get("metadata", {}), desired["metadata"]
    labels = before.get("labels", {})
    return (
        all(labels.get(key) == value for key, value in after["labels"].items())
        and all(_holds(before.get("ownerReferences", []), owner) for owner in after["ownerReferences"])
        and all(observed.get(part) == desired[part] for part in desired if part in ("spec", "data"))
    )


def _holds(owners: list[Mapping[str, Any]], wanted: Mapping[str, Any]) -> bool:
    return any(all(owner.get(key) == value for key, value in wanted.items()) for owner in owners)
