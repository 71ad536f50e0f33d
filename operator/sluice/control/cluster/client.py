"""The Kubernetes API as a handful of verbs, blocking; ``Workers`` take it off the event loop.

The official client logs in (kubeconfig, in-cluster token with rotation) and speaks HTTP;
its generated classes are not used: documents go in and out as they are.

Errors, split by what the caller does::

    ApiError            the server refused: read ``status`` and the message
      NotFound          404: it is gone, often fine
      Forbidden         403: a right is missing; the user must grant it
      Conflict          409: it exists, or changed meanwhile
      Unreachable       no answer: the world may heal
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes
import urllib3
from kopf import ConnectionInfo

from sluice.actuate.kinds import Kind
from sluice.actuate.kubernetes_api import APPLY, JSON, JSON_PATCH, UNREACHABLE, ClientApi, KubernetesApi
from sluice.control.cluster.kinds import Document
from sluice.model.naming import FIELD_MANAGER

MERGE = "application/merge-patch+json"
UNKNOWN_FIELD = "field not declared in schema"
"""What apply says of a field that the installed definition lacks."""
RETRIES = urllib3.Retry(total=1, connect=0, redirect=0)
"""One more try where a kept connection broke; urllib3's own three would hold a thread for a minute."""
PAGE = 500
"""Objects per page of a listing."""
SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

# The client's configuration loaders are not typed.
_LOAD_KUBECONFIG: Callable[..., None] = kubernetes.config.load_kube_config
_LOAD_INCLUSTER: Callable[..., None] = kubernetes.config.load_incluster_config
_CONTEXTS: Callable[..., tuple[Any, Any]] = kubernetes.config.list_kube_config_contexts


class ApiError(Exception):
    """The API server refused, or did not answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotFound(ApiError):  # noqa: N818 - named after the HTTP status
    """The object or its kind does not exist."""


class Forbidden(ApiError):  # noqa: N818 - named after the HTTP status
    """The service account may not do this."""


class Conflict(ApiError):  # noqa: N818 - named after the HTTP status
    """The object exists already, or changed meanwhile."""


class Unreachable(ApiError):  # noqa: N818 - a state of the world
    """The API server did not answer."""


_ERRORS = {403: Forbidden, 404: NotFound, 409: Conflict, UNREACHABLE: Unreachable}


class LoginFailed(Exception):  # noqa: N818 - an outcome
    """There is no usable configuration of a cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All objects of a kind at one moment."""

    items: tuple[dict[str, Any], ...]
    version: str
    """Resource version of the moment."""


class Cluster:
    """One API server, one identity."""

    def __init__(self, configuration: kubernetes.client.Configuration, namespace: str = "default") -> None:
        self._configuration = configuration
        configuration.retries = RETRIES
        self.api: KubernetesApi = ClientApi(kubernetes.client.ApiClient(configuration))
        self.namespace = namespace
        """The namespace we run in, or the kubeconfig's."""

    @classmethod
    def login(cls, kubeconfig: Path | None = None) -> Cluster:
        """With ``kubeconfig``, else in-cluster, else the user's default kubeconfig."""
        configuration = kubernetes.client.Configuration()
        if kubeconfig is None:
            try:
                _LOAD_INCLUSTER(client_configuration=configuration)
                return cls(configuration, SERVICE_ACCOUNT_NAMESPACE.read_text(encoding="utf-8").strip())
            except kubernetes.config.ConfigException:
                pass  # not in a pod: the kubeconfig it is
        path = None if kubeconfig is None else str(kubeconfig)
        try:
            _LOAD_KUBECONFIG(config_file=path, client_configuration=configuration)
            _, active = _CONTEXTS(config_file=path)
        except (kubernetes.config.ConfigException, OSError) as error:
            raise LoginFailed(f"no usable kubeconfig ({path or 'the default one'}): {error}") from error
        return cls(configuration, str(active.get("context", {}).get("namespace") or "default"))

    def connection(self) -> ConnectionInfo:
        """The same login for kopf; a token that rotates is read anew at every call."""
        configuration = self._configuration
        header = str(configuration.get_api_key_with_prefix("BearerToken") or "")
        scheme, _, token = header.rpartition(" ")
        return ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            username=configuration.username or None,
            password=configuration.password or None,
            scheme=scheme or ("Bearer" if token else None),
            token=token or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
        )

    def serves(self, kind: Kind) -> bool:
        """Whether the server knows the kind (discovery; needs no rights on it)."""
        try:
            resources = self.request("GET", kind.root).get("resources", [])
        except NotFound:
            return False
        return any(resource.get("name") == kind.plural for resource in resources)

    def list(self, kind: Kind, namespace: str | None, selector: str = "") -> Listing:
        """All objects of a kind in ``namespace`` (None: everywhere) whose labels match ``selector``, page by page."""
        items: list[dict[str, Any]] = []
        first = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        query = first
        while True:
            page = self.request("GET", kind.collection(namespace), query=query)
            items.extend(page.get("items", []))
            metadata = page.get("metadata", {})
            if not (token := metadata.get("continue")):
                return Listing(items=tuple(items), version=str(metadata.get("resourceVersion", "")))
            query = {**first, "continue": token}

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        """One object."""
        return self.request("GET", kind.path(namespace, name))

    def write_status(self, kind: Kind, document: Document) -> dict[str, Any]:
        """Server-side apply on the status subresource; the whole status is ours.

        Definitions that are older than this operator do not know all of its fields, and apply
        refuses a document with a single unknown one. Then the status is replaced as a whole,
        which prunes what the server does not know.
        """
        metadata = document["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"]) + "/status"
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        try:
            return self.request("PATCH", path, query=query, body=document, content_type=APPLY)
        except ApiError as error:
            if UNKNOWN_FIELD not in str(error):
                raise
        steps = [
            {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
            {"op": "add", "path": "/status", "value": document["status"]},
        ]
        return self.request("PATCH", path, query={"fieldManager": FIELD_MANAGER}, body=steps, content_type=JSON_PATCH)

    def create(self, kind: Kind, document: Document) -> dict[str, Any]:
        """A new object."""
        return self.request("POST", kind.collection(document["metadata"]["namespace"]), body=document)

    def merge(self, kind: Kind, namespace: str, name: str, patch: Document) -> dict[str, Any]:
        """A JSON merge patch."""
        return self.request("PATCH", kind.path(namespace, name), body=patch, content_type=MERGE)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = JSON,
    ) -> dict[str, Any]:
        """One request; the answer's document, or one of the errors above."""
        answer = self.api.send(method, path, query=query, body=body, content_type=content_type)
        if not answer.fine:
            raise _ERRORS.get(answer.status, ApiError)(answer.status, answer.message)
        return dict(answer.document)
