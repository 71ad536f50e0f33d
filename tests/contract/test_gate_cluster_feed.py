"""The gate's feed against a real API server: what is there, what changes, and what happens while the server is away."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml
from tests.contract.gate_world import manifests, replica_settings
from tests.contract.test_gate import plan_document
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.programs import find

from sluice.actuate.kubernetes_api import APPLY, ClientApi
from sluice.api.manifests import Manifests, read
from sluice.gate.assembly import may_hold
from sluice.gate.cluster_feed import Access, ClusterFeed
from sluice.gate.feed import World
from sluice.gate.lease import Lease
from sluice.model.plan import Plan

pytestmark = pytest.mark.controlplane
ROOT = Path(__file__).resolve().parents[2]
PLURALS = {
    "IterationProfile": "iterationprofiles",
    "InferenceFleet": "inferencefleets",
    "WorkloadClass": "workloadclasses",
}
NAMESPACE = "/namespaces/default"


@dataclass
class Server:
    """A real API server with our kinds."""

    plane: ControlPlane
    configuration: kubernetes.client.Configuration = field(init=False)

    def __post_init__(self) -> None:
        self.configuration = kubernetes.client.Configuration(
            host=self.plane.url,
            ssl_ca_cert=str(self.plane.certificate),
            api_key={"BearerToken": self.plane.admin_token},
            api_key_prefix={"BearerToken": "Bearer"},
        )
        self.api = ClientApi(kubernetes.client.ApiClient(self.configuration))

    def apply(self, path: str, document: dict[str, Any]) -> bool:
        query = {"fieldManager": "test", "force": "true"}
        return self.api.send("PATCH", path, query=query, body=document, content_type=APPLY).fine

    def apply_resource(self, document: dict[str, Any]) -> bool:
        plural = PLURALS[document["kind"]]
        return self.apply(f"/apis/sluice.dev/v1alpha1{NAMESPACE}/{plural}/{document['metadata']['name']}", document)

    def delete_resource(self, document: dict[str, Any]) -> None:
        path = f"/apis/sluice.dev/v1alpha1{NAMESPACE}/{PLURALS[document['kind']]}/{document['metadata']['name']}"
        assert self.api.send("DELETE", path).fine

    def lease_version(self) -> str:
        """Another one after every renewal."""
        path = f"/apis/coordination.k8s.io/v1{NAMESPACE}/leases/fleet-gate"
        return str(self.api.send("GET", path).document["metadata"]["resourceVersion"])

    def renewed_since(self, version: str) -> bool:
        """Whether the lease was renewed since it had that version."""
        return self.lease_version() != version

    def apply_plan(self, order: dict[str, float], plan_id: str) -> None:
        text = plan_document(order).replace("plan-two", plan_id)
        document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "fleet-plan"},
            "data": {"plan.json": text},
        }
        assert self.apply(f"/api/v1{NAMESPACE}/configmaps/fleet-plan", document)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if find("kube-apiserver") is None or find("etcd") is None:
        pytest.skip("needs a real kube-apiserver: run make controlplane")
    plane = ControlPlane(tmp_path_factory.mktemp("plane"))
    plane.start()
    try:
        server = Server(plane)
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            document = yaml.safe_load(path.read_text())
            name = document["metadata"]["name"]
            assert server.apply(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}", document)
        yield server
    finally:
        plane.stop()


async def settled(probe: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 20.0
    while not probe():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.002)


async def test_a_standby_takes_over_within_three_seconds(server: Server) -> None:
    access = Access(configuration=server.configuration, namespace="default")
    active, standby = (Lease(access=access, name="fleet-gate", identity=name) for name in ("one", "two"))
    first = asyncio.create_task(active.run())
    second: asyncio.Task[None] | None = None
    try:
        await settled(lambda: active.is_held, "the first takes the lease")
        second = asyncio.create_task(standby.run())
        for _ in range(3):
            await settled(partial(server.renewed_since, server.lease_version()), "the first renews it beside it")
        assert active.is_held
        assert not standby.is_held, "one of them at a time"
        first.cancel()
        began = time.monotonic()
        await settled(lambda: standby.is_held, "the second takes over")
        assert time.monotonic() - began < 3.0
    finally:
        for task in (first, second):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def test_the_feed_follows_objects_and_plans(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []

    def judge(document: Any, origin: str) -> Manifests:
        judged.append(document["metadata"]["name"])
        return read(document, origin)

    monkeypatch.setattr("sluice.gate.cluster_feed.read", judge)
    text = manifests([8000], 10000, 9901, 9002, {"chat": {}, "code": {}}, "Enabled", replica_settings(1))
    documents = [json.loads(one) for one in text.split("---\n")]
    await settled(lambda: all(server.apply_resource(one) for one in documents), "our kinds are served")
    worlds: list[World] = []
    plans: list[Plan] = []
    problems: list[str] = []
    feed = ClusterFeed(
        access=Access(configuration=server.configuration, namespace="default"),
        fleet_name="fleet",
        take_world=worlds.append,
        take_plan=plans.append,
        problem=problems.append,
    )
    following = asyncio.create_task(feed.run())
    try:
        await settled(lambda: worlds, "the fleet is seen")
        assert [one.name for one in worlds[-1].classes] == ["chat", "code"]

        judged.clear()
        written = time.monotonic()
        await asyncio.to_thread(server.apply_plan, {"chat": 2.0, "code": 1.0}, "first")
        await settled(lambda: plans, "the plan is seen")
        assert plans[-1].plan_id == "first"
        assert time.monotonic() - written < 1.0, "the figure is in tests/benchmarks"
        assert judged == [], "a plan comes without another look at the objects"

        third = {**documents[-1], "metadata": {"name": "late"}}
        third["spec"] = {**third["spec"], "match": {"headers": [{"name": "x-class", "value": "late"}]}}
        assert await asyncio.to_thread(server.apply_resource, third)
        await settled(lambda: "late" in [one.name for one in worlds[-1].classes], "the new class is seen")
        assert judged == ["late"], "what did not change is not read again"

        await asyncio.to_thread(
            server.apply,
            f"/api/v1{NAMESPACE}/configmaps/fleet-plan",
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "fleet-plan"},
                "data": {"plan.json": "{"},
            },
        )
        await settled(lambda: problems, "the malformed plan is counted")
        assert plans[-1].plan_id == "first", "and the one before stays"

        law, fleet = documents[:2]
        await asyncio.to_thread(server.delete_resource, law)
        assert may_hold(worlds[-1].fleet)
        observing = {**fleet, "spec": {**fleet["spec"], "mode": "Observe"}}
        assert await asyncio.to_thread(server.apply_resource, observing)
        await settled(lambda: not may_hold(worlds[-1].fleet), "a fleet that does not resolve can leave Enforce")
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
