"""A class moves to another fleet, whose pass writes beside that of the old one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.actuate.fake_server import FakeServer
from tests.unit.actuate.fleets import fleet, order, target, workload

from sluice.actuate.kubernetes_apply import KubernetesActuator
from sluice.actuate.port import Order
from sluice.model.fleet import DataPlaneKind, GateUse
from sluice.model.naming import FLEET_LABEL

KIND = DataPlaneKind.ENVOY_GATEWAY
GATED = replace(fleet(KIND), data_plane=replace(fleet(KIND).data_plane, gate=GateUse.ENABLED))
NEW = replace(fleet(KIND), name="second", uid="33333333-3333-3333-3333-333333333333")
CHAT, STAYS = (workload(), target()), (workload("other"), target("other"))
LIVE = {"HTTPRoute": "second", "BackendTrafficPolicy": "second"}


def before(server: FakeServer) -> KubernetesActuator:
    """Both classes under the old fleet."""
    actuator = KubernetesActuator(server)
    assert not actuator.act(order(KIND, CHAT, STAYS, fleet=GATED)).problems
    return actuator


def objects_of_chat(server: FakeServer) -> dict[str, str]:
    """Kind -> the fleet whose label it bears."""
    return {
        one["kind"]: one["metadata"]["labels"][FLEET_LABEL]
        for one in server.objects.values()
        if one["metadata"]["name"] == "chat"
    }


def leaving(**fields: Any) -> Order:
    """The old fleet's order once the class is no longer its own."""
    return replace(order(KIND, STAYS, fleet=GATED), **fields)


@pytest.mark.parametrize("handed_over", [frozenset[str](), frozenset({"chat"})], ids=["unknown", "known"])
def test_what_the_new_fleet_took_under_our_hands_is_not_deleted(handed_over: frozenset[str]) -> None:
    server = FakeServer()
    old = before(server)
    server.before_delete = lambda: KubernetesActuator(server).act(order(KIND, CHAT, fleet=NEW))
    receipt = old.act(leaving(handed_over=handed_over))
    assert not receipt.problems
    assert LIVE.items() <= objects_of_chat(server).items()


def test_a_route_stays_until_the_new_fleet_takes_it_and_what_it_may_not_want_goes() -> None:
    server = FakeServer()
    old = before(server)
    order_of_old = leaving(handed_over=frozenset({"chat"}))
    assert "HTTPRoute/chat" not in old.preview(order_of_old)
    old.act(order_of_old)
    assert objects_of_chat(server) == {"HTTPRoute": "fleet", "BackendTrafficPolicy": "fleet"}
    KubernetesActuator(server).act(order(KIND, CHAT, fleet=NEW))
    assert objects_of_chat(server) == LIVE
    old.act(order_of_old)
    assert objects_of_chat(server) == LIVE


def test_a_class_that_nobody_takes_leaves_nothing() -> None:
    server = FakeServer()
    before(server).act(leaving())
    assert objects_of_chat(server) == {}


def test_what_only_changed_its_status_meanwhile_is_deleted_all_the_same() -> None:
    server = FakeServer()
    old = before(server)

    def tell_status() -> None:
        for path, one in list(server.objects.items()):
            server.put(path, {**one, "status": {"told": True}})

    server.before_delete = tell_status
    receipt = old.act(leaving())
    assert not receipt.problems
    assert objects_of_chat(server) == {}
    assert set(receipt.removed) == {"HTTPRoute/chat", "EnvoyExtensionPolicy/chat", "BackendTrafficPolicy/chat"}
