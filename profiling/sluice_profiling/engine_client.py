"""A live engine as a client sees it: OpenAI-compatible streams with arrival times, and its metrics page.

Prompts are lists of random token ids: their length is exact without a tokenizer, and no
two share a prefix that an engine might have cached.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 120.0
"""Longest wait for the next event of a stream."""
SMALLEST_TOKEN, LARGEST_TOKEN = 1000, 30000
"""Ids that every current vocabulary holds and that are no control tokens in it."""


class EngineError(RuntimeError):
    """The engine does not do what the profiler needs; the message says what and what to try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent:
    """One event of a stream."""

    at_seconds: float
    """When it was read, on the event loop's clock."""
    prompt_tokens: int | None = None
    """The engine's own count, in the last event where the engine tells."""
    output_tokens: int | None = None


class EngineClient:
    """One engine behind one URL."""

    def __init__(self, url: str, model: str = "", *, api_key: str = "", seed: int = 0) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.model = model
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        # Every stream of a large batch needs a connection of its own.
        self._session = aiohttp.ClientSession(headers=headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        self._random = random.Random(seed)  # noqa: S311 -- lengths matter here, not secrecy

    async def __aenter__(self) -> Self:
        """Find out which model is served, unless one is named."""
        if not self.model:
            try:
                self.model = await self._first_model()
            except EngineError:
                await self._session.close()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections: engines abort the streams behind them."""
        await self._session.close()

    async def _first_model(self) -> str:
        try:
            async with self._session.get(f"{self.url}/v1/models") as answer:
                served = (await answer.json())["data"]
                return str(served[0]["id"])
        except aiohttp.ClientConnectionError as error:
            raise EngineError(f"{self.url} does not answer ({error}): is that where the engine serves?") from error
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, IndexError, TypeError) as error:
            raise EngineError(f"{self.url}/v1/models names no served model ({error!r}): give --model") from error

    async def version(self) -> str:
        """What the engine says it is, or nothing."""
        try:
            async with self._session.get(f"{self.url}/version") as answer:
                told = await answer.json()
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return ""
        return str(told.get("version", "")) if isinstance(told, Mapping) else ""

    async def metrics(self) -> dict[str, float] | None:
        """Every series of the metrics page summed over its labels, buckets aside; None where there is no page."""
        try:
            async with self._session.get(f"{self.url}/metrics") as answer:
                if answer.status != 200:
                    return None
                text = await answer.text()
            totals: dict[str, float] = {}
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if not sample.name.endswith("_bucket"):
                        totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None
        return totals

    @asynccontextmanager
    async def stream(self, prompt_tokens: int, output_tokens: int) -> AsyncIterator[AsyncIterator[TokenEvent]]:
        """A completion that streams; leaving the context early aborts it."""
        body = {
            "model": self.model,
            "prompt": [self._random.randint(SMALLEST_TOKEN, LARGEST_TOKEN) for _ in range(prompt_tokens)],
            "max_tokens": output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            async with self._session.post(f"{self.url}/v1/completions", json=body) as answer:
                if answer.status != 200:
                    raise EngineError(f"the engine answers {answer.status}: {(await answer.text())[:300]}")
                yield self._events(answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineError(f"the stream broke: {error!r}") from error

    async def _events(self, answer: aiohttp.ClientResponse) -> AsyncIterator[TokenEvent]:
        loop = asyncio.get_running_loop()
        async for line in answer.content:
            if not line.startswith(b"data:"):
                continue
            at_seconds = loop.time()
            text = line.removeprefix(b"data:").strip()
            if text == b"[DONE]":
                return
            document: dict[str, Any] = json.loads(text)
            if usage := document.get("usage"):
                yield TokenEvent(
                    at_seconds=at_seconds,
                    prompt_tokens=usage.get("prompt_tokens"),
                    output_tokens=usage.get("completion_tokens"),
                )
            elif document.get("choices"):
                yield TokenEvent(at_seconds=at_seconds)
