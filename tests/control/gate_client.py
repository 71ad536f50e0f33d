"""The scenario's replica, whose prefills end when it is told to, and its clients, who ask through Envoy."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.controlplane.admin import Admin
from tests.controlplane.cluster import wait_until
from tests.controlplane.envoy_gateway import LISTENER_PORT

from sluice.model.gate import ENDPOINT_HEADER, PLAN_HEADER

REPLICA_ADDRESSES = ("10.244.0.2", "10.244.0.3")
"""EndpointSlices refuse loopback addresses; these are made local to the scenario's namespace."""
REPLICA_PORT = 9101
SERVICE_PORT = 8000
REPLICAS = "replica"
"""The Service, and the label of its Pods."""
GATE_HTTP_PORT = 9003
PROMPT = b"word" * 600
NO_HEADERS: Mapping[str, str] = {}
Sent = Future[int]


class Replica:
    """Holds every prompt until it is let go."""

    def __init__(self, ip: str = REPLICA_ADDRESSES[0]) -> None:
        self.address = f"{ip}:{REPLICA_PORT}"
        self.arrived: list[str] = []
        self.plans: set[str] = set()
        self.named: list[str] = []
        """The replica that the gate named for each request that came here."""
        self.held = 0
        self.most = 0
        self.permits = threading.Semaphore(0)
        self._lock = threading.Lock()
        replica = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                with replica._lock:
                    replica.arrived.append(self.headers.get("x-tag", ""))
                    replica.plans.add(self.headers.get(PLAN_HEADER, ""))
                    replica.named.append(self.headers.get(ENDPOINT_HEADER, ""))
                    replica.held += 1
                    replica.most = max(replica.most, replica.held)
                replica.permits.acquire()
                with replica._lock:
                    replica.held -= 1
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer((ip, REPLICA_PORT), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def let_go(self, count: int = 100_000) -> None:
        """Finish ``count`` prefills, those to come included."""
        self.permits.release(count)

    def hold(self) -> None:
        """From now on every prompt is held; what was seen is forgotten."""
        while self.permits.acquire(blocking=False):
            pass
        self.arrived.clear()
        self.plans.clear()
        self.named.clear()
        self.most = 0


def run_pods(admin: Admin, *addresses: str) -> None:
    """Ready Pods at ``addresses``, and the Service's slice of them: what kubelet and controllers would write."""
    for number, address in enumerate(addresses):
        name, port = f"{REPLICAS}-{number}", {"containerPort": REPLICA_PORT}
        metadata = {"name": name, "labels": {"app": REPLICAS}}
        spec = {"containers": [{"name": "engine", "image": "engine", "ports": [port]}]}
        admin.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        status = {"podIP": address, "podIPs": [{"ip": address}], "conditions": [{"type": "Ready", "status": "True"}]}
        admin.edit_status("Pod", name, {"status": status})
    admin.apply(endpoint_slice(REPLICAS, REPLICA_PORT, *addresses))


def service(name: str, port: Mapping[str, Any]) -> dict[str, Any]:
    """A Service of one port; who stands behind it is told by its slice."""
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [dict(port)]}}


def endpoint_slice(name: str, port: int, *addresses: str, port_name: str = "") -> dict[str, Any]:
    """The one slice of the Service of that name."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }


def send(pool: ThreadPoolExecutor, requests: list[tuple[str, str]]) -> list[Sent]:
    """One after the other, each once the gate has seen the one before."""
    sent = []
    for name, tag in requests:
        before = seen()
        sent.append(pool.submit(ask, name, tag))
        wait_until(partial(_has_seen_more_than, before), "the gate sees the request")
    return sent


def _has_seen_more_than(before: float) -> bool:
    return seen() > before


def gated() -> bool:
    """Whether the gate sees a request that is answered."""
    before = seen()
    return ask("full", "probe") == 200 and seen() > before >= 0.0


def metrics() -> dict[str, float]:
    """The gate's own metrics; empty while it is not there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{GATE_HTTP_PORT}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def seen() -> float:
    """Requests the gate has seen."""
    return sum(value for name, value in metrics().items() if name.startswith("sluice_gate_requests_total"))


def planned() -> str:
    """Id of the plan that the gate goes by."""
    for name in metrics():
        if name.startswith('sluice_gate_plan_info{fresh="true"'):
            return name.split('plan_id="')[1].split('"')[0]
    return ""


def ask(name: str, tag: str, prompt: bytes = PROMPT, headers: Mapping[str, str] = NO_HEADERS) -> int:
    """The answer's status for one request of a class; 0 where there was none."""
    return asked(name, tag, prompt, headers)[0]


def asked(
    name: str, tag: str, prompt: bytes = PROMPT, headers: Mapping[str, str] = NO_HEADERS
) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{LISTENER_PORT}/v1/completions",
        data=prompt,
        headers={"x-model": name, "x-tag": tag, "content-type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - loopback
            answer.read()
            return int(answer.status), {key.lower(): value for key, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {key.lower(): value for key, value in error.headers.items()}
    except OSError:
        return 0, {}
