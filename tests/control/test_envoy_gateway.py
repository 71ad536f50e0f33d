"""End to end: a class's route and policy, programmed by a real Envoy Gateway and obeyed by a real Envoy."""

from __future__ import annotations

from typing import Any

import pytest
from tests.control.gateway_stage import seen_by

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the scenario saw."""
    return seen_by("gateway_scenario", tmp_path_factory.mktemp("gateway"))


def test_envoy_follows_the_routes_weights(seen: dict[str, Any]) -> None:
    total = sum(seen["weights"].values())
    assert total == 1000
    answers = sum(seen["answers"].values())
    for pool, weight in seen["weights"].items():
        assert seen["answers"].get(pool, 0) / answers == pytest.approx(weight / total, abs=0.08)


def test_the_policy_is_accepted_and_its_rate_limit_binds(seen: dict[str, Any]) -> None:
    assert any(entry["type"] == "Accepted" and entry["status"] == "True" for entry in seen["policy"])
    assert seen["limit"]["unit"] in ("Second", "Minute")
    assert set(seen["burst"]) <= {"200", "429"}
    assert seen["burst"]["429"] > 0


def test_a_class_that_is_planned_in_full_is_never_refused(seen: dict[str, Any]) -> None:
    assert set(seen["full_burst"]) == {"200"}


def test_the_route_tells_the_class_to_the_engines(seen: dict[str, Any]) -> None:
    assert seen["fairness"] == "default.full"


def test_what_matches_no_class_finds_no_route(seen: dict[str, Any]) -> None:
    assert seen["unmatched"] == 404


def test_a_policy_that_the_gateway_refuses_is_told_in_its_own_words(seen: dict[str, Any]) -> None:
    for told in (seen["refused"], seen["ineffective"], seen["of_class"]):
        assert told["reason"] == "GatewayRefused"
        assert "BackendTrafficPolicy/rationed" in told["message"]
        assert "Conflicted" in told["message"]
    assert seen["healed"]["reason"] == "Programmed"
