"""Placement behind a real Envoy Gateway: the gate names the replica, and Envoy sends the request there."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.control.gate_client import REPLICA_ADDRESSES, Replica, ask, gated, metrics, run_pods, send
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import wait_until
from tests.controlplane.envoy_gateway import ADMIN_PORT
from tests.controlplane.operator_process import OperatorProcess

ALONE = 12
"""Requests that find everything idle: the gate names one replica for all of them, a balancer spreads them."""
TOGETHER = 4
OVERRIDE = "envoy.load_balancing_policies.override_host"


def place(
    admin: Admin, first: Replica, operator: OperatorProcess, start_gate: Callable[[str], object]
) -> dict[str, Any]:
    """A second replica, and the gate chooses."""
    second = Replica(REPLICA_ADDRESSES[1])
    run_pods(admin, *REPLICA_ADDRESSES)
    admin.edit("InferenceFleet", "fleet", {"spec": {"dataPlane": {"placement": "Gate"}}})
    operator.start()
    start_gate("third gate")
    for one in (first, second):
        one.let_go()
    wait_until(lambda: follows("full"), "Envoy follows the gate's choice", timeout_seconds=60)
    wait_until(gated, "requests are gated", timeout_seconds=90)
    wait_until(lambda: engines() == len(REPLICA_ADDRESSES), "the gate knows both replicas", timeout_seconds=60)
    for one in (first, second):
        one.hold()
        one.let_go(ALONE)
    answers = [ask("full", "alone") for _ in range(ALONE)]
    alone = seen(first, second)
    for one in (first, second):
        one.hold()
    sent = send(ThreadPoolExecutor(TOGETHER), [("full", f"t{number}") for number in range(TOGETHER)])
    wait_until(lambda: first.held + second.held == TOGETHER, "all are at the engines")
    together = seen(first, second)
    for one in (first, second):
        one.let_go()
    return {"answers": answers + [one.result(20) for one in sent], "alone": alone, "together": together}


def seen(*replicas: Replica) -> dict[str, list[str]]:
    """Who came where, and which replica the gate had named for it."""
    return {replica.address: list(replica.named) for replica in replicas}


def engines() -> int:
    """Replicas that the gate keeps accounts of."""
    return sum(name.startswith("sluice_gate_engine_unfinished_tokens") for name in metrics())


def follows(name: str) -> bool:
    """Whether Envoy's cluster of a class takes its replica from a header."""
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN_PORT}/config_dump", timeout=10) as answer:
        parts = json.load(answer)["configs"]
    clusters = [entry["cluster"] for part in parts for entry in part.get("dynamic_active_clusters", [])]
    return any(one["name"].startswith(f"httproute/default/{name}/") and OVERRIDE in json.dumps(one) for one in clusters)
