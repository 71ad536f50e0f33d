"""Spans of waits: whose they are, what they say, and where they go."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from tests.unit.gate.worlds import lane, request, terms

from sluice.gate.decision_log import DecisionLog
from sluice.gate.desk import Desk
from sluice.gate.meters import Meters
from sluice.gate.request import Refused
from sluice.gate.state import Gate
from sluice.gate.tracing import KEPT, Tracer, sampled

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("header", "context"),
    [
        pytest.param(SAMPLED, (TRACE, PARENT), id="sampled"),
        pytest.param(f"01-{TRACE}-{PARENT}-03-more", (TRACE, PARENT), id="of a later version"),
        pytest.param(f"00-{TRACE}-{PARENT}-00", None, id="not sampled"),
        pytest.param("00-zz", None, id="malformed"),
        pytest.param("", None, id="absent"),
    ],
)
def test_only_what_its_caller_samples_is_traced(header: str, context: tuple[str, str] | None) -> None:
    assert sampled(header) == context


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        pytest.param({}, None, id="no collector"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces", id="a base"),
        pytest.param({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x"}, "http://c/x", id="its own address"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, None, id="switched off"),
    ],
)
def test_the_collector_is_named_as_everywhere(environment: dict[str, str], endpoint: str | None) -> None:
    tracer = Tracer.of(environment)
    assert (tracer.endpoint if tracer else None) == endpoint


def test_credentials_and_name_come_from_the_environment() -> None:
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_HEADERS": "a=b%20c, d=e"}
    tracer = Tracer.of({**given, "OTEL_SERVICE_NAME": "edge"})
    assert tracer
    assert (tracer.headers, tracer.service) == ({"a": "b c", "d": "e"}, "edge")


def desk_with(tracer: Tracer | None) -> Desk:
    closed = terms(lane("chat"), lane("shut"), closed=frozenset({"shut"}))
    desk = Desk(Gate(closed), Meters(CollectorRegistry()), DecisionLog(None))
    desk.tracer = tracer
    return desk


async def test_a_collector_hears_how_long_a_request_waited_and_what_became_of_it() -> None:
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def take(call: web.Request) -> web.Response:
        heard.put_nowait({"headers": call.headers, "document": await call.json()})
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    tracer = Tracer.of(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{runner.addresses[0][1]}",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-token=secret",
        }
    )
    assert tracer
    desk = desk_with(tracer)
    now = desk.clock()
    assert desk.arrive(request(1, arrival=now - 0.25, trace=SAMPLED)) is None
    assert desk.arrive(request(2, "shut", arrival=now, trace=SAMPLED)) is not None
    assert desk.arrive(request(3, arrival=now)) is None
    sending = asyncio.create_task(tracer.run())
    message = await heard.get()
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    await runner.cleanup()
    assert message["headers"]["x-token"] == "secret"
    (resource,) = message["document"]["resourceSpans"]
    assert resource["resource"]["attributes"] == [{"key": "service.name", "value": {"stringValue": "sluice-gate"}}]
    started, refused = resource["scopeSpans"][0]["spans"]
    assert (started["traceId"], started["parentSpanId"]) == (TRACE, PARENT)
    assert int(started["endTimeUnixNano"]) - int(started["startTimeUnixNano"]) >= 0
    facts = {entry["key"]: next(iter(entry["value"].values())) for entry in refused["attributes"]}
    assert (facts["sluice.class"], facts["sluice.outcome"]) == ("shut", Refused.CLASS_CLOSED.value)


def test_without_a_collector_nothing_is_kept_and_with_a_dead_one_not_more_than_a_bound() -> None:
    desk_with(None)._record(request(1, trace=SAMPLED), "Started")
    tracer = Tracer(endpoint="http://127.0.0.1:9/v1/traces")
    for number in range(KEPT + 10):
        tracer.add(request(number, trace=SAMPLED), "Started", 0.0, 1.0, "p")
    assert tracer.dropped == 10
