"""Status, Secrets and events of a cluster: the adapters behind the loop's ports."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sluice.control.cluster.client import ApiError, Cluster, Conflict, NotFound
from sluice.control.cluster.kinds import BY_KIND, EVENTS, SECRETS
from sluice.control.cluster.store import Store
from sluice.control.events import Event
from sluice.control.ports import FleetKey, Ref, Status, document
from sluice.control.workers import Overloaded, Workers
from sluice.model.naming import FIELD_MANAGER, GROUP, VERSION
from sluice.model.plan import Plan

log = logging.getLogger("sluice.cluster")

QUIET_SECONDS = 300.0
"""The same event about the same object is not repeated within this time."""


AT_ONCE = 3
"""Statuses that are written at the same time; a thread is left for what goes to the data plane."""


class ClusterStatus:
    """Writes status subresources by server-side apply; the answer goes into the store at once."""

    def __init__(self, cluster: Cluster, store: Store, workers: Workers) -> None:
        self._cluster = cluster
        self._store = store
        self._workers = workers
        self._sent: dict[Ref, tuple[Mapping[str, Any], str]] = {}

    async def write_all(self, statuses: Mapping[Ref, Status]) -> Mapping[Ref, str]:
        """Several at a time, each of that very object and no namesake."""
        failed: dict[Ref, str] = {}
        turn = asyncio.Semaphore(AT_ONCE)

        async def write(ref: Ref, status: Status) -> None:
            async with turn:
                try:
                    await self._write(ref, document(status))
                except (ApiError, TimeoutError, Overloaded) as error:
                    failed[ref] = f"{ref}: {error}"

        await asyncio.gather(*(write(ref, status) for ref, status in statuses.items()))
        return failed

    async def _write(self, ref: Ref, status: Mapping[str, Any]) -> None:
        kind, known = BY_KIND[ref.kind], self._store.get(ref)
        if known is None:
            return
        sent, version = self._sent.get(ref, (None, ""))
        if sent == status and version == known["metadata"].get("resourceVersion"):
            return  # the server pruned what its older definition does not know; the rest stands
        metadata = {"name": ref.name, "namespace": ref.namespace, "uid": known["metadata"]["uid"]}
        applied = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "status": status}
        try:
            answer = await self._workers.run(self._cluster.write_status, kind, applied)
        except NotFound:
            return  # deleted while we thought
        self._sent[ref] = (status, answer["metadata"]["resourceVersion"])
        self._store.put(kind, answer)

    def lacks(self, ref: Ref) -> bool:
        """The store shows what the server has; nothing gets lost unseen."""
        del ref
        return False

    async def keep_plan(self, key: FleetKey, plan: Plan, confirmed_at: float | None) -> None:
        """The plan is in status, and in Enforce in its ConfigMap."""
        del key, plan, confirmed_at

    def kept_plan(self, key: FleetKey) -> None:
        """Status has all that a plan needs to go on."""
        del key


class ClusterSecrets:
    """Reads single Secrets; needs ``get`` on those names and nothing else."""

    def __init__(self, cluster: Cluster, workers: Workers) -> None:
        self._cluster = cluster
        self._workers = workers

    async def read(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The decoded values; None where the Secret cannot be had."""
        try:
            document = await self._workers.run(self._cluster.get, SECRETS, namespace, name)
        except (ApiError, TimeoutError, Overloaded) as error:
            log.debug("Secret %s/%s cannot be read: %s", namespace, name, error)
            return None
        encoded: Mapping[str, str] = document.get("data") or {}
        return {key: base64.b64decode(value).decode(errors="replace") for key, value in encoded.items()}


@dataclass(slots=True)
class _Told:
    """When an event was told last, and how often."""

    at: float
    count: int = 1


class ClusterRecorder:
    """Posts events; the same one again raises its count instead of adding an object."""

    def __init__(self, cluster: Cluster, workers: Workers, instance: str) -> None:
        self._cluster = cluster
        self._workers = workers
        self._instance = instance
        self._told: dict[str, _Told] = {}

    async def publish(self, events: tuple[Event, ...]) -> None:
        """Each event once; what cannot be posted is logged."""
        for event in events:
            now = time.monotonic()
            self._told = {key: told for key, told in self._told.items() if now - told.at < 10 * QUIET_SECONDS}
            known = self._told.get(event.digest)
            if known is not None and now - known.at < QUIET_SECONDS:
                continue
            count = 1 if known is None else known.count + 1
            try:
                await self._workers.run(self._post, event, count)
            except (ApiError, TimeoutError, Overloaded) as error:
                log.warning("event not posted: %s", error, extra={"reason": event.reason})
            else:
                self._told[event.digest] = _Told(at=now, count=count)

    def _post(self, event: Event, count: int) -> None:
        document = _document(event, self._instance)
        if count == 1 and self._is_created(document):
            return
        name, stamp = document["metadata"]["name"], document["lastTimestamp"]
        try:
            answer = self._cluster.merge(EVENTS, event.subject.namespace, name, {"lastTimestamp": stamp})
        except NotFound:  # events live for an hour
            self._cluster.create(EVENTS, document)
            return
        raised = int(answer.get("count") or 1) + 1
        self._cluster.merge(EVENTS, event.subject.namespace, name, {"count": raised})

    def _is_created(self, document: Mapping[str, Any]) -> bool:
        """False where an operator before us told the same: then its count is raised."""
        try:
            self._cluster.create(EVENTS, document)
        except Conflict:
            return False
        return True


def _document(event: Event, instance: str) -> dict[str, Any]:
    """A core/v1 Event, which every ``kubectl describe`` shows."""
    subject = event.subject
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{subject.name}.{event.digest}", "namespace": subject.namespace},
        "involvedObject": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": subject.kind,
            "namespace": subject.namespace,
            "name": subject.name,
            "uid": subject.uid,
        },
        "type": event.type.value,
        "reason": event.reason,
        "message": event.message,
        "count": 1,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": f"{GROUP}/operator",
        "reportingInstance": instance,
    }
