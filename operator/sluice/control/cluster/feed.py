"""kopf as the watch: events of the kinds we read go into the store, and nothing else of kopf is used.

No create, update or delete handlers, timers or daemons: they would put annotations and
finalizers on users' objects. kopf neither posts events nor keeps progress; its names are
set to ours all the same, so that a mistake would be ours to see.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import kopf

from sluice.actuate.kinds import Kind
from sluice.control.cluster.client import Cluster
from sluice.control.cluster.store import Store
from sluice.control.metrics import Metrics
from sluice.model.naming import GROUP

Hook = Callable[[], Awaitable[None]]


def settings() -> kopf.OperatorSettings:
    """Kopf with everything off that writes to users' objects."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.persistence.finalizer = f"{GROUP}/unused"
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP, v1=False)
    chosen.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP, key="unused", v1=False)
    chosen.networking.request_timeout = 30.0
    chosen.scanning.disabled = True  # rights on namespaces and CRDs are not asked for
    chosen.peering.standalone = True
    return chosen


def registry(
    cluster: Cluster, store: Store, kinds: Iterable[Kind], metrics: Metrics, *, started: Hook, ending: Hook
) -> kopf.OperatorRegistry:
    """The handlers: one per kind, and the hooks around our own loop."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return cluster.connection()

    @kopf.on.startup(registry=handlers)
    async def startup(**_: Any) -> None:
        await started()

    @kopf.on.cleanup(registry=handlers)
    async def cleanup(**_: Any) -> None:
        await ending()

    for kind in kinds:
        _watch(handlers, store, kind, metrics)
    return handlers


def _watch(handlers: kopf.OperatorRegistry, store: Store, kind: Kind, metrics: Metrics) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, registry=handlers, id=kind.plural)
    async def heard(event: kopf.RawEvent, **_: Any) -> None:
        metrics.count("sluice_watch_events_total", kind=kind.name)
        if event["type"] == "DELETED":
            store.remove(kind, event["object"])
        else:
            store.put(kind, event["object"])
