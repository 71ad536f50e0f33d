"""An engine under the test's control: it says what it held, and does what it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

BYTES_PER_TOKEN = 4.0
OURS_LAST = frozenset({"leave", "stall"})
"""Fates in which somebody else ends the request: the client, or the proxy's time-out."""


class Engine:
    """Holds every prompt until it is let go, or for ``seconds_per_token``; counts what it held at once."""

    def __init__(self, seconds_per_token: float | None = None) -> None:
        self.seconds_per_token = seconds_per_token
        self.unfinished: dict[int, float] = {}
        self.arrived: list[str] = []
        """The ``x-tag`` of every request, in order of arrival."""
        self.worst = 0.0
        """The most unfinished tokens that three or more requests held at once, beside the largest of them.

        The largest may have been started last and have come first. Requests that end without us
        (``OURS_LAST``) are left out: the gate learns of that before we do.
        """
        self.most = 0
        self.fleet: list[Engine] = [self]
        """This engine and those beside it."""
        self.worst_of_fleet = 0.0
        """The most unfinished tokens that all of them held at once, beside the largest request for each of them."""
        self.port = 0
        self._turn = asyncio.Lock()
        self._permits = asyncio.Semaphore(0)
        self._number = 0

    def hold(self) -> None:
        """From now on every prompt is held; what was seen is forgotten."""
        self._permits = asyncio.Semaphore(0)
        self.arrived.clear()
        self.worst, self.most = 0.0, 0

    def let_go(self, count: int = 1) -> None:
        """Finish ``count`` prefills."""
        for _ in range(count):
            self._permits.release()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        tokens = float(request.headers["content-length"]) / BYTES_PER_TOKEN
        self._number += 1
        number = self._number
        fate = request.headers.get("x-fate", "")
        if fate not in OURS_LAST:
            self.unfinished[number] = tokens
        if len(self.unfinished) > 2:
            self.worst = max(self.worst, sum(self.unfinished.values()) - max(self.unfinished.values()))
        self.most = max(self.most, len(self.unfinished))
        together = sorted(tokens for engine in self.fleet for tokens in engine.unfinished.values())
        self.worst_of_fleet = max(self.worst_of_fleet, sum(together[: -len(self.fleet)]))
        self.arrived.append(request.headers.get("x-tag", ""))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        try:
            async for _ in request.content.iter_any():
                pass  # 100 MB are not kept here either
            if fate == "slow-headers":
                await response.prepare(request)
            if fate == "stall":
                await asyncio.Event().wait()
            if self.seconds_per_token is None:
                await self._permits.acquire()
            else:
                async with self._turn:
                    await asyncio.sleep(tokens * self.seconds_per_token)
            if fate == "error":
                return web.Response(status=500)
            if fate == "reset":
                assert request.transport is not None
                request.transport.abort()
                return response
            await response.prepare(request)
        finally:
            self.unfinished.pop(number, None)
        await response.write(b"data: one\n\n")
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Engine]:
        """Listen on a free port."""

        async def metrics(_: web.Request) -> web.Response:
            running = float(len(self.unfinished))
            text = f"vllm:num_requests_running {running}\nvllm:num_requests_waiting 0.0\n"
            return web.Response(text=text)

        app = web.Application(client_max_size=1 << 28)
        app.router.add_get("/metrics", metrics)
        app.router.add_route("*", "/{path:.*}", self._complete)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()
