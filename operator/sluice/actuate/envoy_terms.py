"""Words and small parts of Envoy's API (v3) that several of our documents use. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from sluice.actuate.objects import Document

TYPE_URL = "type.googleapis.com/envoy"
UNBOUNDED = 4_294_967_295
"""The largest threshold that the field holds (uint32); without one Envoy takes 1024."""
LIMITER = "envoy.filters.http.local_ratelimit"
"""The filter of rate limits, on the listener and in a route that has one."""


def unbounded(*names: str) -> dict[str, int]:
    """Thresholds that never bind."""
    return dict.fromkeys(names, UNBOUNDED)


class Response(Document):
    """A discovery response that knows its own text: JSON of a thousand classes is not made twice."""

    def __init__(self, resources: Iterable[Mapping[str, Any]]) -> None:
        listed = list(resources)
        lines = ",\n".join(map(json.dumps, listed))
        version = hashlib.sha256(lines.encode()).hexdigest()[:16]
        super().__init__(version_info=version, resources=listed)
        self.text = f'{{"version_info": "{version}", "resources": [\n{lines}\n]}}\n'


def discovery(resources: Iterable[Mapping[str, Any]]) -> Response:
    """A discovery response whose version is a digest of its content; one resource a line, so that diffs show it."""
    return Response(resources)


def file_source(path: str, folder: str) -> Document:
    """A configuration source: the file, watched through its folder, so that a rename over it is seen."""
    return {"path_config_source": {"path": path, "watched_directory": {"path": folder}}, "resource_api_version": "V3"}


def socket_address(address: str, port: int) -> Document:
    """Where something listens."""
    return {"socket_address": {"address": address, "port_value": port}}


def duration(value: float) -> str:
    """A protobuf duration, rounded down to whole microseconds (a bucket then fills no slower than planned)."""
    return f"{math.floor(value * 1e6) / 1e6:.6f}".rstrip("0").rstrip(".") + "s"
