"""An API server in a dictionary: it keeps what is applied, lists by label, and heeds preconditions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from sluice.actuate.kubernetes_api import Answer


class FakeServer:
    """The port ``KubernetesApi``; paths are the objects' identities."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.version = 0
        """How often something was written."""
        self.listed: list[str] = []
        self.before_delete: Callable[[], object] | None = None
        """What happens, once, between a look and the delete that follows."""

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "",
    ) -> Answer:
        if method == "PATCH" and isinstance(body, dict):
            return Answer(status=200, document=self.put(path, body))
        if method == "DELETE":
            return self._delete(path, body)
        if path in self.objects:
            return Answer(status=200, document=self.objects[path])
        if query and "labelSelector" in query:
            self.listed.append(path)
            wanted = dict(pair.split("=") for pair in query["labelSelector"].split(","))
            there = (one for place, one in self.objects.items() if place.rpartition("/")[0] == path)
            items = [one for one in there if wanted.items() <= one["metadata"]["labels"].items()]
            return Answer(status=200, document={"items": items})
        return Answer(status=404)

    def put(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Write an object, with a version of its own."""
        self.version += 1
        kept = copy.deepcopy(dict(document))
        kept["metadata"] |= {"uid": path, "resourceVersion": str(self.version)}
        self.objects[path] = kept
        return kept

    def _delete(self, path: str, body: object) -> Answer:
        if self.before_delete is not None:
            hook, self.before_delete = self.before_delete, None
            hook()
        if path not in self.objects:
            return Answer(status=404)
        guard = body.get("preconditions", {}) if isinstance(body, dict) else {}
        if any(self.objects[path]["metadata"][key] != value for key, value in guard.items()):
            return Answer(status=409)
        del self.objects[path]
        return Answer(status=200)

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """The objects of a kind by name."""
        return {one["metadata"]["name"]: one for one in self.objects.values() if one["kind"] == kind}
