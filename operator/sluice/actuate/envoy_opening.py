"""Envoy's files without their limits, made of the files themselves: for when their fleet is gone. Pure."""

from __future__ import annotations

import copy
from typing import Any

from sluice.actuate.envoy_terms import LIMITER, discovery
from sluice.actuate.objects import Document

BREAKERS = ("circuit_breakers.",), (".default.max_requests", ".default.max_connections")
"""How the runtime keys of in-flight limits and of the gate's fence begin and end."""


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
    """``runtime/limits.json`` without the keys of limits and fences: the clusters' own thresholds do not bind."""
    layers: list[Document] = copy.deepcopy(document["resources"])
    for layer in layers:
        layer["layer"] = {key: value for key, value in layer.get("layer", {}).items() if not _is_breaker(key)}
    return discovery(layers)


def has_breakers(document: Document) -> bool:
    """Whether ``runtime/limits.json`` has any such key: the gate's fence is none of the targets that were ordered."""
    return any(_is_breaker(key) for layer in document["resources"] for key in layer.get("layer", {}))


def _is_breaker(key: str) -> bool:
    beginnings, ends = BREAKERS
    return key.startswith(beginnings) and key.endswith(ends)
