"""A span for the wait of every traced request, sent to an OpenTelemetry collector where one is configured.

The collector is named as everywhere: ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``, or
``OTEL_EXPORTER_OTLP_ENDPOINT`` and ``/v1/traces`` below it. Spans are children of the request's own
``traceparent``; a request without one, or one that its caller did not sample, costs nothing and
gets none. Spans are gathered and sent once a second; what a collector does not take is dropped.

Written as OTLP/HTTP with JSON, one of the three encodings that every collector takes: the exporters
of OpenTelemetry's own packages bring their messages in a folder that ``xds-protos``, which the gate
needs for Envoy, fills with older ones of the same names.

References: https://opentelemetry.io/docs/specs/otlp/#otlphttp, https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import aiohttp

from sluice.gate.request import Request

TRACEPARENT = "traceparent"
SEND_SECONDS = 1.0
TIMEOUT_SECONDS = 5.0
BATCH = 512
KEPT = 8192
"""Spans that wait for the collector at most."""
_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 0x01
_INTERNAL = 1
_NANOSECONDS = 1e9


@dataclass(slots=True, kw_only=True)
class Tracer:
    """Keeps spans until they are sent."""

    endpoint: str
    """Where spans are posted."""
    headers: Mapping[str, str] = field(default_factory=dict)
    service: str = "sluice-gate"
    dropped: int = 0
    """Spans that no collector took."""
    _spans: deque[dict[str, Any]] = field(default_factory=deque)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Tracer | None:
        """The tracer that the environment asks for; None where it asks for none."""
        endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
        if not endpoint and (base := environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")):
            endpoint = base.rstrip("/") + "/v1/traces"
        if not endpoint or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return None
        pairs = (entry.partition("=") for entry in environment.get("OTEL_EXPORTER_OTLP_HEADERS", "").split(","))
        return cls(
            endpoint=endpoint,
            headers={name.strip(): unquote(value.strip()) for name, _, value in pairs if name.strip()},
            service=environment.get("OTEL_SERVICE_NAME", "") or "sluice-gate",
        )

    def add(self, request: Request, outcome: str, waited_seconds: float, wall: float, plan: str) -> None:
        """The wait of ``request`` is over at ``wall`` (seconds since the epoch)."""
        context = sampled(request.trace)
        if context is None:
            return
        if len(self._spans) >= KEPT:
            self.dropped += 1
            return
        trace, parent = context
        facts = {
            "sluice.class": request.lane,
            "sluice.outcome": outcome,
            "sluice.plan": plan,
            "sluice.late": request.late,
            "sluice.prompt_tokens": round(request.prompt_tokens),
            "sluice.attempt": request.attempt,
            "sluice.request_id": request.request_id,
        }
        if request.engine is not None:
            facts["sluice.engine"] = request.engine.terms.name
        self._spans.append(
            {
                "traceId": trace,
                "spanId": os.urandom(8).hex(),
                "parentSpanId": parent,
                "name": "wait for a prefill",
                "kind": _INTERNAL,
                "startTimeUnixNano": str(round((wall - max(0.0, waited_seconds)) * _NANOSECONDS)),
                "endTimeUnixNano": str(round(wall * _NANOSECONDS)),
                "attributes": [_attribute(name, value) for name, value in facts.items()],
            }
        )

    async def run(self) -> None:
        """Send, for ever."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, headers=dict(self.headers)) as session:
            while True:
                await asyncio.sleep(SEND_SECONDS)
                while self._spans:
                    await self._send(session)

    async def _send(self, session: aiohttp.ClientSession) -> None:
        batch = [self._spans.popleft() for _ in range(min(BATCH, len(self._spans)))]
        document = {
            "resourceSpans": [
                {
                    "resource": {"attributes": [_attribute("service.name", self.service)]},
                    "scopeSpans": [{"scope": {"name": "sluice.gate"}, "spans": batch}],
                }
            ]
        }
        try:
            async with session.post(self.endpoint, json=document) as answer:
                if not answer.ok:
                    self.dropped += len(batch)
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.dropped += len(batch)


def sampled(traceparent: str) -> tuple[str, str] | None:
    """(trace id, parent's span id) of a request that its caller samples; None of any other."""
    found = _PARENT.fullmatch(traceparent)
    if found is None or not int(found[3], 16) & _SAMPLED:
        return None
    return found[1], found[2]


def _attribute(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": name, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": name, "value": {"intValue": str(value)}}
    return {"key": name, "value": {"stringValue": str(value)}}
