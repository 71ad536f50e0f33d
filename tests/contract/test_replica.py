"""The simulated replica over HTTP: its API, its metrics as Prometheus parses them, its manners."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sluice.demo import lateness
from sluice.demo.replica import SIMULATED_HEADER, ReplicasSettings, serving

ITERATION_SECONDS = 0.005
SETTINGS = ReplicasSettings(
    replicas=2,
    models=("chat", "code"),
    solo_seconds=ITERATION_SECONDS,
    mixed_base_seconds=ITERATION_SECONDS,
    per_token_seconds=0.0,
    per_sequence_seconds=0.0,
    slots=2,
    batched_token_budget=100,
    kv_token_capacity=10_000,
    write_interval_seconds=0.02,
)


@pytest.fixture
async def ports() -> AsyncIterator[list[int]]:
    async with serving(SETTINGS) as bound:
        yield bound


@pytest.fixture
async def client(ports: list[int]) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base_url=f"http://127.0.0.1:{ports[0]}") as session:
        yield session


async def samples(client: aiohttp.ClientSession) -> dict[tuple[str, str], float]:
    """(name, model) -> value, buckets left out."""
    async with client.get("/metrics") as response:
        text = await response.text()
    return {
        (sample.name, sample.labels.get("model_name", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "le" not in sample.labels and sample.labels.get("finished_reason", "length") == "length"
    }


def body(**fields: object) -> dict[str, object]:
    return {"model": "chat", "simulated_prompt_tokens": 250, "max_tokens": 40, **fields}


async def test_a_stream_has_every_token_and_ends_as_the_api_says(client: aiohttp.ClientSession) -> None:
    fields = body(stream=True, stream_options={"include_usage": True}, messages=[])
    async with client.post("/v1/chat/completions", json=fields) as response:
        assert response.status == 200
        assert response.headers[SIMULATED_HEADER] == "true"
        events = [line[6:] async for line in response.content if line.startswith(b"data: ")]
    assert events[-1].strip() == b"[DONE]"
    documents = [json.loads(item) for item in events[:-1]]
    words = sum(len(choice["delta"]["content"].split()) for document in documents for choice in document["choices"])
    assert words == 40
    assert documents[-1]["usage"]["completion_tokens"] == 40
    assert 2 < len(documents) < 40, "tokens share events, and yet they stream"


async def test_a_whole_answer_and_what_it_counts(client: aiohttp.ClientSession) -> None:
    async with client.post("/v1/completions", json=body(prompt="x")) as response:
        answer = await response.json()
    assert answer["usage"] == {"prompt_tokens": 250, "completion_tokens": 40, "total_tokens": 290}
    seen = await samples(client)
    assert seen["vllm:prompt_tokens_total", "chat"] == 250
    assert seen["vllm:generation_tokens_total", "chat"] == 40
    assert seen["vllm:request_success_total", "chat"] == 1
    assert seen["vllm:request_success_total", "code"] == 0
    assert seen["vllm:request_prompt_tokens_sum", "chat"] == 250
    assert seen["vllm:request_generation_tokens_count", "chat"] == 1
    assert seen["vllm:inter_token_latency_seconds_count", "chat"] == 39
    assert seen["vllm:inter_token_latency_seconds_sum", "chat"] == pytest.approx(39 * ITERATION_SECONDS)
    assert seen["vllm:time_to_first_token_seconds_count", "chat"] == 1
    assert seen["vllm:time_to_first_token_seconds_sum", "chat"] >= 3 * ITERATION_SECONDS * 0.9


async def test_a_client_that_goes_away_frees_its_slot(client: aiohttp.ClientSession) -> None:
    """Two slots are taken by clients that leave; the third request would else wait 5 s."""

    async def leave_after_first_token() -> None:
        async with client.post("/v1/completions", json=body(prompt="x", max_tokens=1000, stream=True)) as response:
            await response.content.readline()
            response.close()

    await asyncio.gather(leave_after_first_token(), leave_after_first_token())
    async with asyncio.timeout(2):
        async with client.post("/v1/completions", json=body(prompt="x", max_tokens=2)) as response:
            assert response.status == 200
        while (await samples(client))["vllm:num_requests_running", "chat"] > 0:
            pass  # asking again is the wait
    assert (await samples(client))["vllm:kv_cache_usage_perc", "chat"] == 0


async def test_waiting_requests_are_counted_as_waiting(client: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(client.post("/v1/completions", json=body(prompt="x", max_tokens=100)))
        while True:
            seen = await samples(client)
            if seen["vllm:num_requests_waiting", "chat"] == 2:
                break
        assert seen["vllm:num_requests_running", "chat"] == 2


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"model": "other", "prompt": "x"}, 404, "does not exist"),
        ({"model": "chat", "prompt": "x", "max_tokens": 0}, 400, "max_tokens"),
        ({"model": "chat"}, 400, "prompt"),
        ({"model": "chat", "simulated_prompt_tokens": 20_000}, 400, "KV cache"),
        ([], 400, "JSON object"),
    ],
)
async def test_bad_requests_are_refused_with_a_reason(
    client: aiohttp.ClientSession, fields: object, status: int, words: str
) -> None:
    async with client.post("/v1/completions", json=fields) as response:
        assert response.status == status
        assert words in (await response.json())["error"]["message"]


async def test_a_replica_tells_how_late_its_iterations_end(client: aiohttp.ClientSession) -> None:
    async with client.post("/v1/completions", json=body(prompt="x")) as response:
        await response.read()
    async with client.get("/metrics") as response:
        late = lateness.read([await response.text()])
    assert late.number == 3 + 39, "one for each iteration: 250 prompt tokens by 100, then 39 further tokens"


@pytest.mark.parametrize("path", ["/", "/version", "/metrics", "/v1/models"])
async def test_every_page_says_that_it_is_simulated(client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(path) as response:
        assert response.headers[SIMULATED_HEADER] == "true"
        assert "simulated" in await response.text()
