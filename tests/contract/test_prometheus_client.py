"""The Prometheus client against servers that fail in every way that one meets."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sluice.observe.prometheus import (
    BasicLogin,
    BearerToken,
    Credentials,
    Failure,
    PrometheusClient,
    QueryError,
    credentials_of,
    without_userinfo,
)

SECRET = "do-not-show-me"
TIMEOUT_SECONDS = 0.3
Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A local server that answers each request with ``answer`` and remembers what it was sent."""

    def __init__(self) -> None:
        self.answer: Answer = say(200, VECTOR)
        self.seen: list[tuple[str | None, str]] = []
        self.ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
                outer.seen.append((self.headers.get("Authorization"), self.path + body))
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def hang(self, _: BaseHTTPRequestHandler) -> None:
        self.ended.wait(10)


def say(status: int, body: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body.encode())))
        handler.end_headers()
        handler.wfile.write(body.encode())

    return answer


VECTOR = json.dumps(
    {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [
                {"metric": {"job": "a"}, "value": [1.5, "2.5"]},
                {"metric": {"job": "b"}, "value": [1.5, "NaN"]},
                {"metric": {"job": "c"}, "value": [1.5, "+Inf"]},
            ],
        },
    }
)


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    threading.Thread(target=one.http.serve_forever, args=(0.02,), daemon=True).start()
    yield one
    one.ended.set()
    one.http.shutdown()
    one.http.server_close()


async def ask(url: str, credentials: Credentials | None = None) -> tuple[float, ...]:
    client = PrometheusClient(url, timeout_seconds=TIMEOUT_SECONDS, credentials=credentials)
    try:
        return tuple(series.value for series in await client.query("up", 12.3456))
    finally:
        await client.close()


async def test_a_vector_at_an_explicit_time(server: Server) -> None:
    values = await ask(server.url)
    assert values[0] == 2.5
    assert values[1] != values[1]
    assert values[2] == float("inf")
    assert "time=12.346" in server.seen[0][1]


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        pytest.param(BearerToken(SECRET), f"Bearer {SECRET}", id="a bearer token"),
        pytest.param(
            BasicLogin("me", SECRET), "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode(), id="a login"
        ),
        pytest.param(None, None, id="no credentials"),
    ],
)
async def test_credentials_go_into_the_header(
    server: Server, credentials: Credentials | None, header: str | None
) -> None:
    await ask(server.url, credentials)
    assert server.seen[0][0] == header
    assert SECRET not in repr(credentials)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        pytest.param(say(401, SECRET), Failure.REFUSED, id="unauthorized"),
        pytest.param(say(403, SECRET), Failure.REFUSED, id="forbidden"),
        pytest.param(say(503, SECRET), Failure.UNREACHABLE, id="a gateway without Prometheus behind it"),
        pytest.param(say(404, SECRET), Failure.REJECTED, id="another server"),
        pytest.param(say(200, f"<html>{SECRET}</html>"), Failure.REJECTED, id="a login page"),
        pytest.param(say(200, '{"data": {}}'), Failure.REJECTED, id="JSON of something else"),
        pytest.param(None, Failure.TIMED_OUT, id="no answer at all"),
    ],
)
async def test_failures_are_told_apart_and_show_no_secret(
    server: Server, answer: Answer | None, failure: Failure
) -> None:
    server.answer = answer or server.hang
    address = server.url.replace("//", f"//user:{SECRET}@")
    with pytest.raises(QueryError) as caught:
        await ask(address, BearerToken(SECRET))
    assert caught.value.failure is failure
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://127.0.0.1:1", id="nothing listens"),
        pytest.param("http://prometheus.invalid:9090", id="no such name"),
    ],
)
async def test_what_is_not_there_is_unreachable(url: str) -> None:
    with pytest.raises(QueryError) as caught:
        await ask(url)
    assert caught.value.failure in {Failure.UNREACHABLE, Failure.TIMED_OUT}
    assert url in str(caught.value)


async def test_a_hanging_server_neither_blocks_the_loop_nor_holds_more_threads_than_the_bound(server: Server) -> None:
    server.answer = server.hang
    client = PrometheusClient(server.url, timeout_seconds=TIMEOUT_SECONDS)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    began = time.monotonic()
    outcomes = await asyncio.gather(*(client.query("up", 0.0) for _ in range(12)), return_exceptions=True)
    took = time.monotonic() - began
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("prometheus")]
    turning.cancel()
    await client.close()
    assert all(isinstance(one, QueryError) and one.failure is Failure.TIMED_OUT for one in outcomes)
    assert took < 5
    assert turns > 100
    assert 0 < len(threads) <= 4


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param({"token": " t\n"}, BearerToken("t"), id="a token, trimmed"),
        pytest.param({"username": "u", "password": "p"}, BasicLogin("u", "p"), id="a login"),
        pytest.param({"username": "u"}, None, id="half a login is none"),
        pytest.param({}, None, id="an empty Secret"),
    ],
)
def test_credentials_from_a_secret(data: dict[str, str], expected: Credentials | None) -> None:
    assert credentials_of(data) == expected


def test_an_address_is_shown_without_what_is_secret_in_it() -> None:
    assert without_userinfo(f"https://u:{SECRET}@host:1/path?key={SECRET}#x") == "https://host:1/path"
