"""The person at the keyboard of a test cluster: applies, reads, edits and deletes by plain HTTP."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from tests.controlplane.cluster import ControlPlane, wait_until

PLURALS = {
    "InferenceFleet": "inferencefleets",
    "WorkloadClass": "workloadclasses",
    "IterationProfile": "iterationprofiles",
    "HTTPRoute": "httproutes",
    "BackendTrafficPolicy": "backendtrafficpolicies",
    "EnvoyExtensionPolicy": "envoyextensionpolicies",
    "EndpointSlice": "endpointslices",
    "Gateway": "gateways",
    "GatewayClass": "gatewayclasses",
    "EnvoyProxy": "envoyproxies",
    "SecurityPolicy": "securitypolicies",
    "ClientTrafficPolicy": "clienttrafficpolicies",
    "InferenceObjective": "inferenceobjectives",
    "Backend": "backends",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "Service": "services",
    "Event": "events",
    "Pod": "pods",
    "Deployment": "deployments",
    "Namespace": "namespaces",
    "CustomResourceDefinition": "customresourcedefinitions",
    "Role": "roles",
    "RoleBinding": "rolebindings",
}
VERSIONS = {
    "InferenceFleet": "sluice.dev/v1alpha1",
    "WorkloadClass": "sluice.dev/v1alpha1",
    "IterationProfile": "sluice.dev/v1alpha1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "Gateway": "gateway.networking.k8s.io/v1",
    "BackendTrafficPolicy": "gateway.envoyproxy.io/v1alpha1",
    "EnvoyExtensionPolicy": "gateway.envoyproxy.io/v1alpha1",
    "EnvoyProxy": "gateway.envoyproxy.io/v1alpha1",
    "InferenceObjective": "inference.networking.x-k8s.io/v1alpha2",
    "CustomResourceDefinition": "apiextensions.k8s.io/v1",
}
"""What is not here is in the core group, version v1."""
TOO_MANY_REQUESTS = 429
CLUSTERWIDE = frozenset({"Namespace", "CustomResourceDefinition", "GatewayClass"})

Document = dict[str, Any]


class Refused(Exception):  # noqa: N818 - an answer
    """The server's ``Status``."""

    def __init__(self, status: Document) -> None:
        super().__init__(status.get("message"))
        self.status = status


class Admin:
    """One namespace of a test cluster, with all rights."""

    def __init__(self, control_plane: ControlPlane, namespace: str = "default") -> None:
        self._control_plane = control_plane
        self._context = ssl.create_default_context(cafile=str(control_plane.certificate))
        self.namespace = namespace

    def within(self, namespace: str) -> Admin:
        """The same person in another namespace, which is made if it is not there."""
        other = Admin(self._control_plane, namespace)
        other.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        return other

    def apply(self, document: Mapping[str, Any]) -> Document:
        """Server-side apply as kubectl does it."""
        query = "?fieldManager=kubectl&force=true&fieldValidation=Strict"
        return self._send("PATCH", self._path(document) + query, document, "application/apply-patch+yaml")

    def apply_file(self, path: Path) -> list[Document]:
        """Every document of a file, or of the files of a folder."""
        files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        documents = [doc for file in files for doc in yaml.safe_load_all(file.read_text(encoding="utf-8")) if doc]
        return [self.apply(document) for document in documents]

    def create(self, document: Mapping[str, Any]) -> Document:
        """A new object, strictly validated."""
        path = self._path(document).rsplit("/", 1)[0] + "?fieldValidation=Strict"
        return self._send("POST", path, document)

    def get(self, kind: str, name: str) -> Document:
        """One object."""
        return self._send("GET", self._path(_stub(kind, name)))

    def find(self, kind: str, name: str) -> Document | None:
        """One object, or None."""
        try:
            return self.get(kind, name)
        except Refused as refused:
            if refused.status.get("code") == 404:
                return None
            raise

    def all(self, kind: str) -> list[Document]:
        """All objects of a kind in the namespace."""
        path = self._path(_stub(kind, "")).rstrip("/")
        items: list[Document] = self._send("GET", path)["items"]
        return items

    def edit(self, kind: str, name: str, patch: Mapping[str, Any]) -> Document:
        """A merge patch, as kubectl patch sends it."""
        return self._send("PATCH", self._path(_stub(kind, name)), patch, "application/merge-patch+json")

    def edit_status(self, kind: str, name: str, patch: Mapping[str, Any]) -> Document:
        """A merge patch of the status, as controllers and kubelets send it."""
        return self._send("PATCH", f"{self._path(_stub(kind, name))}/status", patch, "application/merge-patch+json")

    def delete(self, kind: str, name: str) -> None:
        """Delete one object; background deletion of what it owns."""
        self._send("DELETE", self._path(_stub(kind, name)))

    def set_status(self, document: Mapping[str, Any], status: Mapping[str, Any]) -> Document:
        """Write a status subresource, as the object's controller would."""
        patch = {"status": status}
        return self._send("PATCH", self._path(document) + "/status", patch, "application/merge-patch+json")

    def versions(self, kinds: Iterable[str]) -> dict[str, str]:
        """``Kind/name`` -> resource version of everything in the namespace."""
        return {
            f"{kind}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for kind in kinds
            for item in self.all(kind)
        }

    def condition(self, kind: str, name: str, type_: str) -> Document:
        """One condition; empty where the object or the condition is not there."""
        found = (self.find(kind, name) or {}).get("status", {}).get("conditions", [])
        return next((condition for condition in found if condition["type"] == type_), {})

    def wait_for(self, kind: str, name: str, type_: str, status: str, *, timeout_seconds: float = 30.0) -> Document:
        """Wait for a condition's status."""
        wait_until(
            lambda: self.condition(kind, name, type_).get("status") == status,
            f"{kind}/{name} {type_}={status}",
            timeout_seconds=timeout_seconds,
        )
        return self.condition(kind, name, type_)

    def _path(self, document: Mapping[str, Any]) -> str:
        kind, version = document["kind"], document["apiVersion"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        place = "" if kind in CLUSTERWIDE else f"/namespaces/{document['metadata'].get('namespace', self.namespace)}"
        return f"{root}{place}/{PLURALS[kind]}/{document['metadata'].get('name', '')}"

    def _send(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Document:
        """One request; asked again while the server says 429 (a new kind's storage is still being set up)."""
        answer: Document = {}

        def is_answered() -> bool:
            nonlocal answer
            try:
                answer = self._ask(method, path, body, content_type)
            except Refused as refused:
                if refused.status.get("code") == TOO_MANY_REQUESTS:
                    return False
                raise
            return True

        wait_until(is_answered, f"{method} {path} is not put off any longer")
        return answer

    def _ask(self, method: str, path: str, body: object, content_type: str) -> Document:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._control_plane.url + path, data=data, method=method)  # noqa: S310 - ours
        request.add_header("Authorization", f"Bearer {self._control_plane.admin_token}")
        request.add_header("Content-Type", content_type)
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._context) as answer:  # noqa: S310 - ours
                document: Document = json.load(answer)
                return document
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(json.load(error)) from None


def _stub(kind: str, name: str) -> Document:
    return {"apiVersion": VERSIONS.get(kind, "v1"), "kind": kind, "metadata": {"name": name}}
