"""The engines' own gauges, twice a second: running, waiting, KV memory, preemptions, caches.

A replica that does not answer loses nothing: its last reading ages, and the guard it feeds
opens (``engines.READING_AGE_SECONDS``). So does one that answers with nonsense: whatever it
sends, it is bounded in size, only finite counts are taken from it, and the others are asked on.

Reference: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable

import aiohttp

from sluice.gate.engines import Reading
from sluice.gate.residents import POLL_SECONDS

LOG = logging.getLogger(__name__)
TIMEOUT_SECONDS = 1.0
LARGEST_ANSWER_BYTES = 2 * 2**20
"""Engines tell some hundred KiB; what is longer is not read."""
LARGEST_COUNT = 1e15
"""Floats count exactly as far, sums of a few included; what is larger is no count of requests or tokens."""
LARGEST_USAGE = 1.01
"""A share may be rounded up; what is larger is something else, such as a percentage."""
_NAMES = {
    b"num_requests_running": "running",
    b"num_running_reqs": "running",
    b"num_requests_waiting": "waiting",
    b"num_queue_reqs": "waiting",
    b"kv_cache_usage_perc": "kv_usage",
    b"token_usage": "kv_usage",
    b"num_preemptions_total": "preemptions",
    b"prompt_tokens_total": "prompt_tokens",
    b"prefix_cache_queries_total": "prefix_queried_tokens",
    b"prefix_cache_hits_total": "prefix_hit_tokens",
}
_LABELS = rb'\{((?:[^"}\n]|"(?:[^"\\\n]|\\.)*+")*+)\}'
_LINE = re.compile(rb"^(?:vllm|sglang):(" + b"|".join(_NAMES) + rb")(?:" + _LABELS + rb")?[ \t]+(\S+)", re.MULTILINE)
_CACHE = re.compile(rb"^vllm:cache_config_info" + _LABELS, re.MULTILINE)
_BLOCKS = re.compile(rb'\b(num_gpu_blocks|block_size)="(\d{1,12})"')


def parse(exposition: bytes) -> Reading | None:
    """The gauges in a replica's ``/metrics``; None where requests running and waiting are not there as counts.

    Several model names share an engine's queue: their requests add up, their memory is one. What
    is said of anything else and is no count is as good as not said.
    """
    said: dict[str, list[float | None]] = {}
    for name, _, value in _LINE.findall(exposition):
        said.setdefault(_NAMES[name], []).append(_count(value))
    running, waiting = _sum(said.get("running")), _sum(said.get("waiting"))
    if running is None or waiting is None:
        return None
    capacity = 0.0
    for labels in _CACHE.findall(exposition):
        blocks = {key: float(number) for key, number in _BLOCKS.findall(labels)}
        capacity += blocks.get(b"num_gpu_blocks", 0.0) * blocks.get(b"block_size", 0.0)
    usage = [min(1.0, value) for value in said.get("kv_usage", ()) if value is not None and value <= LARGEST_USAGE]
    return Reading(
        running=running,
        waiting=waiting,
        kv_usage=max(usage, default=0.0),
        preemptions=_sum(said.get("preemptions")) or 0.0,
        kv_token_capacity=capacity if 0.0 < capacity <= LARGEST_COUNT else None,
        prompt_tokens=_sum(said.get("prompt_tokens")),
        prefix_queried_tokens=_sum(said.get("prefix_queried_tokens")),
        prefix_hit_tokens=_sum(said.get("prefix_hit_tokens")),
    )


def _count(text: bytes) -> float | None:
    """A count as it stands in an exposition; None for anything that is none (infinite, negative, NaN, no number)."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value <= LARGEST_COUNT else None


def _sum(said: list[float | None] | None) -> float | None:
    """Of all series of one name; None where there is none, or one of them is no count."""
    if not said:
        return None
    counts = [value for value in said if value is not None]
    total = sum(counts)
    return total if len(counts) == len(said) and total <= LARGEST_COUNT else None


async def poll(engines: Callable[[], Iterable[str]], read: Callable[[str, Reading], None]) -> None:
    """Ask every engine, for ever; ``read`` hears what each says."""
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,  # a small answer may be a large one, packed
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:

        async def tell(engine: str) -> None:
            if (reading := await ask(session, engine)) is not None:
                read(engine, reading)

        while True:
            await asyncio.gather(asyncio.sleep(POLL_SECONDS), *(tell(engine) for engine in engines()))


async def ask(session: aiohttp.ClientSession, engine: str) -> Reading | None:
    """What one engine says; None where it says nothing that can be used, however it does so."""
    try:
        async with session.get(f"http://{engine}/metrics", allow_redirects=False) as answer:
            text = bytearray()
            async for chunk in answer.content.iter_any():
                text += chunk
                if len(text) > LARGEST_ANSWER_BYTES:
                    return None
            return parse(bytes(text)) if answer.ok else None
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None
    except Exception as error:  # an engine may answer anything: that ends its reading, not the gate
        LOG.warning("an engine's answer cannot be read", extra={"engine": engine, "problem": repr(error)[:200]})
        return None
