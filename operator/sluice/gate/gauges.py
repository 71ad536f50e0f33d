"""The engines' own gauges, twice a second: running, waiting, KV memory, preemptions, caches.

A replica that does not answer loses nothing: its last reading ages, and the guard it feeds
opens (``engines.READING_AGE_SECONDS``).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable

import aiohttp

from sluice.gate.engines import Reading
from sluice.gate.residents import POLL_SECONDS

TIMEOUT_SECONDS = 1.0
_LINE = re.compile(rb"^(vllm|sglang):(\w+)(?:\{[^}]*\})? ([0-9.eE+-]+)", re.MULTILINE)
_CACHE = re.compile(rb"^vllm:cache_config_info\{([^}]*)\}", re.MULTILINE)
_BLOCKS = re.compile(rb'(num_gpu_blocks|block_size)="(\d+)"')
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


def parse(exposition: bytes) -> Reading | None:
    """The gauges in a replica's ``/metrics``; None where they are not there.

    Several model names share an engine's queue: their requests add up, their memory is one.
    """
    sums: dict[str, float] = {}
    usage: list[float] = []
    for _, name, value in _LINE.findall(exposition):
        field = _NAMES.get(name)
        if field == "kv_usage":
            usage.append(float(value))
        elif field is not None:
            sums[field] = sums.get(field, 0.0) + float(value)
    if "running" not in sums or "waiting" not in sums:
        return None
    capacity = 0.0
    for labels in _CACHE.findall(exposition):
        blocks = {key: int(number) for key, number in _BLOCKS.findall(labels)}
        capacity += blocks.get(b"num_gpu_blocks", 0) * blocks.get(b"block_size", 0)
    return Reading(
        running=sums["running"],
        waiting=sums["waiting"],
        kv_usage=max(usage, default=0.0),
        preemptions=sums.get("preemptions", 0.0),
        kv_token_capacity=capacity or None,
        prompt_tokens=sums.get("prompt_tokens"),
        prefix_queried_tokens=sums.get("prefix_queried_tokens"),
        prefix_hit_tokens=sums.get("prefix_hit_tokens"),
    )


async def poll(engines: Callable[[], Iterable[str]], read: Callable[[str, Reading], None]) -> None:
    """Ask every engine, for ever; ``read`` hears what each says."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def ask(engine: str) -> None:
            try:
                async with session.get(f"http://{engine}/metrics") as answer:
                    reading = parse(await answer.read())
            except (aiohttp.ClientError, TimeoutError, OSError):
                return
            if reading is not None:
                read(engine, reading)

        while True:
            await asyncio.gather(asyncio.sleep(POLL_SECONDS), *(ask(engine) for engine in engines()))
