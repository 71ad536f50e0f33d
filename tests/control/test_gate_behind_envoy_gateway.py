"""End to end: operator, real API server, real Envoy Gateway, real Envoy, and the gate between.

Replicas are Pods with addresses of their own behind a Service; what kubelet and controllers would
write of them is written by the scenario, and simulated replicas listen at their addresses.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.control.gate_signals import FORGED, SHARING, TENANT, is_fair
from tests.control.gateway_stage import seen_by

from sluice.model.gate import WAITED_HEADER

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(600)]

FENCE = 20
"""1.2 times the 16 slots, rounded up."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the scenario saw."""
    return seen_by("gate_scenario", tmp_path_factory.mktemp("gate"))


def test_envoy_gateway_accepts_the_policy(seen: dict[str, Any]) -> None:
    assert any(entry["type"] == "Accepted" and entry["status"] == "True" for entry in seen["policy"])


def test_prefills_start_in_the_plans_order_and_within_the_budget(seen: dict[str, Any]) -> None:
    assert seen["order"] == ["r1", "r2", "f1", "f2", "r3", "r4"], "planned in full goes before rationed"
    assert seen["heldAtOnce"] == 2
    assert set(seen["answers"]) == {200}


def test_requests_bear_the_plan_that_the_operator_wrote(seen: dict[str, Any]) -> None:
    assert seen["plan"]
    assert seen["plan"] in seen["plansSeen"]


def test_the_gate_goes_on_without_the_operator(seen: dict[str, Any]) -> None:
    assert seen["afterOperator"] == 200


def test_a_client_reads_how_long_it_waited_and_under_which_plan(seen: dict[str, Any]) -> None:
    """Whatever it had written there itself."""
    headers = seen["signals"]["headers"]["waited"]
    assert headers["status"] == 200
    assert 0 < int(headers["got"]["x-sluice-waited-ms"]) < int(FORGED[WAITED_HEADER])
    assert headers["got"]["x-sluice-plan"] == seen["plan"]
    assert headers["got"]["x-request-id"]
    assert headers["reached"] == [seen["plan"]], "what it wrote does not reach the engine either"
    assert headers["placed"] == [""]


def test_a_client_reads_why_it_was_refused_and_when_to_come_back(seen: dict[str, Any]) -> None:
    refused = seen["signals"]["headers"]["refused"]
    assert refused["status"] == 429
    assert refused["got"]["x-sluice-refused"] == "WaitedTooLong"
    assert int(refused["got"]["retry-after"]) >= 1
    assert refused["got"]["x-request-id"]


def test_a_verified_claim_is_a_fairness_key_and_what_a_client_writes_is_none(seen: dict[str, Any]) -> None:
    """Read as a claim, or as the header that Envoy makes of it."""
    claims = seen["signals"]["claims"]
    assert claims["order"].keys() == {"sub", TENANT}
    for order in claims["order"].values():
        assert is_fair(order)
    assert claims["forged"] == 401


def test_the_access_log_tells_when_answers_are_over(seen: dict[str, Any]) -> None:
    assert seen["signals"]["ends"] == {"during": 2, "after": 0}


def test_classes_that_share_a_users_route_are_told_by_its_rules(seen: dict[str, Any]) -> None:
    """And their first tokens bear the cluster that Envoy counts them by."""
    counted = seen["signals"]["rules"]
    for place, name in enumerate(SHARING, start=1):
        cluster = f"httproute/default/shared/rule/{place}"
        assert counted[f'sluice_gate_ttft_seconds_count{{class="{name}",proxy_cluster="{cluster}"}}'] >= 1
    assert len(counted) == len(SHARING)


def test_forged_headers_are_taken_out_at_the_edge_while_the_gate_is_gone(seen: dict[str, Any]) -> None:
    """Or they would reach the engines, and name them."""
    assert seen["stripped"]["before"]


def test_everything_passes_a_frozen_gate_within_seconds_and_nobody_is_lost(seen: dict[str, Any]) -> None:
    """On a route that is a minute old, and without anybody ending the gate."""
    frozen = seen["frozen"]
    assert frozen["answers"] == {"200": 43}
    assert frozen["heldBefore"] == 2
    assert frozen["heldBefore"] < frozen["heldAtMost"] <= FENCE
    assert frozen["passedAfterSeconds"] < 10, "two seconds on a machine that is not shared"
    assert frozen["allAfterSeconds"] < 30


def test_a_gate_killed_with_2000_waiting_loses_nobody_and_floods_nobody(seen: dict[str, Any]) -> None:
    killed = seen["killed"]
    assert killed["answers"] == {"200": 2002}
    assert killed["heldBefore"] == 2
    assert killed["heldBefore"] < killed["heldAtMost"] <= FENCE


def test_requests_go_to_the_replica_that_the_gate_names(seen: dict[str, Any]) -> None:
    placed = seen["placed"]
    assert set(placed["answers"]) == {200}
    for stage in ("alone", "together"):
        for address, named in placed[stage].items():
            assert set(named) <= {address}, "somebody came here whom the gate had sent elsewhere"
    assert sorted(map(len, placed["alone"].values())) == [0, 12], "nothing was in prefill: the same replica each time"
    assert sorted(map(len, placed["together"].values())) == [2, 2]
