"""An operator that restarts under load, before anything can be measured again, leaves limits and plan as they are."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.control.fleets import PROFILE, fleet, gateway, two_classes
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import wait_until
from tests.controlplane.operator_process import OperatorProcess

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(300)]

LOAD = {"decode-heavy": 15.0, "prefill-heavy": 5.0}
"""Requests per second; three times the decode-heavy class's prior."""


class Counters:
    """A Prometheus that tells Envoy's counters of two classes, or that has just started and knows no series."""

    def __init__(self) -> None:
        self.rates: Mapping[str, float] = {}
        self.asked = 0
        counters = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                counters.asked += 1
                body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": counters.vector()}})
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_POST = do_GET  # noqa: N815 - the name is http.server's

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.namespace = ""

    def vector(self) -> list[dict[str, Any]]:
        """The total of every class, and when it was scraped; whatever is asked besides is not there."""
        now = time.time()
        return [
            {"metric": {"sluice_key": f"httproute/{self.namespace}/{name}/rule/0", "sluice_term": term}, "value": value}
            for name, rate in self.rates.items()
            for term, value in (("total", [now, str(rate)]), ("total@", [now, str(now)]))
        ]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def counters() -> Iterator[Counters]:
    made = Counters()
    yield made
    made.close()


def limits(admin: Admin) -> dict[str, Any]:
    return {item["metadata"]["name"]: item["spec"].get("rateLimit") for item in admin.all("BackendTrafficPolicy")}


def offered(admin: Admin) -> float:
    status = admin.get("WorkloadClass", "decode-heavy").get("status", {})
    return float(status.get("demand", {}).get("rate", {}).get("value", 0.0))


def degraded(admin: Admin) -> str:
    return str(admin.condition("InferenceFleet", "fleet", "Degraded").get("reason", ""))


def test_nothing_jumps(admin: Admin, operator: OperatorProcess, counters: Counters) -> None:
    counters.rates, counters.namespace = LOAD, admin.namespace
    metrics = {"prometheusUrl": counters.url, "timeoutSeconds": 2}
    for document in (PROFILE, gateway(), fleet(metrics=metrics), *two_classes()):
        admin.apply(document)
    wait_until(lambda: offered(admin) == LOAD["decode-heavy"], "the load is measured")
    wait_until(lambda: limits(admin).get("decode-heavy") is not None, "a limit")
    operator.wait_for_passes(8, "fleet", admin.namespace)
    before = limits(admin), admin.versions(["HTTPRoute", "BackendTrafficPolicy", "ConfigMap"])
    plan = admin.get("InferenceFleet", "fleet")["status"]["plan"]
    operator.stop()
    counters.rates = {}
    operator.start()
    operator.wait_for_passes(5, "fleet", admin.namespace)
    assert (limits(admin), admin.versions(["HTTPRoute", "BackendTrafficPolicy", "ConfigMap"])) == before
    assert admin.get("InferenceFleet", "fleet")["status"]["plan"] == plan
    assert degraded(admin) == "Held"
    asked = counters.asked
    counters.rates = LOAD
    wait_until(lambda: counters.asked > asked + 8, "it measures again")
    operator.wait_for_passes(3, "fleet", admin.namespace)
    assert limits(admin) == before[0]
    wait_until(lambda: degraded(admin) != "Held", "the plan follows demand again")
