"""From a simulated replica through a real Prometheus to the observed law."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from sluice.demo import programs
from sluice.demo.replica import ReplicasSettings
from sluice.learning.recalibration import Recalibration, RecalibrationSettings, WorkingPoint, drift, recalibrate
from sluice.model.engine_sample import EngineSample
from sluice.model.law import IterationLaw
from sluice.observe.engines import engine_samples
from sluice.observe.prometheus import PrometheusClient, QueryError

SETTINGS = ReplicasSettings(
    replicas=1,
    models=("chat", "code"),
    solo_seconds=0.013,
    mixed_base_seconds=0.0078,
    per_token_seconds=52e-6,
    per_sequence_seconds=0.00026,
    slots=32,
    batched_token_budget=1024,
    kv_token_capacity=200_000,
)
SLOWER = 1.3
LAW = SETTINGS.engine.law
DECLARED = IterationLaw(
    solo_seconds=LAW.solo_seconds / SLOWER,
    mixed_base_seconds=LAW.mixed_base_seconds / SLOWER,
    per_token_seconds=LAW.per_token_seconds / SLOWER,
    per_sequence_seconds=LAW.per_sequence_seconds / SLOWER,
)
POINT = WorkingPoint(chunk_tokens=992, slots=32)
WINDOW_SECONDS, SAMPLES = 8.0, 12


@contextlib.asynccontextmanager
async def running(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def load(url: str, clients: int) -> AsyncIterator[None]:
    """Clients that each ask again as soon as they are answered, for both models."""

    async def ask_for_ever(session: aiohttp.ClientSession, number: int) -> None:
        model = SETTINGS.models[number % 2]
        body = {"model": model, "simulated_prompt_tokens": 600, "max_tokens": 40 + number, "prompt": "x"}
        while True:
            async with session.post(f"{url}/v1/completions", json=body) as answer:
                await answer.read()

    async with aiohttp.ClientSession() as session:
        tasks = [asyncio.create_task(ask_for_ever(session, number)) for number in range(clients)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def scraped(tmp_path: Path) -> AsyncIterator[tuple[PrometheusClient, str]]:
    """A replica under load that Prometheus scrapes; the client and the replica's address."""
    try:
        binary = programs.prometheus()
    except programs.ProgramMissingError as error:
        pytest.skip(str(error))
    async with running(sys.executable, "-m", "sluice.demo.replica", SETTINGS.model_dump_json()) as replica:
        assert replica.stdout is not None
        address = f"127.0.0.1:{json.loads(await replica.stdout.readline())['ports'][0]}"
        scrape = {"job_name": "engines", "scrape_interval": "500ms", "static_configs": [{"targets": [address]}]}
        config = tmp_path / "prometheus.json"  # JSON is YAML
        config.write_text(json.dumps({"scrape_configs": [scrape]}))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = (f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data")
        listen = f"--web.listen-address=127.0.0.1:{port}"
        async with running(str(binary), *options, listen), load(f"http://{address}", 12):
            client = PrometheusClient(f"http://127.0.0.1:{port}", timeout_seconds=5.0)
            yield client, address
            await client.close()


async def sample(client: PrometheusClient, address: str) -> EngineSample | None:
    with contextlib.suppress(QueryError):
        seen = await engine_samples(
            client, [address], time.time(), window_seconds=WINDOW_SECONDS, maximum_age_seconds=10.0
        )
        return seen.get(address)
    return None


async def test_the_law_of_a_scraped_engine_is_observed(scraped: tuple[PrometheusClient, str]) -> None:
    client, address = scraped
    state = Recalibration(declared=DECLARED)
    taken: list[EngineSample] = []
    async with asyncio.timeout(60):
        while len(taken) < SAMPLES:
            seen = await sample(client, address)
            state = recalibrate(state, seen, POINT, time.time(), RecalibrationSettings())
            if seen is not None and state.refusal is None:
                taken.append(seen)
    assert drift(state, POINT) == pytest.approx(SLOWER - 1, abs=0.08)
    last = taken[-1]
    assert last.running == pytest.approx(12, abs=2.5)
    assert last.prompt_tokens == pytest.approx(600, rel=0.01)
    assert last.iteration_rate is not None
    assert last.iteration_rate * LAW.solo(1) < 1.05, "iterations are counted once, not once a model"
    assert last.prefill_seconds is not None
