"""Kinds of objects as their API serves them, and the paths below which they live."""

from __future__ import annotations

from dataclasses import dataclass


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


HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
TRAFFIC_POLICY = Kind("gateway.envoyproxy.io", "v1alpha1", "backendtrafficpolicies", "BackendTrafficPolicy")
EXTENSION_POLICY = Kind("gateway.envoyproxy.io", "v1alpha1", "envoyextensionpolicies", "EnvoyExtensionPolicy")
CONFIG_MAP = Kind("", "v1", "configmaps", "ConfigMap")
