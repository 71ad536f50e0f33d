"""The external processor: Envoy's stream per request on one side, the desk on the other.

A stream brings the request's headers, and its answer is what lets the request go. Then it
brings the first chunk of the response body, and ends there with OK: Envoy carries the rest
by itself, so no token after the first passes through here, and no body is ever kept.

Reference: https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/ext_proc/v3/external_processor.proto
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
from envoy.type.v3 import http_status_pb2

from sluice.gate import wire
from sluice.gate.desk import Desk
from sluice.gate.keys import KeySource, bounded
from sluice.gate.lanes import Lane
from sluice.gate.request import Phase, Refusal, Request
from sluice.gate.retries import KEY_HEADER, RETRY_HEADERS, Attempts, number
from sluice.gate.tracing import TRACEPARENT
from sluice.model.gate import (
    ENDPOINT_HEADER,
    PLAN_HEADER,
    REFUSED_HEADER,
    REQUEST_ID_HEADER,
    ROUTE_ATTRIBUTE,
    WAITED_HEADER,
)

METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
UNGATED_PATHS = frozenset({"/health", "/ping", "/metrics", "/version", "/v1/models", "/load"})
"""Probes and listings: they start no prefill."""
_WANTED = frozenset({":method", ":path", "content-length", REQUEST_ID_HEADER, KEY_HEADER, *RETRY_HEADERS})
_UNBOUNDED = 2**31 - 1
_OVERWRITE = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD

Classify = Callable[[str], str | None]
"""Route name as the proxy says it -> class."""


class Processor(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc is untyped
    """Envoy's ExternalProcessor service."""

    def __init__(self, desk: Desk, classify: Classify, *, ungated: frozenset[str] = UNGATED_PATHS) -> None:
        self._desk = desk
        self._classify = classify
        self._ungated = ungated
        self._anonymous = 0
        self._attempts = Attempts()
        # A method with one answer, by which gRPC sends the last answer and the end of the stream in one batch of
        # work; the answers before it are written as they come. On the wire both are the same.
        self._handler = grpc.stream_unary_rpc_method_handler(
            self._process,
            request_deserializer=messages.ProcessingRequest.FromString,
            response_serializer=None,  # answers are built as bytes
        )

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """The method that Envoy calls per request."""
        return self._handler if details.method == METHOD else None

    async def _process(self, _requests: Any, context: grpc.aio.ServicerContext) -> bytes:
        """One request, from its headers to its first token; returns the last answer."""
        message = await context.read()
        if message is grpc.aio.EOF:
            return wire.NOTHING
        request = None if self._desk.killed else self._request(message)
        if request is None:
            if self._desk.killed:
                self._desk.meters.bypassed["KillSwitch"] += 1
            return wire.CONTINUE
        del message  # thousands may wait
        try:
            refusal = self._desk.arrive(request)
            if request.phase is Phase.WAITING:
                refusal = await self._desk.wait(request)
            if refusal is not None:
                return refused(refusal)
            await context.write(self._let_go(request))
            message = await context.read()
            if message is not grpc.aio.EOF and message.HasField("response_headers"):
                # Envoy Gateway sends them too; engines send headers before the first token.
                answer = wire.answer_with(self._marks(request), request.request_id)
                if message.response_headers.end_of_stream:
                    return answer
                await context.write(answer)
                message = await context.read()
            if message is grpc.aio.EOF:
                return wire.NOTHING
            self._desk.first_token(request)
            return wire.BODY_CONTINUE
        finally:
            self._desk.over(request)

    def _request(self, message: messages.ProcessingRequest) -> Request | None:
        """The request behind its headers; None where there is nothing to decide."""
        route = _route(message)
        name = self._classify(route) if route else None
        lane = None if name is None else self._desk.gate.lanes.get(name)
        terms = lane.terms if lane is not None else None
        fairness = terms.fairness if terms is not None else None
        affinity = terms.affinity if terms is not None else None
        wanted = _WANTED
        if fairness or affinity or self._desk.tracer is not None:
            wanted = _wanted(fairness, affinity, traced=self._desk.tracer is not None)
        headers = _headers(message, wanted)
        if headers.get(":method") != "POST" or headers.get(":path", "").partition("?")[0] in self._ungated:
            why = "NoPrefill"
        elif lane is None or terms is None:
            why = "UnknownClass" if route else "NoRouteName"
        else:
            why = ""
        if why or lane is None or terms is None:
            self._desk.meters.bypassed[why] += 1
            return None
        request_id = bounded(headers.get(REQUEST_ID_HEADER, "")) or self._own_id()
        metadata = message.metadata_context.filter_metadata
        return Request(
            request_id,
            terms.name,
            self._desk.clock(),
            prompt_tokens(headers.get("content-length"), lane, self._desk.gate.accounts.calibration.factor(terms.name)),
            key=fairness.read(headers, metadata) if fairness else "",
            affinity=affinity.read(headers, metadata) if affinity else "",
            attempt=self._attempts.of(headers),
            gated=is_gated(request_id, terms.enforced_permille),
            trace=bounded(headers.get(TRACEPARENT, "")),
        )

    def _own_id(self) -> str:
        self._anonymous += 1
        return f"gate-{self._anonymous}"

    def _marks(self, request: Request) -> tuple[tuple[str, str], ...]:
        """How long a request waited, and under which plan."""
        waited = str(max(0, round((request.started - request.arrival) * 1000.0)))
        return ((WAITED_HEADER, waited), (PLAN_HEADER, self._desk.gate.terms.plan_id or "none"))

    def _let_go(self, request: Request) -> bytes:
        marks, engine = self._marks(request), request.engine
        if request.placed and engine is not None:
            return wire.let_go((*marks, (ENDPOINT_HEADER, engine.terms.name)))
        return wire.let_go(marks, (ENDPOINT_HEADER,))


def _set(mutation: messages.HeaderMutation, fields: list[tuple[str, str]]) -> None:
    for name, value in fields:
        option = mutation.set_headers.add()
        option.header.key, option.header.raw_value = name, value.encode()
        option.append_action = _OVERWRITE


def refused(refusal: Refusal) -> bytes:
    """429 with a time to come back, in the words of the API that clients speak."""
    response = messages.ProcessingResponse()
    answer = response.immediate_response
    answer.status.code = http_status_pb2.TooManyRequests
    seconds = math.ceil(refusal.retry_after_seconds)
    fields = [
        ("retry-after", str(seconds)),
        ("content-type", "application/json"),
        (REFUSED_HEADER, refusal.reason.value),
        (REQUEST_ID_HEADER, refusal.request.request_id),
    ]
    _set(answer.headers, fields)
    text = f"The class {refusal.request.lane} is at its capacity ({refusal.reason.value}); retry after {seconds} s."
    body = {"error": {"message": text, "type": "rate_limit_error", "param": None, "code": refusal.reason.value}}
    answer.body = json.dumps(body).encode()
    answer.details = f"sluice_{refusal.reason.value}"
    return bytes(response.SerializeToString())


def prompt_tokens(content_length: str | None, lane: Lane, factor: float = 1.0) -> float:
    """The prompt's length from the body's, times ``factor``; the class's mean where none is declared."""
    declared = number(content_length)
    if declared is None:
        return lane.terms.mean_prompt_tokens
    return max(1.0, factor * declared / lane.terms.bytes_per_token)


def is_gated(request_id: str, permille: int) -> bool:
    """Whether a request is in the share that is gated: the same answer for the same id."""
    return permille >= 1000 or zlib.crc32(request_id.encode()) % 1000 < permille


@lru_cache(maxsize=1024)
def _wanted(fairness: KeySource | None, affinity: KeySource | None, *, traced: bool) -> frozenset[str]:
    """The headers that matter where a class has keys, or waits are traced."""
    keys = {source.header for source in (fairness, affinity) if source is not None and source.header}
    return _WANTED | keys | ({TRACEPARENT} if traced else set())


def _headers(message: messages.ProcessingRequest, wanted: frozenset[str]) -> dict[str, str]:
    """The few headers that matter here; the last one of a name counts."""
    found = {key: field for field in message.request_headers.headers.headers if (key := field.key) in wanted}
    return {key: field.raw_value.decode("utf-8", "replace") or field.value for key, field in found.items()}


def _route(message: messages.ProcessingRequest) -> str:
    """The route's name from the attributes that Envoy was asked to send."""
    groups = message.attributes
    for name in groups:
        if route := groups[name].fields[ROUTE_ATTRIBUTE].string_value:
            return str(route)
    return ""


async def serve(handlers: Iterable[grpc.GenericRpcHandler], address: str) -> tuple[grpc.aio.Server, int]:
    """Start serving on ``host:port`` (port 0: a free one); returns the server and its port."""
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.minimal_stack", 1),  # no filters for what Envoy does not ask for: 1.6 KiB less per stream
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 100),  # Envoy asks every second whether we live
            ("grpc.http2.max_ping_strikes", 0),
            ("grpc.max_receive_message_length", 1 << 20),  # headers and one chunk
            # By default gRPC cancels at random what a burst piles up beyond 1000, and what is cancelled passes ungated.
            ("grpc.server.max_pending_requests", _UNBOUNDED),
            ("grpc.server.max_pending_requests_hard_limit", _UNBOUNDED),
        ]
    )
    server.add_generic_rpc_handlers(tuple(handlers))
    port = server.add_insecure_port(address)
    await server.start()
    return server, port
