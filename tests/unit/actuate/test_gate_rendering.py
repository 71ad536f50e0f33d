"""What proxies are told about the gate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.actuate.fleets import fleet, order, routed, target, workload
from tests.unit.actuate.test_gateway import problems, schema

from sluice.actuate import envoy_config, envoy_extension_policy, envoy_gateway
from sluice.actuate.port import Order
from sluice.api.structural import completed
from sluice.model.fleet import DataPlane, DataPlaneKind, GateUse
from sluice.model.gate import LONGEST_WAIT_SECONDS, MESSAGE_TIMEOUT_SECONDS, OWN_HEADERS
from sluice.model.signal import Source
from sluice.model.snapshot import PoolSupply

PAIR = (workload(), target())


def gated(kind: DataPlaneKind, use: GateUse, **fields: Any) -> Order:
    plane = DataPlane(kind=kind, gate=use, gate_address="127.0.0.1:9002")
    return order(kind, PAIR, fleet=replace(fleet(kind), data_plane=plane), **fields)


@pytest.mark.parametrize("use", [GateUse.SHADOW, GateUse.ENABLED])
def test_the_real_schema_takes_the_extension_policy_and_changes_nothing_in_it(use: GateUse) -> None:
    (document,) = envoy_extension_policy.policies(gated(DataPlaneKind.ENVOY_GATEWAY, use))
    assert problems(document) == []
    shape = schema(document["kind"])["properties"]["spec"]
    assert completed(document["spec"], shape) == document["spec"]


def test_a_fleet_without_a_gate_gets_none_of_it() -> None:
    assert envoy_extension_policy.policies(order(DataPlaneKind.ENVOY_GATEWAY, PAIR)) == ()
    text = str(envoy_config.render(order(DataPlaneKind.ENVOY_FILES, PAIR), "/out"))
    assert "ext_proc" not in text


def test_a_users_rule_is_targeted_by_its_name() -> None:
    one = gated(DataPlaneKind.ENVOY_GATEWAY, GateUse.ENABLED)
    one = replace(one, classes=(routed("chat"),))
    (document,) = envoy_extension_policy.policies(one)
    assert document["spec"]["targetRefs"][0]["sectionName"] == "code"


def test_the_message_timeout_is_above_the_longest_wait() -> None:
    (document,) = envoy_extension_policy.policies(gated(DataPlaneKind.ENVOY_GATEWAY, GateUse.ENABLED))
    assert MESSAGE_TIMEOUT_SECONDS > LONGEST_WAIT_SECONDS
    assert document["spec"]["extProc"][0]["messageTimeout"] == "90s"
    assert document["spec"]["extProc"][0]["failOpen"] is True


def test_a_frozen_gate_is_noticed_by_pings_and_by_nothing_that_a_slow_start_could_trip() -> None:
    (document,) = envoy_extension_policy.policies(gated(DataPlaneKind.ENVOY_GATEWAY, GateUse.ENABLED))
    settings = document["spec"]["extProc"][0]["backendSettings"]
    assert settings["http2"]["connectionKeepalive"] == {"interval": "1s", "timeout": "900ms"}
    assert "healthCheck" not in settings, "a first check that fails is not made again for a minute"


@pytest.mark.parametrize(
    ("use", "connections"),
    [
        # fleet: 16 slots a replica, 3 + 2 replicas: 80 slots, 96 in flight, over 2 proxies
        pytest.param(GateUse.ENABLED, 48, id="an enabled gate has a fence at 1.2 times the slots"),
        pytest.param(GateUse.SHADOW, 4_294_967_295, id="a shadow has none"),
    ],
)
def test_the_fence_behind_the_gate(use: GateUse, connections: int) -> None:
    supplies = tuple(
        PoolSupply(pool=name, ready=ready, source=Source.ENDPOINTS) for name, ready in (("fast", 3), ("slow", 2))
    )
    (document,) = envoy_gateway.policies(gated(DataPlaneKind.ENVOY_GATEWAY, use, supplies=supplies, proxies=2))
    assert document["spec"]["circuitBreaker"]["maxConnections"] == connections


def test_envoy_files_remove_our_headers_from_what_clients_send() -> None:
    files = envoy_config.render(gated(DataPlaneKind.ENVOY_FILES, GateUse.ENABLED), "/out")
    (listener,) = files["bootstrap.json"]["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (mutation,) = manager["early_header_mutation_extensions"]
    assert {entry["remove"] for entry in mutation["typed_config"]["mutations"]} == set(OWN_HEADERS)
    names = [entry["name"] for entry in manager["http_filters"]]
    assert names[-2:] == ["envoy.filters.http.ext_proc", "envoy.filters.http.router"]


@pytest.mark.parametrize(
    ("use", "pools"),
    [
        pytest.param(GateUse.ENABLED, {"fast": 1000, "slow": 1}, id="the gate may name any replica of the class"),
        pytest.param(GateUse.SHADOW, {"fast": 1000}, id="a shadow names none, and the plan alone decides"),
    ],
)
def test_every_pool_of_a_class_is_in_reach_of_an_enabled_gate(use: GateUse, pools: dict[str, int]) -> None:
    one = gated(DataPlaneKind.ENVOY_FILES, use)
    moved = target(weights=(("fast", 1000), ("slow", 0)))
    files = envoy_config.render(replace(one, targets=replace(one.targets, classes=(moved,))), "/out")
    ((endpoints,),) = (document["resources"] for name, document in files.items() if name.startswith("eds/"))
    told = {entry["locality"]["zone"]: entry["load_balancing_weight"] for entry in endpoints["endpoints"]}
    assert told == pools
