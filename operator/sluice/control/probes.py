"""``/healthz``, ``/readyz`` and ``/metrics`` on one small HTTP server.

Liveness means that the loop turns: a Prometheus or API server that is away must not
restart us, so neither is asked. Readiness means that the first pass of every fleet known
at the start is complete.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from sluice.control.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Health:
    """One probe's answer."""

    ok: bool
    message: str


class ProbeServer:
    """The HTTP server; ``start`` binds, ``stop`` releases."""

    def __init__(self, *, healthy: Callable[[], Health], ready: Callable[[], Health], metrics: Metrics) -> None:
        self._healthy = healthy
        self._ready = ready
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    async def start(self, address: str, port: int) -> int:
        """Listen, and say on which port (0 asks for a free one)."""
        application = web.Application()
        application.router.add_get("/healthz", self._answer_healthy)
        application.router.add_get("/readyz", self._answer_ready)
        application.router.add_get("/metrics", self._answer_metrics)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, address, port)
        await site.start()
        bound: tuple[str, int] = self._runner.addresses[0][:2]
        return bound[1]

    async def stop(self) -> None:
        """Close the listener and what is open on it."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer_healthy(self, _: web.Request) -> web.Response:
        return _answer(self._healthy())

    async def _answer_ready(self, _: web.Request) -> web.Response:
        return _answer(self._ready())

    async def _answer_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": self._metrics.content_type})


def _answer(health: Health) -> web.Response:
    return web.Response(status=200 if health.ok else 503, text=health.message + "\n")
