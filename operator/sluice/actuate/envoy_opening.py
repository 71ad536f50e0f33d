"""Envoy's files without their limits, made of the files themselves: for when their fleet is gone. Pure."""

from __future__ import annotations

import copy
from typing import Any

from sluice.actuate.envoy_terms import LIMITER, discovery
from sluice.actuate.objects import Document

BREAKER = ("circuit_breakers.", ".default.max_requests")
"""How the runtime key of an in-flight limit begins and ends."""


def opened_routes(document: Document) -> Document:
    """``rds.json`` without rate limits; matches, clusters and everything else stay."""
    tables: list[Document] = copy.deepcopy(document["resources"])
    for table in tables:
        for host in table.get("virtual_hosts", []):
            for route in host.get("routes", []):
                per_filter: dict[str, Any] = route.get("typed_per_filter_config", {})
                per_filter.pop(LIMITER, None)
                if not per_filter:
                    route.pop("typed_per_filter_config", None)
    return discovery(tables)


def opened_runtime(document: Document) -> Document:
    """``runtime/limits.json`` without the keys of in-flight limits: the clusters' own thresholds do not bind."""
    layers: list[Document] = copy.deepcopy(document["resources"])
    for layer in layers:
        layer["layer"] = {key: value for key, value in layer.get("layer", {}).items() if not _is_breaker(key)}
    return discovery(layers)


def _is_breaker(key: str) -> bool:
    beginning, end = BREAKER
    return key.startswith(beginning) and key.endswith(end)
