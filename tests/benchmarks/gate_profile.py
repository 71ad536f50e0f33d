"""python -m tests.benchmarks.gate_profile: the gate's own work for one request, in CPU microseconds by part, as JSON.

Everything but gRPC, on one thread and without a proxy: the least of many short stretches, which is what
remains where others use the machine. A process of its own, with plain kernels as ``sluice gate`` runs them.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

os.environ["SLUICE_KERNELS"] = "plain"

import grpc
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
from prometheus_client import CollectorRegistry
from tests.unit.gate.worlds import engine, lane, request, terms

from sluice.gate.access_log import ends
from sluice.gate.decision_log import DecisionLog
from sluice.gate.desk import Desk
from sluice.gate.meters import Meters
from sluice.gate.server import METHOD, Processor
from sluice.gate.state import Gate
from sluice.model.gate import REQUEST_ID_HEADER, ROUTE_ATTRIBUTE
from sluice.policy.costs import Costs
from sluice.policy.orders import timely

STRETCH, STRETCHES = 100, 200
CLASSES = ("chat", "code", "batch")
ENTRIES = 20
"""In one report of ends."""
COMMON_HEADERS = {
    ":authority": "x",
    ":path": "/v1/completions",
    ":method": "POST",
    ":scheme": "http",
    "x-class": "chat",
    "content-type": "application/json",
    "content-length": "429",
    "x-forwarded-proto": "http",
    "x-envoy-expected-rq-timeout-ms": "600000",
}


class Stream:
    """A stream that has everything to read, and where nobody listens."""

    def __init__(self, *read: Any) -> None:
        self._read = list(read)

    async def read(self) -> Any:
        return self._read.pop(0) if self._read else grpc.aio.EOF

    async def write(self, _message: bytes) -> None:
        pass


def desk(folder: Path | None) -> Desk:
    costs = Costs(busy_seconds=0.02, hold_seconds=0.02)
    lanes = [lane(name, promise_seconds=2.0, mean_prompt_tokens=500.0, value=1.0, costs=costs) for name in CLASSES]
    told = terms(*lanes, policy=timely(1e-4), engines=(engine("127.0.0.1:8000", budget_tokens=4096.0),))
    made = Desk(Gate(told), Meters(CollectorRegistry()), DecisionLog(folder))
    made.hear(reported=True)
    return made


def headers(number: int) -> bytes:
    """A request's headers as Envoy sends them."""
    message = messages.ProcessingRequest()
    given = {**COMMON_HEADERS, REQUEST_ID_HEADER: f"b0a1c2d3-e4f5-4a6b-8c7d-{number:012d}"}
    for name, value in given.items():
        field = message.request_headers.headers.headers.add()
        field.key, field.raw_value = name, value.encode()
    message.attributes["envoy.filters.http.ext_proc"].fields[ROUTE_ATTRIBUTE].string_value = "chat"
    return bytes(message.SerializeToString())


BODY = messages.ProcessingRequest(response_body={"body": b"data: one\n\n"}).SerializeToString()
parse = messages.ProcessingRequest.FromString


def least(stretch: Callable[[], int]) -> float:
    """CPU microseconds per request: the least of many stretches, each of which says how many requests it was."""
    found = []
    for _ in range(STRETCHES):
        began = time.process_time()
        number = stretch()
        found.append((time.process_time() - began) / number * 1e6)
    return min(found)


def whole(loop: asyncio.AbstractEventLoop, folder: Path | None) -> float:
    """A stream from its first message to its last, the message's bytes read before; some are written down at once."""
    front, numbers = desk(folder), count()
    handler = Processor(front, lambda route: route).service(_Details()).stream_unary

    async def streams() -> None:
        for one in [Stream(parse(headers(next(numbers))), parse(BODY)) for _ in range(STRETCH)]:
            await handler(None, one)
        front.close()

    async def timed() -> float:
        made = [Stream(parse(headers(next(numbers))), parse(BODY)) for _ in range(STRETCH)]
        began = time.process_time()
        for one in made:
            await handler(None, one)
        front.close()
        return (time.process_time() - began) / STRETCH * 1e6

    loop.run_until_complete(streams())
    return min(loop.run_until_complete(timed()) for _ in range(STRETCHES))


class _Details:
    method = METHOD


def reading() -> float:
    """Both messages of a stream, from bytes."""
    given = [headers(number) for number in range(STRETCH)]

    def stretch() -> int:
        for one in given:
            parse(one)
            parse(BODY)
        return STRETCH

    return least(stretch)


def deciding() -> float:
    """The machine alone: an arrival that starts at once, and its first token."""
    gate, numbers = desk(None).gate, count()

    def stretch() -> int:
        for number in [next(numbers) for _ in range(STRETCH)]:
            one = request(number, arrival=float(number))
            gate.on_arrival(one, float(number))
            gate.on_first_chunk(one, number + 0.5)
        return STRETCH

    return least(stretch)


def counting() -> float:
    """What metrics note of one request."""
    meters = Meters(CollectorRegistry())
    one = request(1)

    def stretch() -> int:
        for _ in range(STRETCH):
            meters.arrived(one)
            meters.started(one)
            meters.first_token(one, 0.5)
        return STRETCH

    return least(stretch)


def hearing() -> float:
    """The end of an answer, by the proxy's report, its bytes included."""
    front, numbers = desk(None), count()

    def stretches() -> Iterator[bytes]:
        while True:
            message = als_pb2.StreamAccessLogsMessage()
            for number in [next(numbers) for _ in range(ENTRIES)]:
                one = request(number, arrival=float(number))
                front.gate.on_arrival(one, float(number))
                front.gate.on_first_chunk(one, number + 0.5)
                entry = message.http_logs.log_entry.add()
                entry.CopyFrom(_entry(one.request_id))
            yield message.SerializeToString()

    reports = stretches()
    found = []
    for _ in range(STRETCHES):
        report = next(reports)
        began = time.process_time()
        front.answers_over(ends(als_pb2.StreamAccessLogsMessage.FromString(report)))
        found.append((time.process_time() - began) / ENTRIES * 1e6)
    return min(found)


def _entry(request_id: str) -> accesslog_pb2.HTTPAccessLogEntry:
    entry = accesslog_pb2.HTTPAccessLogEntry()
    entry.request.request_id = request_id
    entry.request.path, entry.request.authority = "/v1/completions", "x"
    address = entry.common_properties.upstream_remote_address.socket_address
    address.address, address.port_value = "127.0.0.1", 8000
    return entry


def main() -> None:
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory() as folder:
        logged, silent = whole(loop, Path(folder)), whole(loop, None)
    loop.close()
    parts = {"protobuf": reading(), "decisions": deciding(), "metrics": counting(), "reports of ends": hearing()}
    parts["decision log"] = logged - silent
    parts["headers and answers"] = silent - parts["decisions"] - parts["metrics"]
    sys.stdout.write(json.dumps(parts))


if __name__ == "__main__":
    main()
