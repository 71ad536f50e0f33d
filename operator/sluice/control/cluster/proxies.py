"""The Pods of proxies that run outside of the namespaces we watch, as Envoy Gateway's do by default.

They are counted to divide limits that each proxy enforces alone. kopf watches the same kinds
in every one of its namespaces, and where proxies run we may read Pods and nothing else: so
they are listed every few seconds. A fleet's next pass counts anew, with no pass of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from sluice.control.cluster.client import ApiError, Cluster
from sluice.control.cluster.kinds import PODS
from sluice.control.cluster.store import Store
from sluice.control.workers import Overloaded, Workers

log = logging.getLogger("sluice.cluster")

PERIOD_SECONDS = 5.0
SELECTOR = "app.kubernetes.io/managed-by=envoy-gateway"
"""What Envoy Gateway labels all that it runs with."""


class ProxyPods:
    """Keeps the Pods of proxies in the store."""

    def __init__(self, cluster: Cluster, store: Store, workers: Workers, namespaces: Iterable[str]) -> None:
        self._cluster = cluster
        self._store = store
        self._workers = workers
        self._namespaces = tuple(namespaces)
        self._complaints: dict[str, str] = {}

    async def keep(self) -> None:
        """List them until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        """List them once. Where that fails the Pods known so far stay, and the log says why, once."""
        for namespace in self._namespaces:
            complaint = ""
            try:
                listing = await self._workers.run(self._cluster.list, PODS, namespace, SELECTOR)
                self._store.replace(PODS, namespace, listing.items, listing.version)
            except (ApiError, TimeoutError, Overloaded) as error:
                complaint = str(error)
            if complaint and complaint != self._complaints.get(namespace):
                log.warning("proxies cannot be counted: %s", complaint, extra={"namespace": namespace})
            self._complaints[namespace] = complaint
