"""The classes of the tests, and the servers that an Envoy sends to and a Prometheus scrapes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, TypeVar

from tests import values
from tests.values import ttft_promise

from sluice.model import naming
from sluice.model.fleet import WorkloadClass

T = TypeVar("T")
NAMESPACE = "default"
PATIENCE_SECONDS = 15.0
SCRAPE = "200ms"
PROMISE_SECONDS = 0.3
LAYER = "sluice"


def until(told: Callable[[], T | None], what: str) -> T:
    """Ask again until there is an answer."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = threading.Event()
    while time.monotonic() < deadline:
        if answer := told():
            return answer
        pause.wait(0.02)
    raise AssertionError(f"waited in vain for {what}")


def workload(name: str, model: str | None = None) -> WorkloadClass:
    return values.workload(name, served_model_name=model, fairness_id=name, slis=(ttft_promise(PROMISE_SECONDS),))


CLASSES = (
    workload("chat", "model-vllm"),
    workload("code", "model-sglang"),
    workload("retried"),
    workload("pending"),
    workload("empty"),
    workload("down"),
    workload("idle"),
)


def cluster(name: str) -> str:
    return naming.files_cluster(NAMESPACE, name)


DOOMED = workload("doomed")


class Doomed(BaseHTTPRequestHandler):
    """An endpoint picker that will go away."""

    def do_GET(self) -> None:
        body = b'llm_d_epp_request_total{fairness_id="doomed"} 7\n'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[ThreadingHTTPServer]:
    """A local server in threads of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Exporter:
    """Counters of engines and of an endpoint picker that grow by the same step at every scrape."""

    STEP: ClassVar[Mapping[str, float]] = {
        'vllm:request_success_total{model_name="model-vllm",finished_reason="stop"}': 1,
        'vllm:request_prompt_tokens_sum{model_name="model-vllm"}': 200,
        'vllm:request_prompt_tokens_count{model_name="model-vllm"}': 1,
        'vllm:time_to_first_token_seconds_sum{model_name="model-vllm"}': 4.0,
        'vllm:time_to_first_token_seconds_count{model_name="model-vllm"}': 10,
        'vllm:time_to_first_token_seconds_bucket{model_name="model-vllm",le="0.1"}': 2,
        'vllm:time_to_first_token_seconds_bucket{model_name="model-vllm",le="0.5"}': 6,
        'vllm:time_to_first_token_seconds_bucket{model_name="model-vllm",le="+Inf"}': 10,
        'vllm:inter_token_latency_seconds_sum{model_name="model-vllm"}': 1.0,
        'vllm:inter_token_latency_seconds_count{model_name="model-vllm"}': 50,
        'sglang:num_requests_total{model_name="model-sglang"}': 2,
        'sglang:prompt_tokens_total{model_name="model-sglang"}': 600,
        'sglang:cached_tokens_total{model_name="model-sglang",cache_source="device"}': 200,
        'sglang:generation_tokens_total{model_name="model-sglang"}': 0,
        'llm_d_epp_request_output_tokens_sum{fairness_id="chat",model_name="m"}': 90,
        'llm_d_epp_request_output_tokens_count{fairness_id="chat",model_name="m"}': 1,
        'llm_d_epp_request_ttft_seconds_sum{fairness_id="code",streaming="true"}': 0.5,
        'llm_d_epp_request_ttft_seconds_count{fairness_id="code",streaming="true"}': 1,
        'llm_d_epp_request_ttft_seconds_sum{fairness_id="code",streaming="false"}': 99,
        'llm_d_epp_request_ttft_seconds_count{fairness_id="code",streaming="false"}': 1,
        'llm_d_epp_request_output_tokens_sum{fairness_id="idle"}': 0,
        'llm_d_epp_request_output_tokens_count{fairness_id="idle"}': 0,
    }

    def __init__(self) -> None:
        self._scrapes = 0

    def page(self) -> str:
        self._scrapes += 1
        return "".join(f"{name} {self._scrapes * step}\n" for name, step in self.STEP.items())


class Backend(BaseHTTPRequestHandler):
    """Answers at once, holds (``/hold``), fails (``/fail``) or exports (``/metrics``)."""

    protocol_version = "HTTP/1.1"
    released: ClassVar[threading.Event] = threading.Event()
    exporter: ClassVar[Exporter] = Exporter()

    def do_GET(self) -> None:
        if self.path == "/hold":
            self.released.wait(PATIENCE_SECONDS)
        body = self.exporter.page().encode() if self.path == "/metrics" else b"ok"
        self.send_response(503 if self.path == "/fail" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""
