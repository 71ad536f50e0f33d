"""The proxy's access log as a stream: the end of every answer that the gate let begin.

Envoy gathers entries for ``model.gate.REPORT_SECONDS`` in a buffer of bounded size and sends them to
the gate's own port. While a stream is open, ends are known; without one the engines' gauges serve.
Nothing is asked of the proxy for a request's sake: an entry that is lost is healed by the next
reading.

Reference: https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/accesslog/v3/als.proto
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
from envoy.service.accesslog.v3 import als_pb2 as messages

from sluice.gate.desk import Desk
from sluice.gate.keys import bounded

METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"


class AccessLogs(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc is untyped
    """Envoy's AccessLogService."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._streams: set[asyncio.Task[Any]] = set()
        """One per worker thread of every proxy."""
        self._handler = grpc.stream_unary_rpc_method_handler(
            self._listen,
            request_deserializer=messages.StreamAccessLogsMessage.FromString,
            response_serializer=None,  # the answer is empty
        )

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """The one method."""
        return self._handler if details.method == METHOD else None

    async def _listen(self, _requests: Any, context: grpc.aio.ServicerContext) -> bytes:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a handler runs as a task")
        self._streams.add(task)
        self._desk.hear(reported=True)
        try:
            while (message := await context.read()) is not grpc.aio.EOF:
                self._desk.answers_over(ends(message))
        finally:
            self._streams.discard(task)
            if not self._streams:
                self._desk.hear(reported=False)
        return b""

    def close(self) -> None:
        """End the streams, which would not end by themselves."""
        for task in list(self._streams):
            task.cancel()


def ends(message: messages.StreamAccessLogsMessage) -> Iterator[tuple[str, str]]:
    """(request id, ``address:port`` of the replica, empty where none was reached) of every entry."""
    for entry in message.http_logs.log_entry:
        at = entry.common_properties.upstream_remote_address.socket_address
        yield bounded(entry.request.request_id), f"{at.address}:{at.port_value}" if at.address else ""
