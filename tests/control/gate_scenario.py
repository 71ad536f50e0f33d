"""What ``test_gate_behind_envoy_gateway`` runs inside namespaces of its own; prints what it saw as JSON.

One replica, a Pod of its own address, whose prefills the scenario ends one by one; two classes; and
the whole chain between: the operator plans and writes routes and policies, Envoy Gateway makes Envoy call the
gate, the gate follows plan and classes on the API server.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tests.control import gate_outages, gate_placement, gate_signals
from tests.control.fleets import PROFILE, fleet, workload
from tests.control.gate_client import (
    GATE_HTTP_PORT,
    REPLICA_ADDRESSES,
    REPLICA_PORT,
    REPLICAS,
    SERVICE_PORT,
    Replica,
    ask,
    endpoint_slice,
    gated,
    metrics,
    planned,
    run_pods,
    send,
    service,
)
from tests.control.gateway_stage import stage
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import wait_until
from tests.controlplane.operator_process import OperatorProcess

from sluice.model.gate import GATE_PORT, gate_service

ADDRESS = "10.244.0.1"
"""The gate's; the whole range is made local to the namespace."""
CLIENTS = 200


def main(folder: Path) -> None:
    """Set up, ask, tell."""
    with stage(folder, "gate") as here:
        admin, operator = here.admin, here.operator
        subprocess.run(["ip", "addr", "add", f"{ADDRESS}/16", "dev", "lo"], check=True)
        replica = Replica()
        for document in declarations():
            admin.apply(document)
        run_pods(admin, REPLICA_ADDRESSES[0])
        gate_signals.report_ends(admin)

        # The gate first: what finds none there passes, which the scenario's order would show.
        def start_gate(name: str) -> subprocess.Popen[bytes]:
            gate = here.plane.processes.start(name, gate_command(folder / "kubeconfig-admin"))
            wait_until(lambda: bool(metrics()), "the gate answers", timeout_seconds=60)
            return gate

        gate = start_gate("gate")
        operator.start()
        seen = observe(admin, replica)
        seen["signals"] = gate_signals.observe(admin, replica)
        seen["afterOperator"] = without_the_operator(replica, operator)
        # The operator is gone: everything that follows happens without it.
        seen["killed"] = gate_outages.kill(replica, gate)
        seen["stripped"] = gate_signals.strip(admin, replica)
        seen["frozen"] = gate_outages.freeze(replica, start_gate("second gate"))
        seen["placed"] = gate_placement.place(admin, replica, operator, start_gate)
        sys.stdout.write(json.dumps(seen, indent=2))


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
    pool = {name: value for name, value in fleet()["spec"]["pools"][0].items() if name != "endpoints"}
    pool |= {
        "podSelector": {"matchLabels": {"app": REPLICAS}},
        "backendRef": {"name": REPLICAS, "port": SERVICE_PORT},
        "decodePlacement": "SameReplica",
    }
    name = gate_service("fleet")
    return [
        service(REPLICAS, {"port": SERVICE_PORT, "targetPort": REPLICA_PORT}),
        service(name, {"name": "grpc", "port": GATE_PORT, "appProtocol": "kubernetes.io/h2c"}),
        endpoint_slice(name, GATE_PORT, ADDRESS, port_name="grpc"),
        dict(PROFILE),
        fleet(pools=[pool], dataPlane={"kind": "EnvoyGateway", "gate": "Enabled"}),
        workload("rationed", 300, 1000, patienceMilliseconds=60_000),
        workload("full", 3000, 400, 10, patienceMilliseconds=60_000),
    ]


def observe(admin: Admin, replica: Replica) -> dict[str, Any]:
    """Ask through Envoy, and let the replica answer one by one."""
    admin.wait_for("InferenceFleet", "fleet", "Programmed", "True")
    pool = ThreadPoolExecutor(CLIENTS)
    replica.let_go()
    wait_until(lambda: ask("full", "warm") == 200, "a first answer through Envoy", timeout_seconds=60)
    wait_until(gated, "requests are gated", timeout_seconds=60)
    wait_until(lambda: bool(planned()), "the gate has the plan", timeout_seconds=60)
    replica.hold()
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
        replica.let_go(1)
        wait_until(partial(_has_started, replica, count), "one more prefill starts")
    order, most, plans = list(replica.arrived), replica.most, sorted(replica.plans - {""})
    replica.let_go(2)
    answers = [one.result(20) for one in sent]
    return {
        "plan": plan,
        "plansSeen": plans,
        "order": order,
        "answers": answers,
        "heldAtOnce": most,
        "policy": admin.get("EnvoyExtensionPolicy", "full")["status"]["ancestors"][0]["conditions"],
    }


def without_the_operator(replica: Replica, operator: OperatorProcess) -> int:
    """End the operator; the status of a request afterwards."""
    operator.kill()
    replica.hold()
    (alone,) = send(ThreadPoolExecutor(1), [("full", "after the operator")])
    replica.let_go(1)
    return alone.result(20)


def _has_started(replica: Replica, count: int) -> bool:
    return len(replica.arrived) == count


if __name__ == "__main__":
    main(Path(sys.argv[1]))
