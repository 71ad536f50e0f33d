"""One active gate: a Lease that the active one renews and a standby takes when it goes stale.

Only readiness depends on it: a standby is not ready, so that the Service names the active one
alone. Without the API server nothing changes: who was active stays so, for a gate that nobody
can replace is better than none. Two that are both active for a moment share the engines twice;
the fence bounds that.

Clocks are not compared: a standby counts by its own clock how long the record did not change
(as client-go's leader election does).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from sluice.gate.cluster_feed import Access, cause

LOG = logging.getLogger(__name__)
LEASE_SECONDS = 2.0
RENEW_SECONDS = 0.5
TIMEOUT_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class Lease:
    """A candidate for the lease called ``name``."""

    access: Access
    name: str
    identity: str
    is_held: bool = False
    _seen: str = ""
    _seen_at: float = 0.0

    async def run(self) -> None:
        """Hold or wait, for ever."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        connector = aiohttp.TCPConnector(ssl=self.access.tls())
        base = self.access.configuration.host
        async with aiohttp.ClientSession(base, timeout=timeout, connector=connector) as session:
            while True:
                try:
                    await self._turn(session)
                except (aiohttp.ClientError, TimeoutError, OSError, KeyError, ValueError) as error:
                    LOG.debug("the lease stays as it is", extra={"problem": cause(error)})
                await asyncio.sleep(RENEW_SECONDS)

    async def _turn(self, session: aiohttp.ClientSession) -> None:
        """Look at the record; renew it, take it, or leave it."""
        collection = f"/apis/coordination.k8s.io/v1/namespaces/{self.access.namespace}/leases"
        path, headers = f"{collection}/{self.name}", self.access.headers()
        async with session.get(path, headers=headers) as answer:
            if answer.status == 404:
                fresh = {"metadata": {"name": self.name}, "spec": self._spec(0)}
                async with session.post(collection, json=fresh, headers=headers) as created:
                    self._become(created.status == 201)
                return
            answer.raise_for_status()
            record: dict[str, Any] = await answer.json()
        spec = record["spec"]
        mine = spec.get("holderIdentity") == self.identity
        if not mine and not self._is_stale(str(record["metadata"]["resourceVersion"])):
            self._become(False)
            return
        record["spec"] = self._spec(int(spec.get("leaseTransitions") or 0) + (not mine))
        # The record carries its version: of two that take it at once, one is refused.
        async with session.put(path, json=record, headers=headers) as written:
            if written.status == 409:
                self._become(False)
            elif written.status == 200:
                self._become(True)

    def _is_stale(self, version: str) -> bool:
        now = asyncio.get_running_loop().time()
        if version != self._seen:
            self._seen, self._seen_at = version, now
        return now - self._seen_at > LEASE_SECONDS

    def _become(self, held: bool) -> None:
        if held != self.is_held:
            LOG.info("lease", extra={"held": held, "identity": self.identity})
        self.is_held = held

    def _spec(self, transitions: int) -> dict[str, Any]:
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(LEASE_SECONDS),
            "renewTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "leaseTransitions": transitions,
        }
