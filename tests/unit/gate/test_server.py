"""One stream of Envoy's: what is written as it comes, and what is the last answer."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
from prometheus_client import CollectorRegistry
from tests.unit.gate.worlds import lane, terms

from sluice.gate import wire
from sluice.gate.access_log import ends
from sluice.gate.decision_log import DecisionLog
from sluice.gate.desk import Desk
from sluice.gate.keys import LONGEST_KEY, KeySource
from sluice.gate.meters import Meters
from sluice.gate.request import Request
from sluice.gate.server import METHOD, Processor
from sluice.gate.state import Gate
from sluice.gate.tracing import Tracer
from sluice.model.gate import REFUSED_HEADER, ROUTE_ATTRIBUTE, WAITED_HEADER

BODY = messages.ProcessingRequest(response_body={"body": b"data: one\n\n"})
ANSWER_HEADERS = messages.ProcessingRequest(response_headers={})
EMPTY_ANSWER = messages.ProcessingRequest(response_headers={"end_of_stream": True})


class Stream:
    """What Envoy says, and what it hears."""

    method = METHOD

    def __init__(self, *said: messages.ProcessingRequest) -> None:
        self._said = list(said)
        self.heard: list[messages.ProcessingResponse] = []

    async def read(self) -> Any:
        return self._said.pop(0) if self._said else grpc.aio.EOF

    async def write(self, answer: bytes) -> None:
        self.heard.append(messages.ProcessingResponse.FromString(answer))

    async def run(self, desk: Desk) -> list[str]:
        """The kinds of all answers, the last one's too; nothing for a last one without a word."""
        last = await Processor(desk, lambda route: route).service(self).stream_unary(None, self)
        if last:
            await self.write(last)
        return [answer.WhichOneof("response") for answer in self.heard]


def headers(route: str, method: str = "POST", **more: str) -> messages.ProcessingRequest:
    message = messages.ProcessingRequest()
    given = {":method": method, ":path": "/v1/completions", "content-length": "400", **more}
    for name, value in given.items():
        field = message.request_headers.headers.headers.add()
        field.key, field.raw_value = name, value.encode()
    message.attributes["envoy.filters.http.ext_proc"].fields[ROUTE_ATTRIBUTE].string_value = route
    return message


def desk() -> Desk:
    told = terms(lane("chat"), lane("shut"), closed=frozenset({"shut"}))
    return Desk(Gate(told), Meters(CollectorRegistry()), DecisionLog(None))


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        pytest.param([], [], id="who leaves at once hears nothing"),
        pytest.param([headers("chat"), BODY], ["request_headers", "response_body"], id="a request and its first token"),
        pytest.param([headers("chat")], ["request_headers"], id="an answer without a body ends with the stream"),
        pytest.param(
            [headers("chat"), ANSWER_HEADERS, BODY],
            ["request_headers", "response_headers", "response_body"],
            id="Envoy Gateway sends the answer's headers too",
        ),
        pytest.param(
            [headers("chat"), EMPTY_ANSWER], ["request_headers", "response_headers"], id="headers that are all there is"
        ),
        pytest.param([headers("shut")], ["immediate_response"], id="a refusal is all"),
        pytest.param([headers("other")], ["request_headers"], id="an unknown class passes"),
        pytest.param([headers("chat", "GET")], ["request_headers"], id="what starts no prefill passes"),
    ],
)
async def test_a_stream_is_answered_and_leaves_nothing_behind(
    said: list[messages.ProcessingRequest], heard: list[str]
) -> None:
    front = desk()
    assert await Stream(*said).run(front) == heard
    assert (front.gate.waiting, front.gate.in_prefill) == (0, 0)


async def test_answers_bear_what_was_decided() -> None:
    stream = Stream(headers("chat"), ANSWER_HEADERS, BODY)
    await stream.run(desk())
    for answer in (stream.heard[0].request_headers, stream.heard[1].response_headers):
        assert WAITED_HEADER in {one.header.key for one in answer.response.header_mutation.set_headers}
    refusal = Stream(headers("shut"))
    await refusal.run(desk())
    fields = {one.header.key: one.header.raw_value for one in refusal.heard[0].immediate_response.headers.set_headers}
    assert fields[REFUSED_HEADER] == b"ClassClosed"


async def test_nothing_that_a_client_writes_is_kept_at_full_length(monkeypatch: pytest.MonkeyPatch) -> None:
    long, front, kept = "x" * 60_000, desk(), []
    front.tracer = Tracer(endpoint="nowhere")
    key = {"fairness": KeySource(header="x-tenant"), "affinity": KeySource(header="x-session")}
    front.take_terms(terms(lane("chat"), classes={"chat": key}), fresh=False)

    def arrive(request: Request) -> None:
        kept.append(request)
        Desk.arrive(front, request)

    monkeypatch.setattr(front, "arrive", arrive)
    names = ("x-request-id", "idempotency-key", "traceparent", "x-tenant", "x-session", "x-stainless-retry-count")
    said = headers("chat", **dict.fromkeys(names, long), **{":path": "/" + long})
    assert await Stream(said).run(front) == ["request_headers"]
    (request,) = kept
    texts = [value for name in Request.__slots__ if isinstance(value := getattr(request, name), str)]
    assert {len(text) for text in texts if text} >= {LONGEST_KEY}
    assert max(map(len, texts)) == LONGEST_KEY
    report = als_pb2.StreamAccessLogsMessage()
    report.http_logs.log_entry.add().request.request_id = long
    assert [request_id for request_id, _ in ends(report)] == [request.request_id], "its end is still known by it"


async def test_a_killed_gate_lets_pass_unseen() -> None:
    front, stream = desk(), Stream(headers("chat"))
    front.killed = True
    await stream.run(front)
    assert stream.heard == [messages.ProcessingResponse.FromString(wire.CONTINUE)]
