"""The whole standalone loop under a constant load: the operator, a real Envoy, a real Prometheus, simulated replicas.

Two promises that only the whole can keep: the estimated demand does not follow our own
limit, and an override behind our back turns ``Effective`` false with its author's name.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from sluice.demo import programs
from sluice.demo.manifests import WINDOW_SECONDS
from sluice.demo.scene import FLEET, MODEL_HEADER, NAMESPACE, SCENE
from sluice.demo.stage import Stage, staged, steered
from sluice.model.naming import files_in_flight_key
from sluice.model.signal import Sample, Signal
from sluice.observe.observer import Observer

LOAD_PER_SECOND = 16.0
OUTPUT_TOKENS = 50
"""About 0.65 s of decode each: ten requests in flight."""
CEILING = 6
PATIENCE_SECONDS = 45.0


@pytest.fixture
def prometheus() -> Path:
    try:
        return programs.prometheus()
    except programs.ProgramMissingError as error:
        pytest.skip(str(error))


async def wait_for(what: str, probe: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await probe():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.2)


class Load:
    """An open loop: requests leave on time whatever becomes of the ones before."""

    def __init__(self, url: str, model: str) -> None:
        self._url, self._model = url, model
        self.refused = self.answered = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(session, group))
            try:
                yield
            finally:
                sending.cancel()

    async def _send(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        started, sent = time.monotonic(), 0
        while True:
            due = started + sent / LOAD_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(self._one(session))
            sent += 1

    async def _one(self, session: aiohttp.ClientSession) -> None:
        body = {"model": self._model, "prompt": "x" * 80, "max_tokens": OUTPUT_TOKENS}
        headers = {MODEL_HEADER: self._model}
        with contextlib.suppress(aiohttp.ClientError):
            async with session.post(f"{self._url}/v1/completions", json=body, headers=headers) as answer:
                await answer.read()
                self.answered += answer.status == 200
                self.refused += answer.status == 503


def set_ceiling(stage: Stage, name: str, ceiling: int) -> None:
    """Edit the manifest as a user would; the file is replaced in one step."""
    path = stage.folder / "manifests" / "demo.yaml"
    documents = list(yaml.safe_load_all(path.read_text()))
    for document in documents:
        if document["kind"] == "WorkloadClass" and document["metadata"]["name"] == name:
            document["spec"]["inFlightCeiling"] = ceiling
    draft = path.with_suffix(".draft")
    draft.write_text(yaml.safe_dump_all(documents))
    draft.replace(path)


async def offered(observer: Observer, stage: Stage, name: str) -> float:
    observation = await observer.observe(stage.fleet, stage.classes, time.time())
    sample = observation.classes[name].samples.get(Signal.OFFERED_RATE)
    return sample.value if isinstance(sample, Sample) else 0.0


def condition(stage: Stage, kind: str) -> dict[str, Any]:
    path = stage.out / "status" / f"InferenceFleet.{NAMESPACE}.{FLEET}.json"
    if not path.exists():
        return {}
    found = [entry for entry in json.loads(path.read_text())["conditions"] if entry["type"] == kind]
    return found[0] if found else {}


@pytest.mark.usefixtures("prometheus")
@pytest.mark.timeout(240)
async def test_a_halved_limit_leaves_demand_where_it_is_and_an_override_is_told(tmp_path: Path) -> None:
    scene = replace(SCENE, replicas=1)
    service = scene.services[0]
    async with staged(scene, tmp_path) as stage, steered(stage):
        load = Load(stage.proxy_url, service.model)
        observer = Observer.of(stage.fleet)
        set_ceiling(stage, service.name, CEILING)
        async with load.running():
            before = await steady(observer, stage, load)
            set_ceiling(stage, service.name, CEILING // 2)
            after = await steady(observer, stage, load)
            assert before == pytest.approx(LOAD_PER_SECOND, rel=0.15)
            assert after == pytest.approx(before, rel=0.1)

            async def obeys() -> bool:
                return condition(stage, "Effective").get("status") == "True"

            await wait_for("Effective=True", obeys)
            await override(stage, files_in_flight_key(NAMESPACE, service.name), "40")

            async def disobeys() -> bool:
                return condition(stage, "Effective").get("reason") == "LimitNotEnforced"

            await wait_for("Effective=False", disobeys)
            message = condition(stage, "Effective")["message"]
            assert all(word in message for word in (service.name, "40", "admin"))
        await observer.close()


async def steady(observer: Observer, stage: Stage, load: Load) -> float:
    """The offered rate once a whole window has passed under the limit that now refuses."""
    mark = load.refused
    since: list[float] = []

    async def refusing() -> bool:
        if load.refused > mark + 5 and not since:
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] > WINDOW_SECONDS + 2

    await wait_for("a window of refusals", refusing)
    return await offered(observer, stage, stage.classes[0].name)


async def override(stage: Stage, key: str, value: str) -> None:
    url = f"http://127.0.0.1:{stage.ports.admin}/runtime_modify"
    async with aiohttp.ClientSession() as session, session.post(url, params={key: value}) as answer:
        assert answer.status == 200
