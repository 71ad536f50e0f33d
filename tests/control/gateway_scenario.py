"""What ``test_envoy_gateway`` runs inside namespaces of its own; prints what it saw as JSON.

Two pools of simulated replicas (one answers ``large``, one ``small``), two classes: one
planned in full, one rationed. All requests go through the real Envoy.
"""

from __future__ import annotations

import json
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.control.fleets import PROFILE, fleet, workload
from tests.control.gateway_stage import stage
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import wait_until
from tests.controlplane.envoy_gateway import LISTENER_PORT

FAIRNESS = "x-llm-d-inference-fairness-id"
PORTS = {"large": 9101, "small": 9102}
REQUESTS = 400
BURST = 40


def main(folder: Path) -> None:
    """Set up, ask, tell."""
    with stage(folder) as here:
        for name, port in PORTS.items():
            serve(name, port)
        here.operator.start()
        sys.stdout.write(json.dumps(observe(here.admin), indent=2))


def observe(admin: Admin) -> dict[str, Any]:
    """Declare, wait until Envoy serves, and ask."""
    for document in (*backends(), PROFILE, two_pools(), *classes()):
        admin.apply(document)
    admin.wait_for("InferenceFleet", "fleet", "Programmed", "True")
    wait_until(lambda: ask("full")[0] == 200, "a first answer through Envoy")
    wait_until(lambda: ask("rationed")[0] == 200, "a first answer for the rationed class")
    route = admin.get("HTTPRoute", "full")
    refs = route["spec"]["rules"][0]["backendRefs"]
    wait_until(lambda: limit_of(admin) is not None, "a limit")
    wait_until(lambda: 429 in burst("rationed"), "the limit is obeyed")
    wait_until(lambda: burst("rationed")[429] > BURST // 2, "the bucket is empty")
    seen = {
        "weights": {ref["name"]: ref["weight"] for ref in refs},
        "answers": Counter(ask("full")[1] for _ in range(REQUESTS)),
        "fairness": ask("full")[2],
        "limit": limit_of(admin),
        "burst": burst("rationed"),
        "full_burst": burst("full"),
        "unmatched": ask("nobody")[0],
        "policy": admin.get("BackendTrafficPolicy", "rationed")["status"]["ancestors"][0]["conditions"],
    }
    seen |= refuse(admin)
    admin.edit("InferenceFleet", "fleet", {"spec": {"mode": "Observe"}})
    wait_until(lambda: burst("rationed") == Counter({200: BURST}), "limits are lifted")
    admin.delete("WorkloadClass", "full")
    wait_until(lambda: ask("full")[0] == 404, "a deleted class has no route")
    return seen


def refuse(admin: Admin) -> dict[str, Any]:
    """Somebody else's policy has the same target and is older: the gateway refuses ours, until theirs goes."""
    ours = admin.get("BackendTrafficPolicy", "rationed")
    theirs = {
        "apiVersion": ours["apiVersion"],
        "kind": ours["kind"],
        "metadata": {"name": "a-stranger"},
        "spec": {"targetRefs": ours["spec"]["targetRefs"], "timeout": {"http": {"connectionIdleTimeout": "1h"}}},
    }
    stamp = admin.apply(theirs)["metadata"]["creationTimestamp"]
    # Age is counted in whole seconds: take ours away until it comes back younger than theirs.
    wait_until(lambda: is_younger(admin, stamp), "our policy is the younger one")
    refused = admin.wait_for("InferenceFleet", "fleet", "Programmed", "False")
    effective = admin.wait_for("InferenceFleet", "fleet", "Effective", "False")
    of_class = admin.wait_for("WorkloadClass", "rationed", "Programmed", "False")
    other = admin.condition("WorkloadClass", "full", "Effective")
    admin.delete("BackendTrafficPolicy", "a-stranger")
    healed = admin.wait_for("InferenceFleet", "fleet", "Programmed", "True")
    return {"refused": refused, "ineffective": effective, "of_class": of_class, "other": other, "healed": healed}


def is_younger(admin: Admin, stamp: str) -> bool:
    """Whether our policy was made after ``stamp``; if not, it is taken away, and the operator makes it anew."""
    ours = admin.find("BackendTrafficPolicy", "rationed")
    if ours is None:
        return False
    if str(ours["metadata"]["creationTimestamp"]) > stamp:
        return True
    admin.delete("BackendTrafficPolicy", "rationed")
    return False


def two_pools() -> dict[str, Any]:
    """Eight replicas and two, each pool behind one Backend."""
    pool = fleet()["spec"]["pools"][0]
    sizes = {"large": 8, "small": 2}
    pools = [
        pool
        | {
            "name": name,
            "endpoints": [{"address": "127.0.0.1", "port": 8000 + index} for index in range(size)],
            "backendRef": {"group": "gateway.envoyproxy.io", "kind": "Backend", "name": name},
        }
        for name, size in sizes.items()
    ]
    return fleet(pools=pools)


def classes() -> list[dict[str, Any]]:
    """The paper's pair: the decode-heavy one is rationed."""
    return [workload("rationed", 300, 1000), workload("full", 3000, 400)]


def backends() -> list[dict[str, Any]]:
    """Envoy Gateway's Backends take loopback addresses in host mode, which EndpointSlices refuse."""
    return [
        {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "Backend",
            "metadata": {"name": name},
            "spec": {"endpoints": [{"ip": {"address": "127.0.0.1", "port": port}}]},
        }
        for name, port in PORTS.items()
    ]


def limit_of(admin: Admin) -> dict[str, Any] | None:
    """The rate limit in the rationed class's policy."""
    policy = admin.find("BackendTrafficPolicy", "rationed") or {}
    rules = policy.get("spec", {}).get("rateLimit", {}).get("local", {}).get("rules", [])
    limit: dict[str, Any] | None = rules[0]["limit"] if rules else None
    return limit


def ask(model: str) -> tuple[int, str, str]:
    """One request of a class: status, which pool answered, and the fairness id that reached it."""
    request = urllib.request.Request(f"http://127.0.0.1:{LISTENER_PORT}/", headers={"x-model": model})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - loopback
            pool, _, fairness = answer.read().decode().partition(" ")
            return answer.status, pool, fairness
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "", ""
    except OSError:
        return 0, "", ""


def burst(model: str) -> Counter[int]:
    """Many requests at once: how many got which status."""
    with ThreadPoolExecutor(BURST) as pool:
        return Counter(status for status, _, _ in pool.map(ask, [model] * BURST))


def serve(name: str, port: int) -> None:
    """A replica that answers with its pool's name and the fairness header that it got."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"{name} {self.headers.get(FAIRNESS, '')}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
