"""The kinds of objects that the operator reads, and what of them matters to a pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice.actuate.kinds import HTTP_ROUTE, Kind
from sluice.model.naming import GROUP, VERSION

Document = Mapping[str, Any]


FLEETS = Kind(GROUP, VERSION, "inferencefleets", "InferenceFleet")
CLASSES = Kind(GROUP, VERSION, "workloadclasses", "WorkloadClass")
PROFILES = Kind(GROUP, VERSION, "iterationprofiles", "IterationProfile")
PODS = Kind("", "v1", "pods", "Pod")
SLICES = Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
GATEWAYS = Kind("gateway.networking.k8s.io", "v1", "gateways", "Gateway")
ROUTES = HTTP_ROUTE
SECRETS = Kind("", "v1", "secrets", "Secret")
EVENTS = Kind("", "v1", "events", "Event")

OURS = (FLEETS, CLASSES, PROFILES)
OTHERS = (PODS, SLICES, GATEWAYS, ROUTES)
WATCHED = (*OURS, *OTHERS)
BY_KIND = {kind.name: kind for kind in WATCHED}

_METADATA = ("name", "namespace", "uid", "resourceVersion", "generation", "labels", "creationTimestamp")


def slim(kind: Kind, body: Document) -> dict[str, Any]:
    """``body`` without what no pass reads: managed fields, annotations, most of a Pod.

    Pods of a large namespace would otherwise fill the operator's memory.
    """
    source = body.get("metadata", {})
    metadata = {key: source[key] for key in (*_METADATA, "deletionTimestamp", "ownerReferences") if key in source}
    document: dict[str, Any] = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}
    if kind is PODS:
        return {**document, **_pod(body)}
    document.update({key: body[key] for key in body if key not in ("apiVersion", "kind", "metadata")})
    return document


def _pod(body: Document) -> dict[str, Any]:
    """A Pod's address, ports and readiness."""
    spec, status = body.get("spec", {}), body.get("status", {})
    containers = [
        {"name": container.get("name"), "ports": container.get("ports", [])} for container in spec.get("containers", [])
    ]
    conditions = [
        {"type": condition.get("type"), "status": condition.get("status")}
        for condition in status.get("conditions", [])
        if condition.get("type") == "Ready"
    ]
    return {
        "spec": {"containers": containers},
        "status": {"phase": status.get("phase"), "podIP": status.get("podIP"), "conditions": conditions},
    }


def essence(kind: Kind, document: Document) -> object:
    """What must differ for a change to deserve a pass at once.

    Our own status writes come back as changes and must not: where an object has a
    generation, it and the labels are all that counts; where it has none (Pods,
    EndpointSlices), everything but the bookkeeping.
    """
    metadata = document["metadata"]
    identity = (metadata.get("uid"), metadata.get("deletionTimestamp"), metadata.get("labels"))
    if kind in (*OURS, GATEWAYS, ROUTES):
        return (*identity, metadata.get("generation"))
    return (*identity, {key: value for key, value in document.items() if key != "metadata"})
