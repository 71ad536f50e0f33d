"""What the gate does with an API server that refuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import kubernetes
import pytest
from aiohttp import web

from sluice.gate.cluster_feed import Access, ClusterFeed
from sluice.gate.lease import Lease

TOKEN = "not-for-the-log"


@pytest.fixture
async def access() -> AsyncIterator[Access]:
    """A server that says 401 to everybody, and who we are there."""

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=401)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = kubernetes.client.Configuration(
        host=f"http://127.0.0.1:{runner.addresses[0][1]}",
        api_key={"BearerToken": TOKEN},
        api_key_prefix={"BearerToken": "Bearer"},
    )
    yield Access(configuration=configuration, namespace="default")
    await runner.cleanup()


def feed(access: Access) -> Coroutine[Any, Any, None]:
    def ignore(_: object) -> None:
        pass

    return ClusterFeed(access=access, fleet_name="fleet", take_world=ignore, take_plan=ignore, problem=ignore).run()


def lease(access: Access) -> Coroutine[Any, Any, None]:
    return Lease(access=access, name="gate", identity="one").run()


@pytest.mark.parametrize("work", [feed, lease])
async def test_a_refusal_is_logged_without_the_token(
    access: Access, caplog: pytest.LogCaptureFixture, work: Callable[[Access], Coroutine[Any, Any, None]]
) -> None:
    told = asyncio.Event()

    class Ear(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            told.set()
            return "problem" in vars(record)

    with caplog.at_level(logging.DEBUG, logger="sluice.gate"), caplog.filtering(Ear()):
        task = asyncio.create_task(work(access))
        async with asyncio.timeout(5):
            await told.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    problems = {vars(record)["problem"] for record in caplog.records}
    assert problems == {"HTTP 401"}
    assert not any(TOKEN in str(vars(record)) for record in caplog.records)
