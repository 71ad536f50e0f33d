"""A back end that answers at once, a client that costs little, and processors to compare the gate with.

python -m tests.benchmarks.gate_load noop     an external processor that only says yes
python -m tests.benchmarks.gate_load lean     the same with all that the gate does to make streams cheap
python -m tests.benchmarks.gate_load backend  answers every request with two bytes
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import grpc
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nok"
YES = messages.ProcessingResponse(request_headers=messages.HeadersResponse()).SerializeToString()
YES_BODY = messages.ProcessingResponse(response_body=messages.BodyResponse()).SerializeToString()


class Backend(asyncio.Protocol):
    """One request in, one answer out; requests come whole and small."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET"):
            self.transport.write(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n")
        elif b"\r\n\r\n" in data:
            self.transport.write(ANSWER)


class Noop(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc is untyped
    """The shape of the gate without a gate: headers, a yes, the first chunk, a yes, the end."""

    def service(self, details: Any) -> Any:
        assert details.method.endswith("/Process")
        return grpc.stream_stream_rpc_method_handler(
            self._process, request_deserializer=messages.ProcessingRequest.FromString, response_serializer=None
        )

    async def _process(self, _requests: Any, context: Any) -> None:
        await context.read()
        await context.write(YES)
        if (await context.read()) is not grpc.aio.EOF:
            await context.write(YES_BODY)


class Lean(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc is untyped
    """The same, with the last yes and the end in one batch."""

    def service(self, details: Any) -> Any:
        assert details.method.endswith("/Process")
        return grpc.stream_unary_rpc_method_handler(
            self._process, request_deserializer=messages.ProcessingRequest.FromString, response_serializer=None
        )

    async def _process(self, _requests: Any, context: Any) -> bytes:
        await context.read()
        await context.write(YES)
        await context.read()
        return bytes(YES_BODY)


async def serve(kind: str, port: int) -> None:
    if kind == "noop":
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Noop(),))
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
    elif kind == "lean":
        from sluice.gate.server import serve as gate_server  # noqa: PLC0415 - more than the others should load

        _, port = await gate_server((Lean(),), f"127.0.0.1:{port}")
    else:
        listening = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", port)
        port = listening.sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps({"port": port}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, request: bytes, times: int, latencies: list[float]) -> None:
        self.request, self.left, self.latencies = request, times, latencies
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._data = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self._ask()

    def _ask(self) -> None:
        self._data, self._sent = b"", time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        whole = self._data.endswith(b"0\r\n\r\n") or (
            b"content-length: 2\r\n" in self._data and self._data.endswith(b"\r\n\r\nok")
        )
        if not whole:
            return
        if not self._data.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(AssertionError(self._data[:200]))
            return
        self.latencies.append(time.perf_counter() - self._sent)
        self.left -= 1
        if self.left:
            self._ask()
        else:
            self.transport.close()
            self.done.set_result(None)


async def load(port: int, name: str, concurrency: int, requests: int) -> tuple[float, list[float]]:
    """Requests per second, and all latencies in seconds."""
    body = b'{"model":"model","prompt":"' + b"word" * 100 + b'"}'
    request = (
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nx-class: "
        + name.encode()
        + b"\r\ncontent-type: application/json\r\ncontent-length: "
        + str(len(body)).encode()
        + b"\r\n\r\n"
        + body
    )
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    clients = []
    for _ in range(concurrency):
        _, client = await loop.create_connection(
            lambda: Client(request, requests // concurrency, latencies), "127.0.0.1", port
        )
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    return len(latencies) / (time.perf_counter() - began), latencies


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
