"""The plan's order as priorities of llm-d's flow control."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.actuate.fake_server import FakeServer
from tests.unit.actuate.fleets import fleet, pool, target, workload
from tests.unit.gate.test_edges import planned

from sluice.actuate import leftovers
from sluice.actuate.inference_objectives import HEADERS, KINDS, objectives, priorities
from sluice.actuate.kubernetes_apply import KubernetesActuator
from sluice.actuate.port import Order
from sluice.model.decision import Targets
from sluice.model.fleet import BackendRef, DataPlaneKind
from sluice.model.plan import Band, Plan

PICKED = BackendRef(
    group="inference.networking.k8s.io", kind="InferencePool", name="engines", namespace=None, port=None
)
PLAN = Plan.model_validate_json(
    planned(
        batch={"band": Band.IDLE_ONLY, "index": 9.0},
        chat={"band": Band.FULL, "index": 1.0},
        code={"band": Band.FULL, "index": 3.0},
        draft={"band": Band.RATIONED, "index": 5.0},
    )
)


def order(group: str | None = "llm-d.ai", plan: Plan | None = PLAN) -> Order:
    picked = fleet(DataPlaneKind.ENVOY_GATEWAY, pools=(pool("fast", backend=PICKED),))
    picked = replace(picked, data_plane=replace(picked.data_plane, objective_group=group))
    names = ("chat", "code", "batch")
    return Order(
        fleet=picked,
        classes=tuple(workload(name) for name in names),
        targets=Targets(plan_id="p", classes=tuple(target(name, weights=(("fast", 1000),)) for name in names)),
        plan=plan,
    )


def test_bands_go_before_each_other_and_the_index_decides_inside() -> None:
    ranked = priorities(PLAN)
    assert sorted(ranked, key=lambda name: -ranked[name]) == ["code", "chat", "draft", "batch"]
    assert min(ranked.values()) == 0, "below zero the picker sheds"


@pytest.mark.parametrize("group", sorted(KINDS))
def test_each_class_has_an_objective_of_the_picked_pool(group: str) -> None:
    documents = objectives(order(group))
    assert {one["apiVersion"] for one in documents} == {f"{group}/v1alpha2"}
    assert {one["metadata"]["name"]: one["spec"]["priority"] for one in documents} == {"code": 3, "chat": 2, "batch": 0}
    reference = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "engines"}
    assert all(one["spec"]["poolRef"] == reference for one in documents)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"group": None}, id="the fleet does not ask for them"),
        pytest.param({"plan": None}, id="there is no plan yet"),
    ],
)
def test_there_are_none_where_nothing_orders(given: dict[str, Any]) -> None:
    assert objectives(order(**given)) == ()


def test_they_are_applied_once_follow_the_plan_and_go_with_their_class() -> None:
    server = FakeServer()
    actuator = KubernetesActuator(server)
    assert not actuator.act(order()).problems
    assert set(server.of("InferenceObjective")) == {"chat", "code", "batch"}
    (rule,) = server.of("HTTPRoute")["chat"]["spec"]["rules"]
    assert {"name": HEADERS["llm-d.ai"], "value": "chat"} in rule["filters"][0]["requestHeaderModifier"]["set"]
    before = server.version
    actuator.act(order())
    assert server.version == before, "what is as desired is not sent"
    chat_first = Plan.model_validate_json(
        planned(chat={"band": Band.FULL, "index": 9.0}, code={"band": Band.FULL, "index": 3.0}, batch={})
    )
    less = order(plan=chat_first)
    less = replace(less, classes=less.classes[:2], targets=replace(less.targets, classes=less.targets.classes[:2]))
    actuator.act(less)
    held = {name: one["spec"]["priority"] for name, one in server.of("InferenceObjective").items()}
    assert held.keys() == {"chat", "code"}
    assert held["chat"] > held["code"]


@pytest.mark.parametrize("group", [None, "inference.networking.x-k8s.io"])
def test_they_go_when_the_fleet_asks_for_none_or_for_another_groups(group: str | None) -> None:
    server = FakeServer()
    actuator = KubernetesActuator(server)
    actuator.act(order())
    assert "InferenceObjective/chat" in actuator.preview(order(group))
    receipt = actuator.act(order(group))
    assert not receipt.problems
    assert {name.rpartition("/")[2] for name in receipt.removed} == {"chat", "code", "batch"}
    left = {one["apiVersion"] for one in server.of("InferenceObjective").values()}
    assert left == ({f"{group}/v1alpha2"} if group else set())
    (rule,) = server.of("HTTPRoute")["chat"]["spec"]["rules"]
    named = {entry["name"] for entry in rule["filters"][0]["requestHeaderModifier"]["set"]}
    assert named.isdisjoint(HEADERS.values()) if group is None else HEADERS[group] in named
    actuator.act(order(group))
    server.listed.clear()
    actuator.act(order(group))
    llm_d = KINDS["llm-d.ai"].collection("demo")
    assert llm_d not in server.listed, "nobody is asked again for what is known to be gone"
    actuator.act(order())
    actuator.act(order(group))
    assert llm_d in server.listed, "until the fleet has asked for it again"


def test_they_go_with_a_fleet_that_no_longer_enforces() -> None:
    server = FakeServer()
    KubernetesActuator(server).act(order())
    found = leftovers.find(server, [None, "demo"])
    assert not found.without({("demo", "fleet")}).objects, "while it does they stay"
    leftovers.lift(server, found.without(()))
    assert not server.of("InferenceObjective")
