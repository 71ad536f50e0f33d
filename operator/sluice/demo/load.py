"""The load generator: open loop, in a process of its own, so that a slow fleet cannot slow the arrivals.

Reads its orders as JSON from standard input, sends each request at its time through the
proxy, and writes one JSON line per thing that happens to a request. Times are measured
at the client: TTFT from sending the request to the first event of the stream, TPOT
over the rest of the answer. A client whose first token does not come within its patience
closes the connection. Bodies have their real size: what a gate reads off them is their length.

Every line about a sent request says how late it was sent: what a busy machine does to an open
loop shows there.

    python -m sluice.demo.load < orders.json
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import aiohttp
from pydantic import BaseModel, ConfigDict

from sluice.model.gate import REFUSED_HEADER, REQUEST_ID_HEADER, WAITED_HEADER


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
    body_bytes: int


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
    late_seconds: float | None = None
    """Of a sent request: how much after its time."""
    waited_seconds: float | None = None
    """Of a first token: how long the gate says that it held the request."""
    request_id: str | None = None
    """The proxy's, of a first token or refusal that passed a gate."""
    reason: str | None = None
    """Of a refusal: the gate's."""


Tell = Callable[[Event], None]
_REFUSALS = frozenset({429, 503})
_TEXT = b"All work and no play makes a dull prompt. "


def body(request: Request) -> bytes:
    """What is posted, of the size that the request has on the wire; the true token count rides along."""
    head = json.dumps(
        {
            "model": request.model,
            "simulated_prompt_tokens": request.prompt_tokens,
            "max_tokens": request.output_tokens,
            "stream": True,
        }
    ).encode()
    before, after = (b', "prompt": "', b'"}') if not request.chat else (_BEFORE_CHAT, b'"}]}')
    head = head[:-1] + before
    size = max(1, request.body_bytes - len(head) - len(after))
    return head + (_TEXT * (size // len(_TEXT) + 1))[:size] + after


_BEFORE_CHAT = b', "messages": [{"role": "user", "content": "'


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
            client = _Client(session, orders.model_header, number, request, start, tell)
            task = asyncio.create_task(client.run())
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running, timeout=orders.drain_seconds)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class _Client:
    """One client, from sending to the end of its answer."""

    def __init__(
        self, session: aiohttp.ClientSession, header: str, number: int, request: Request, start: float, tell: Tell
    ) -> None:
        self._session, self._header, self._number, self._request = session, header, number, request
        self._start, self._tell = start, tell
        self._clock = asyncio.get_running_loop().time

    async def run(self) -> None:
        """Send, listen, and say what happened."""
        sent = self._clock()
        self._say(Happening.SENT, sent, late_seconds=max(0.0, sent - self._start - self._request.at_seconds))
        try:
            first = await self._listen(sent)
        except TimeoutError:
            self._say(Happening.GONE, self._clock())
        except aiohttp.ClientError:
            self._say(Happening.FAILED, self._clock())
        else:
            if first is not None:
                self._end(sent, first)

    async def _listen(self, sent: float) -> float | None:
        """Read the answer to its end; when its first token came, None where it was refused or empty."""
        request, first = self._request, None
        path = "/v1/chat/completions" if request.chat else "/v1/completions"
        headers = {self._header: request.model, "content-type": "application/json"}
        async with (
            asyncio.timeout(request.patience_seconds) as patience,
            self._session.post(path, data=body(request), headers=headers) as response,
        ):
            if response.status != 200:
                self._refused(response)
                return None
            async for chunk, _ in response.content.iter_chunks():
                if first is None and chunk:
                    first = self._clock()
                    patience.reschedule(None)
                    self._first(response, sent, first)
        if first is None:
            self._say(Happening.FAILED, self._clock(), status=200)
        return first

    def _first(self, response: aiohttp.ClientResponse, sent: float, first: float) -> None:
        waited = response.headers.get(WAITED_HEADER, "")
        self._say(
            Happening.FIRST,
            first,
            ttft_seconds=first - sent,
            waited_seconds=int(waited) / 1000.0 if waited.isdecimal() else None,
            request_id=response.headers.get(REQUEST_ID_HEADER),
        )

    def _refused(self, response: aiohttp.ClientResponse) -> None:
        self._say(
            Happening.REFUSED if response.status in _REFUSALS else Happening.FAILED,
            self._clock(),
            status=response.status,
            reason=response.headers.get(REFUSED_HEADER),
            request_id=response.headers.get(REQUEST_ID_HEADER),
        )

    def _end(self, sent: float, first: float) -> None:
        end, tokens = self._clock(), self._request.output_tokens
        self._say(
            Happening.DONE,
            end,
            ttft_seconds=first - sent,
            tpot_seconds=(end - first) / (tokens - 1) if tokens > 1 else None,
        )

    def _say(self, what: Happening, now: float, **more: Any) -> None:
        self._tell(Event(number=self._number, what=what, at_seconds=now - self._start, **more))


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
