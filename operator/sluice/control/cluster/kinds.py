"""The kinds of objects that the operator reads, and what of them matters to a pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluice.model.naming import GROUP, VERSION

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """One kind as its API serves it."""

    group: str
    version: str
    plural: str
    kind: str
    required: bool = False
    """Whether the operator cannot work without it (our own); others are read where served and permitted."""

    @property
    def api_version(self) -> str:
        """``group/version``; the core group has no name."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """Path of the group and version on the API server."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def collection(self, namespace: str | None) -> str:
        """Path of the objects in ``namespace``; None: of all namespaces."""
        home = f"/namespaces/{namespace}" if namespace is not None else ""
        return f"{self.root}{home}/{self.plural}"

    def path(self, namespace: str, name: str) -> str:
        """Path of one object."""
        return f"{self.collection(namespace)}/{name}"


FLEETS = ObjectKind(GROUP, VERSION, "inferencefleets", "InferenceFleet", required=True)
CLASSES = ObjectKind(GROUP, VERSION, "workloadclasses", "WorkloadClass", required=True)
PROFILES = ObjectKind(GROUP, VERSION, "iterationprofiles", "IterationProfile", required=True)
PODS = ObjectKind("", "v1", "pods", "Pod")
SERVICES = ObjectKind("", "v1", "services", "Service")
SLICES = ObjectKind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
GATEWAYS = ObjectKind("gateway.networking.k8s.io", "v1", "gateways", "Gateway")
ROUTES = ObjectKind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
SECRETS = ObjectKind("", "v1", "secrets", "Secret")
EVENTS = ObjectKind("", "v1", "events", "Event")

OURS = (FLEETS, CLASSES, PROFILES)
OTHERS = (PODS, SERVICES, SLICES, GATEWAYS, ROUTES)
WATCHED = (*OURS, *OTHERS)
BY_KIND = {kind.kind: kind for kind in WATCHED}

_METADATA = ("name", "namespace", "uid", "resourceVersion", "generation", "labels", "creationTimestamp")


def slim(kind: ObjectKind, body: Document) -> dict[str, Any]:
    """``body`` without what no pass reads: managed fields, annotations, most of a Pod.

    Pods of a large namespace would otherwise fill the operator's memory.
    """
    source = body.get("metadata", {})
    metadata = {key: source[key] for key in (*_METADATA, "deletionTimestamp", "ownerReferences") if key in source}
    document: dict[str, Any] = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
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


def essence(kind: ObjectKind, document: Document) -> object:
    """What must differ for a change to deserve a pass at once.

    Our own status writes come back as changes and must not: where an object has a
    generation, it and the labels are all that counts; where it has none (Pods,
    EndpointSlices, Services), everything but the bookkeeping.
    """
    metadata = document["metadata"]
    identity = (metadata.get("uid"), metadata.get("deletionTimestamp"), metadata.get("labels"))
    if kind in (*OURS, GATEWAYS, ROUTES):
        return (*identity, metadata.get("generation"))
    return (*identity, {key: value for key, value in document.items() if key != "metadata"})
