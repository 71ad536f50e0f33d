"""Engines' gauges, whatever an engine answers: a reading of counts or none, and the others are asked on."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gate.worlds import engine, lane, request, terms

from sluice.gate import gauges
from sluice.gate.engines import Reading
from sluice.gate.gauges import LARGEST_ANSWER_BYTES, parse, poll
from sluice.gate.state import Gate

GOOD = b"vllm:num_requests_running 1.0\nvllm:num_requests_waiting 2.0\n"
NAMES = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:num_preemptions_total",
    "vllm:prompt_tokens_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:cache_config_info",
    "sglang:num_running_reqs",
    "sglang:token_usage",
)
NO_COUNTS = (
    "+Inf",
    "-Inf",
    "NaN",
    "1e999",
    "-1e999",
    "-1",
    "1e300",
    "+",
    "-",
    ".",
    "e",
    "1e",
    "0x1",
    "++1",
    "9" * 5000,
)
LABELS = (
    "",
    "{}",
    '{model_name="a"}',
    '{model_name="}"}',
    '{model_name="a\\"} 7"}',
    '{block_size="16",num_gpu_blocks="1000"}',
    '{block_size="' + "9" * 5000 + '",num_gpu_blocks="99999999999999999999"}',
    "{",
)


@pytest.mark.parametrize("value", NO_COUNTS)
@pytest.mark.parametrize("name", NAMES[:7])
def test_what_is_no_count_is_not_taken(name: str, value: str) -> None:
    reading = parse(GOOD + f"{name} {value}\n".encode())
    if name in NAMES[:2]:
        assert reading is None, "without requests running and waiting nothing is known"
    else:
        assert reading == parse(GOOD)


@pytest.mark.parametrize(
    ("text", "running"),
    [
        pytest.param('vllm:num_requests_running{model_name="}"} 3 1700000000000\n', 3.0, id="a brace, a time stamp"),
        pytest.param('vllm:num_requests_running{model_name="a\\"} 7"} 3\n', 3.0, id="a quote in a label"),
        pytest.param("vllm:num_requests_running 1\r\nvllm:num_requests_running 2\r\n", 3.0, id="two models"),
        pytest.param("vllm:num_requests_running 1\nvllm:num_requests_running NaN\n", None, id="half of it is known"),
        pytest.param("vllm:num_requests_running 1e15\nvllm:num_requests_running 1e15\n", None, id="too many"),
    ],
)
def test_series_are_read_as_expositions_have_them(text: str, running: float | None) -> None:
    reading = parse(text.encode() + b"vllm:num_requests_waiting 0\n")
    assert (reading.running if reading else None) == running


LINES = st.builds(
    "{}{} {}".format,
    st.sampled_from(NAMES),
    st.sampled_from(LABELS),
    st.one_of(st.sampled_from(NO_COUNTS), st.floats().map(repr), st.integers(0, 50).map(str), st.text(max_size=8)),
)
EXPOSITIONS = st.one_of(
    st.binary(max_size=200), st.lists(LINES, max_size=12).map(lambda lines: "\n".join(lines).encode())
)


@settings(deadline=None)
@given(st.lists(EXPOSITIONS, min_size=1, max_size=6))
def test_nothing_that_an_engine_says_ends_the_gate(said: list[bytes]) -> None:
    slotted = engine("one", slots=8, kv_token_capacity=1000.0)
    gate = Gate(terms(lane("chat"), engines=(slotted,)))
    for number, exposition in enumerate(said):
        now = 0.5 * number
        for text in (exposition, GOOD + exposition):
            reading = parse(text)
            if reading is None:
                continue
            counts: Mapping[str, float | None] = asdict(reading)
            assert all(value is None or (math.isfinite(value) and value >= 0.0) for value in counts.values())
            assert reading.kv_usage <= 1.0
            gate.on_reading("one", reading, now)
        gate.on_arrival(request(number, arrival=now), now)
        gate.on_tick(now)
        gate.engines["one"].free_slots()


@asynccontextmanager
async def answering(said: bytes, *, endless: bool = False) -> AsyncIterator[str]:
    """``address:port`` of a server that says the same to everybody, ``endless``: until nobody listens."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            while endless:
                writer.write(b"x" * 65536)
                await writer.drain()
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
PACKED = gzip.compress(b"x" * 64 * LARGEST_ANSWER_BYTES, 1)
BAD = [
    pytest.param(b"", False, id="nothing"),
    pytest.param(b"\x00\xff" * 500, False, id="no HTTP"),
    pytest.param(OK + b"\r\n", False, id="an empty body"),
    pytest.param(OK + b"content-length: -1\r\n\r\n" + GOOD, False, id="a length that is none"),
    pytest.param(OK + b"set-cookie: =;=\x01\r\n\r\n", False, id="a cookie that is none"),
    pytest.param(OK + b"x: " + b"y" * 100_000 + b"\r\n\r\n" + GOOD, False, id="an endless header"),
    pytest.param(OK + b"\r\n" + GOOD, True, id="an endless body"),
    pytest.param(OK + b"content-encoding: gzip\r\n\r\n" + PACKED, False, id="a large answer, packed"),
    pytest.param(OK + b"content-encoding: gzip\r\n\r\nxx", False, id="an answer badly packed"),
    pytest.param(b"HTTP/1.1 500 No\r\nconnection: close\r\n\r\n" + GOOD, False, id="an error"),
    pytest.param(b"HTTP/1.1 302 No\r\nlocation: http://OTHER/metrics\r\n\r\n", False, id="somebody else's address"),
    pytest.param(OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n", False, id="a chunk without a length"),
    pytest.param(OK + b"\r\nvllm:num_requests_running +Inf\nvllm:num_requests_waiting 0\n", False, id="infinite"),
]


@pytest.mark.parametrize(("said", "endless"), BAD)
async def test_an_engine_that_answers_badly_is_not_heard_and_the_others_are(
    monkeypatch: pytest.MonkeyPatch, said: bytes, endless: bool
) -> None:
    monkeypatch.setattr(gauges, "POLL_SECONDS", 0.0)
    heard: list[tuple[str, Reading]] = []
    async with (
        answering(OK + b"\r\n" + GOOD) as good,
        answering(said.replace(b"OTHER", good.encode()), endless=endless) as bad,
    ):
        enough = asyncio.Event()

        def read(name: str, reading: Reading) -> None:
            heard.append((name, reading))
            if len(heard) >= 3:
                enough.set()

        polling = asyncio.create_task(poll(lambda: (bad, "no address:at all", good), read))
        waiting = asyncio.create_task(enough.wait())
        await asyncio.wait([polling, waiting], timeout=60.0, return_when=asyncio.FIRST_COMPLETED)
        assert not polling.done(), "it asks for ever"
        for task in (polling, waiting):
            task.cancel()
        await asyncio.gather(polling, waiting, return_exceptions=True)
    assert {name for name, _ in heard} == {good}
