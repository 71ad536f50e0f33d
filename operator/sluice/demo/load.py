"""The load generator: open loop, in a process of its own, so that a slow fleet cannot slow the arrivals.

Reads its orders as JSON from standard input, sends each request at its time through the
proxy, and writes one JSON line per thing that happens to a request. Times are measured
at the client: TTFT from sending the request to the first event of the stream, TPOT
over the rest of the answer. A client whose first token does not come within its patience
closes the connection.

    python -m sluice.demo.load < orders.json
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from enum import StrEnum

import aiohttp
from pydantic import BaseModel, ConfigDict


class Happening(StrEnum):
    """What can happen to a request; the last four end it."""

    SENT = "sent"
    FIRST = "first"
    DONE = "done"
    REFUSED = "refused"
    GONE = "gone"
    """The client's patience ended."""
    FAILED = "failed"
    """Broken connection, or an answer that is neither success nor refusal."""


class Request(BaseModel):
    """One request to send."""

    model_config = ConfigDict(frozen=True)

    at_seconds: float
    workload: str
    model: str
    chat: bool
    prompt_tokens: int
    output_tokens: int
    patience_seconds: float


class Orders(BaseModel):
    """What the process is told."""

    model_config = ConfigDict(frozen=True)

    url: str
    """Of the proxy, without a path."""
    model_header: str
    requests: tuple[Request, ...]
    drain_seconds: float
    """How long unfinished answers may go on after the last arrival."""


class Event(BaseModel):
    """One line of output."""

    model_config = ConfigDict(frozen=True)

    number: int
    """Position of the request in the orders."""
    what: Happening
    at_seconds: float
    """Since the start of the run."""
    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    status: int | None = None
    """HTTP status of a refusal or failure."""


Tell = Callable[[Event], None]
_REFUSALS = frozenset({429, 503})


async def generate(orders: Orders, tell: Tell) -> None:
    """Send everything on time and return when all answers have ended or the drain is over."""
    loop = asyncio.get_running_loop()
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(base_url=orders.url, timeout=timeout, connector=connector) as session:
        start = loop.time()
        running: set[asyncio.Task[None]] = set()
        for number, request in enumerate(orders.requests):
            await asyncio.sleep(max(0.0, start + request.at_seconds - loop.time()))
            task = asyncio.create_task(_client(session, orders.model_header, number, request, start, tell))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running, timeout=orders.drain_seconds)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _client(
    session: aiohttp.ClientSession, model_header: str, number: int, request: Request, start: float, tell: Tell
) -> None:
    """One client, from sending to the end of its answer."""
    loop = asyncio.get_running_loop()
    sent = loop.time()
    tell(Event(number=number, what=Happening.SENT, at_seconds=sent - start))
    path, text = ("/v1/chat/completions", "messages") if request.chat else ("/v1/completions", "prompt")
    body = {
        "model": request.model,
        text: [],
        "simulated_prompt_tokens": request.prompt_tokens,
        "max_tokens": request.output_tokens,
        "stream": True,
    }
    first: float | None = None
    try:
        async with asyncio.timeout(request.patience_seconds) as patience:
            async with session.post(path, json=body, headers={model_header: request.model}) as response:
                if response.status != 200:
                    what = Happening.REFUSED if response.status in _REFUSALS else Happening.FAILED
                    tell(Event(number=number, what=what, at_seconds=loop.time() - start, status=response.status))
                    return
                async for chunk, _ in response.content.iter_chunks():
                    if first is None and chunk:
                        first = loop.time()
                        patience.reschedule(None)
                        ttft = first - sent
                        tell(Event(number=number, what=Happening.FIRST, at_seconds=first - start, ttft_seconds=ttft))
    except TimeoutError:
        tell(Event(number=number, what=Happening.GONE, at_seconds=loop.time() - start))
        return
    except aiohttp.ClientError:
        tell(Event(number=number, what=Happening.FAILED, at_seconds=loop.time() - start))
        return
    if first is None:
        tell(Event(number=number, what=Happening.FAILED, at_seconds=loop.time() - start, status=200))
        return
    end = loop.time()
    tell(
        Event(
            number=number,
            what=Happening.DONE,
            at_seconds=end - start,
            ttft_seconds=first - sent,
            tpot_seconds=(end - first) / (request.output_tokens - 1) if request.output_tokens > 1 else None,
        )
    )


def _to_stdout(event: Event) -> None:
    sys.stdout.write(json.dumps(event.model_dump(mode="json", exclude_none=True)) + "\n")
    sys.stdout.flush()


async def _main() -> None:
    task = asyncio.create_task(generate(Orders.model_validate_json(sys.stdin.read()), _to_stdout))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.gather(task, return_exceptions=False)


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except asyncio.CancelledError:
        sys.exit(130)
