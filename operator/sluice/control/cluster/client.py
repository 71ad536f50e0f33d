"""The Kubernetes API as a handful of verbs, blocking; ``Workers`` take it off the event loop.

The official client logs in (kubeconfig, in-cluster token with rotation) and speaks HTTP;
its generated classes are not used: documents go in and out as they are.

Errors, split by what the caller does::

    ApiError            anything the server refused: read ``status`` and ``message``
      NotFound          404: it is gone, often fine
      Forbidden         403: a right is missing; the user must grant it
      Conflict          409: somebody else owns a field or was faster
    Unreachable         no answer: the world may heal
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kubernetes
import urllib3

from sluice.control.cluster.kinds import ObjectKind
from sluice.model.naming import FIELD_MANAGER

REQUEST_TIMEOUT_SECONDS = (3.0, 15.0)
"""Connecting, reading."""
APPLY = "application/apply-patch+yaml"
PAGE = 500


class ApiError(Exception):
    """The API server refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class NotFound(ApiError):  # noqa: N818 - named after the HTTP status
    """The object or its kind does not exist."""


class Forbidden(ApiError):  # noqa: N818 - named after the HTTP status
    """The service account may not do this."""


class Conflict(ApiError):  # noqa: N818 - named after the HTTP status
    """Another field manager owns a field, or the object changed meanwhile."""


class Unreachable(Exception):  # noqa: N818 - a state of the world
    """The API server did not answer."""


# The client is not typed; these are all that we call of it besides its two classes.
_LOAD_KUBECONFIG: Callable[..., None] = kubernetes.config.load_kube_config
_LOAD_INCLUSTER: Callable[..., None] = kubernetes.config.load_incluster_config

_ERRORS = {403: Forbidden, 404: NotFound, 409: Conflict}


class Cluster:
    """One API server, one identity."""

    def __init__(self, api: kubernetes.client.ApiClient) -> None:
        self._api = api

    @classmethod
    def login(cls, kubeconfig: Path | None = None) -> Cluster:
        """With ``kubeconfig``, else in-cluster, else the user's default kubeconfig."""
        configuration = kubernetes.client.Configuration()
        if kubeconfig is not None:
            _LOAD_KUBECONFIG(config_file=str(kubeconfig), client_configuration=configuration)
            return cls(kubernetes.client.ApiClient(configuration))
        try:
            _LOAD_INCLUSTER(client_configuration=configuration)
        except kubernetes.config.ConfigException:
            _LOAD_KUBECONFIG(client_configuration=configuration)
        return cls(kubernetes.client.ApiClient(configuration))

    @property
    def configuration(self) -> kubernetes.client.Configuration:
        """Server, certificates and token, for kopf's login."""
        configuration: kubernetes.client.Configuration = self._api.configuration
        return configuration

    def serves(self, kind: ObjectKind) -> bool:
        """Whether the server knows the kind (discovery; needs no rights on it)."""
        try:
            resources = self.request("GET", kind.root).get("resources", [])
        except NotFound:
            return False
        return any(resource.get("name") == kind.plural for resource in resources)

    def list(self, kind: ObjectKind, namespace: str | None) -> list[dict[str, Any]]:
        """All objects of a kind, page by page."""
        items: list[dict[str, Any]] = []
        query: dict[str, str] = {"limit": str(PAGE)}
        while True:
            page = self.request("GET", kind.collection(namespace), query=query)
            items.extend(page.get("items", []))
            token = page.get("metadata", {}).get("continue")
            if not token:
                return items
            query = {"limit": str(PAGE), "continue": token}

    def get(self, kind: ObjectKind, namespace: str, name: str) -> dict[str, Any]:
        """One object."""
        return self.request("GET", kind.path(namespace, name))

    def apply(self, kind: ObjectKind, document: Mapping[str, Any], *, subresource: str = "") -> dict[str, Any]:
        """Server-side apply under our field manager; our fields are ours."""
        metadata = document["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"]) + (f"/{subresource}" if subresource else "")
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return self.request("PATCH", path, query=query, body=document, content_type=APPLY)

    def create(self, kind: ObjectKind, document: Mapping[str, Any]) -> dict[str, Any]:
        """A new object."""
        return self.request("POST", kind.collection(document["metadata"]["namespace"]), body=document)

    def merge(self, kind: ObjectKind, namespace: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """A JSON merge patch."""
        path = kind.path(namespace, name)
        return self.request("PATCH", path, body=patch, content_type="application/merge-patch+json")

    def delete(self, kind: ObjectKind, namespace: str, name: str) -> None:
        """Remove an object; one that is gone already is fine."""
        try:
            self.request("DELETE", kind.path(namespace, name))
        except NotFound:
            return

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """One request; the answer's document, or one of the errors above."""
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        serialized = self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer: Any = self._api.call_api(*serialized, _request_timeout=REQUEST_TIMEOUT_SECONDS)
            data: bytes = answer.read()
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{method} {path}: {error}") from error
        except kubernetes.client.ApiException as error:
            raise Unreachable(f"{method} {path}: {error.reason}") from error
        if answer.status >= 400:
            raise _ERRORS.get(answer.status, ApiError)(answer.status, _message(answer.status, data))
        document: dict[str, Any] = json.loads(data)
        return document


def _message(status: int, data: bytes) -> str:
    """The server's own sentence."""
    try:
        return str(json.loads(data).get("message") or f"HTTP {status}")
    except (ValueError, AttributeError):
        return f"HTTP {status}"
