"""What ``test_gate_behind_envoy_gateway`` runs inside namespaces of its own; prints what it saw as JSON.

One replica whose prefills the scenario ends one by one, two classes, and the whole chain
between: the operator plans and writes routes and policies, Envoy Gateway makes Envoy call the
gate, the gate follows plan and classes on the API server.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.control.fleets import PROFILE, fleet, workload
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import ControlPlane, wait_until
from tests.controlplane.crds import gateway_definitions
from tests.controlplane.envoy_gateway import LISTENER_PORT, EnvoyGateway, enter
from tests.controlplane.operator_process import OperatorProcess

from sluice.model.gate import GATE_PORT, PLAN_HEADER, gate_service

ROOT = Path(__file__).resolve().parents[2]
REPLICA_PORT = 9101
ADDRESS = "10.244.0.1"
"""EndpointSlices refuse loopback addresses; this one is made local to the namespace."""
GATE_HTTP_PORT = 9003
WAITING = 40
Sent = Future[int]


class Replica:
    """Holds every prompt until it is let go."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.plans: set[str] = set()
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

        server = ThreadingHTTPServer(("127.0.0.1", REPLICA_PORT), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()


def main(folder: Path) -> None:
    """Set up, ask, tell."""
    enter(folder, EnvoyGateway.certificates(folder))
    subprocess.run(["ip", "addr", "add", f"{ADDRESS}/16", "dev", "lo"], check=True)
    replica = Replica()
    plane = ControlPlane(folder)
    operator = OperatorProcess(folder, "operator", f"--kubeconfig={folder / 'kubeconfig-admin'}", "--namespace=default")
    gateway = EnvoyGateway(folder, plane)
    try:
        plane.start()
        admin = Admin(plane)
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            admin.apply_file(path)
        for definition in gateway_definitions():
            admin.apply(definition)
        gateway.start(admin)
        for document in declarations():
            admin.apply(document)
        # The gate first: Envoy asks a cluster without traffic for its health but once a minute.
        gate = plane.processes.start("gate", gate_command(folder / "kubeconfig-admin"))
        wait_until(lambda: bool(metrics()), "the gate answers", timeout_seconds=60)
        operator.start()
        sys.stdout.write(json.dumps(observe(admin, replica, operator, gate), indent=2))
    except Exception:
        logs = {"operator": operator.log, "envoy gateway": gateway.log, "gate": lambda: plane.processes.log("gate")}
        for name, log in logs.items():
            sys.stderr.write(f"--- {name}\n{_tail(log)}\n")
        raise
    finally:
        operator.kill()
        plane.stop()


def gate_command(kubeconfig: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "sluice",
        "gate",
        "--fleet=fleet",
        "--namespace=default",
        f"--kubeconfig={kubeconfig}",
        f"--listen=0.0.0.0:{GATE_PORT}",
        "--http-address=127.0.0.1",
        f"--http-port={GATE_HTTP_PORT}",
    ]


def declarations() -> list[dict[str, Any]]:
    """One pool of one replica behind the gate, and the paper's pair of classes."""
    pool = fleet()["spec"]["pools"][0] | {
        "endpoints": [{"address": "127.0.0.1", "port": REPLICA_PORT}],
        "backendRef": {"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "replica"},
        "decodePlacement": "SameReplica",
    }
    name = gate_service("fleet")
    return [
        {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "Backend",
            "metadata": {"name": "replica"},
            "spec": {"endpoints": [{"ip": {"address": "127.0.0.1", "port": REPLICA_PORT}}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"ports": [{"name": "grpc", "port": GATE_PORT, "appProtocol": "kubernetes.io/h2c"}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "grpc", "port": GATE_PORT, "protocol": "TCP"}],
            "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True}}],
        },
        dict(PROFILE),
        fleet(pools=[pool], dataPlane={"kind": "EnvoyGateway", "gate": "Enabled"}),
        workload("rationed", 300, 1000, patienceMilliseconds=60_000),
        workload("full", 3000, 400, 10, patienceMilliseconds=60_000),
    ]


def observe(admin: Admin, replica: Replica, operator: OperatorProcess, gate: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Ask through Envoy, and let the replica answer one by one."""
    admin.wait_for("InferenceFleet", "fleet", "Programmed", "True")
    pool = ThreadPoolExecutor(WAITING + 20)
    replica.permits.release(100_000)
    wait_until(lambda: ask("full", "warm") == 200, "a first answer through Envoy", timeout_seconds=60)
    wait_until(lambda: gated(pool), "requests are gated", timeout_seconds=60)
    wait_until(lambda: bool(planned()), "the gate has the plan", timeout_seconds=60)
    while replica.permits.acquire(blocking=False):
        pass
    replica.arrived.clear()
    replica.plans.clear()
    plan = planned()
    sent = send(
        pool,
        [
            ("rationed", "r1"),
            ("rationed", "r2"),
            ("rationed", "r3"),
            ("rationed", "r4"),
            ("full", "f1"),
            ("full", "f2"),
        ],
    )
    for count in range(3, 7):
        replica.permits.release()
        wait_until(partial(_has_started, replica, count), "one more prefill starts")
    order, most = list(replica.arrived), replica.most
    replica.permits.release(2)
    answers = [one.result(20) for one in sent]

    operator.kill()
    alone = send(pool, [("full", "after the operator")])
    replica.permits.release()
    after_operator = alone[0].result(20)

    replica.most = 0
    waiting = send(pool, [("full", f"w{number}") for number in range(WAITING)])
    held = replica.most
    killed_at = time.monotonic()
    gate.kill()
    wait_until(lambda: replica.held > held, "what waited is let through")
    passed = time.monotonic() - killed_at
    replica.permits.release(1000)
    lost = [status for status in (one.result(30) for one in waiting) if status != 200]
    return {
        "plan": plan,
        "plansSeen": sorted(replica.plans - {""}),
        "order": order,
        "answers": answers,
        "heldAtOnce": most,
        "afterOperator": after_operator,
        "lost": lost,
        "heldBeforeKill": held,
        "mostAfterKill": replica.most,
        "secondsToPass": passed,
        "policy": admin.get("EnvoyExtensionPolicy", "full")["status"]["ancestors"][0]["conditions"],
    }


def send(pool: ThreadPoolExecutor, requests: list[tuple[str, str]]) -> list[Sent]:
    """One after the other, each once the gate has seen the one before."""
    sent = []
    for name, tag in requests:
        before = seen()
        sent.append(pool.submit(ask, name, tag))
        wait_until(partial(_has_seen_more_than, before), "the gate sees the request")
    return sent


def _has_started(replica: Replica, count: int) -> bool:
    return len(replica.arrived) == count


def _has_seen_more_than(before: float) -> bool:
    return seen() > before


def gated(pool: ThreadPoolExecutor) -> bool:
    before = seen()
    return pool.submit(ask, "full", "probe").result(20) == 200 and seen() > before >= 0.0


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


def ask(name: str, tag: str) -> int:
    """One request of a class with a prompt of 600 tokens."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{LISTENER_PORT}/v1/completions",
        data=b"word" * 600,
        headers={"x-model": name, "x-tag": tag, "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - loopback
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def _tail(log: Any) -> str:
    try:
        return str(log())[-5000:]
    except OSError as error:
        return str(error)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
