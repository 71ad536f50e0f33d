"""Kubernetes objects that we own: identity, metadata, and whether one is as it should be. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from sluice.actuate.kinds import Kind
from sluice.model.fleet import Fleet, WorkloadClass
from sluice.model.naming import CLASS_LABEL, FLEET_LABEL, GROUP, MANAGED_BY, PLAN_ID_ANNOTATION, VERSION

Document = dict[str, Any]
LABEL_VALUE_LENGTH = 63
CONTENT = ("spec", "data")
"""The parts of an object that can be ours."""


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


def owner_name(document: Mapping[str, Any]) -> str:
    """Name of the class or fleet that an object of ours was made for."""
    owners = document["metadata"].get("ownerReferences", [])
    return str(owners[0]["name"]) if owners else ""


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
        and all(observed.get(part) == desired[part] for part in desired if part in CONTENT)
    )


def _holds(owners: list[Mapping[str, Any]], wanted: Mapping[str, Any]) -> bool:
    return any(all(owner.get(key) == value for key, value in wanted.items()) for owner in owners)
