"""The API server as this room needs it: one request, one answer, nothing raised.

An answer is a value because the writer has something to do for each of them; the official
client's exceptions end here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import kubernetes
import urllib3

TIMEOUT_SECONDS = (3.0, 15.0)
"""For connecting and for reading."""
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
UNREACHABLE = 0
"""The status of no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said."""

    status: int
    """HTTP status; 0: it did not answer."""
    document: Mapping[str, Any] = field(default_factory=dict)
    """The object, or the server's ``Status`` where it refused."""

    @property
    def fine(self) -> bool:
        """Whether the request was done."""
        return 200 <= self.status < 300

    @property
    def message(self) -> str:
        """The server's own sentence."""
        return str(self.document.get("message") or f"HTTP {self.status}")


class KubernetesApi(Protocol):
    """One API server, one identity."""

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = JSON,
    ) -> Answer:
        """One request; each try blocks at most for the time-outs above."""
        ...


class ClientApi:
    """The port over the official client, which brings login, certificates and token rotation."""

    def __init__(self, client: kubernetes.client.ApiClient) -> None:
        self._client = client

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = JSON,
    ) -> Answer:
        """See :class:`KubernetesApi`."""
        headers = {"Accept": JSON} if body is None else {"Accept": JSON, "Content-Type": content_type}
        request = self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response: Any = self._client.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
            data = response.read()
        except (urllib3.exceptions.HTTPError, kubernetes.client.ApiException) as error:
            cause = type(getattr(error, "reason", None) or error).__name__  # the text would repeat the whole address
            return Answer(status=UNREACHABLE, document={"message": f"the API server does not answer ({cause})"})
        return Answer(status=response.status, document=_document(data))


def _document(data: bytes) -> Mapping[str, Any]:
    """The answer's object; what is not JSON becomes its message."""
    try:
        document = json.loads(data)
    except ValueError:
        return {"message": data[:200].decode(errors="replace")}
    return document if isinstance(document, dict) else {}
