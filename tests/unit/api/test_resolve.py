"""Resources become domain values; what does not fit is named and the rest goes on."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from tests.unit.api.objects import ABSENT, POOL, fleet, priced, profile, workload

from sluice.api.prices import TIER_TOKEN_VALUES
from sluice.api.resolve import orphans, resolve
from sluice.api.workload_class import WorkloadClassResource
from sluice.model.fleet import Hardness, LimitKind, Mode, SliSignal, Tier
from sluice.model.reasons import Reason

NOBODY: list[str] = []
PROTECTED, BEST_EFFORT = "Protected", "BestEffort"


@pytest.mark.parametrize(
    ("classes", "kept", "reasons", "named"),
    [
        pytest.param([workload("chat"), workload("code")], ["chat", "code"], [], "", id="two classes that do not meet"),
        pytest.param([], NOBODY, [Reason.EMPTY_FLEET], "no WorkloadClass", id="an empty fleet"),
        pytest.param(
            [workload("chat", fleetRef={"name": "other"})],
            NOBODY,
            [Reason.EMPTY_FLEET],
            "no WorkloadClass",
            id="classes of other fleets are passed over",
        ),
        pytest.param(
            [workload("chat", pools=["a100", "b200"])],
            ["chat"],
            [Reason.POOL_NOT_FOUND],
            "spec.pools[1]: fleet fleet has no pool b200; it has a100, h100",
            id="an unknown pool beside a known one: the class goes on with the known one",
        ),
        pytest.param(
            [workload("chat"), workload("code", pools=["b200"])],
            ["chat"],
            [Reason.POOL_NOT_FOUND],
            "b200",
            id="no pool that exists: the class is left out",
        ),
        pytest.param(
            [
                workload("young", "2026-02-01T00:00:00Z", match={"pathPrefix": "/v1"}),
                workload("old", "2026-01-01T00:00:00Z"),
            ],
            ["old"],
            [Reason.OVERLAPPING_MATCH],
            "class old matches too (path /v1, x-model: old)",
            id="overlapping matches: the older class keeps the requests",
        ),
        pytest.param(
            [
                workload("a", match=ABSENT, routeRef={"name": "r", "ruleName": "main"}),
                workload("b", match=ABSENT, routeRef={"name": "r", "ruleName": "main"}),
                workload("c", match=ABSENT, routeRef={"name": "r", "ruleName": "other"}),
            ],
            ["a", "c"],
            [Reason.OVERLAPPING_MATCH],
            "HTTPRoute r, rule main",
            id="two classes on one rule of one route",
        ),
        pytest.param(
            [workload("chat", prices=priced("1", "2")), workload("code")],
            ["chat"],
            [Reason.CONTRADICTORY_PRICES],
            "class chat has prices and this one has none",
            id="prices for some and none for others cannot be compared",
        ),
        pytest.param(
            [
                workload("chat", tier=PROTECTED, prices=priced("1", "2")),
                workload("batch", tier=BEST_EFFORT, prices=priced("1", "3")),
            ],
            ["batch", "chat"],
            [Reason.CONTRADICTORY_PRICES],
            "tier Protected of class chat is above tier BestEffort of class batch, but its prices are below",
            id="a protected class priced below a best-effort one",
        ),
        pytest.param(
            [
                workload("chat", tier=PROTECTED, prices=priced("1", "4")),
                workload("batch", tier=BEST_EFFORT, prices=priced("2", "3")),
            ],
            ["batch", "chat"],
            [],
            "",
            id="prices that cross leave the order to the lengths",
        ),
        pytest.param(
            [
                workload("chat", tier=PROTECTED, prices=priced("1", "2")),
                workload("batch", tier=BEST_EFFORT, prices=priced("1", "2")),
            ],
            ["batch", "chat"],
            [],
            "",
            id="equal prices contradict no tier",
        ),
        pytest.param(
            [workload("chat", guaranteedSharePermille=1000, inFlightCeiling=50)],
            NOBODY,
            [Reason.CONTRADICTORY_PRICES, Reason.EMPTY_FLEET],
            "which needs more than spec.inFlightCeiling 50",
            id="5 requests/s of 22.04 s each need 110 in flight, the ceiling allows 50",
        ),
        pytest.param(
            [workload("chat", guaranteedSharePermille=1000, inFlightCeiling=120)],
            ["chat"],
            [],
            "",
            id="a ceiling above what the guarantee needs",
        ),
        pytest.param(
            [workload("chat", servedModelName="m"), workload("code", servedModelName="m")],
            ["chat", "code"],
            [Reason.PARTLY_PRIOR, Reason.PARTLY_PRIOR],
            "tell none of them apart",
            id="a served model name that two classes claim is not used",
        ),
    ],
)
def test_classes(classes: list[WorkloadClassResource], kept: list[str], reasons: list[Reason], named: str) -> None:
    resolved = resolve(fleet(), [profile()], classes)
    assert [entry.name for entry in resolved.classes] == kept
    assert [finding.reason for finding in resolved.findings] == reasons
    assert named in "\n".join(finding.message for finding in resolved.findings)


@pytest.mark.parametrize(
    ("tiers", "blocked"),
    [
        pytest.param((PROTECTED, BEST_EFFORT), True, id="the last good plan stays while tiers and prices disagree"),
        pytest.param((BEST_EFFORT, PROTECTED), False, id="tiers and prices agree"),
    ],
)
def test_contradictory_prices_block_the_fleet(tiers: tuple[str, str], blocked: bool) -> None:
    cheap = workload("cheap", tier=tiers[0], prices=priced("1", "2"))
    dear = workload("dear", tier=tiers[1], prices=priced("2", "4"))
    assert resolve(fleet(), [profile()], [cheap, dear]).is_blocked is blocked


@pytest.mark.parametrize(
    "profiles",
    [
        pytest.param([], id="no profile at all"),
        pytest.param([profile("other")], id="a profile of another name"),
        pytest.param([profile(namespace="elsewhere")], id="a profile of another namespace"),
    ],
)
def test_a_missing_profile_leaves_no_fleet_to_plan(profiles: list[Any]) -> None:
    resolved = resolve(fleet(), profiles, [workload()])
    assert resolved.fleet is None
    assert resolved.is_blocked
    assert {finding.reason for finding in resolved.findings} == {Reason.PROFILE_NOT_FOUND}
    assert "spec.pools[1].profileRef.name: pool h100 needs IterationProfile law" in resolved.findings[1].message


@pytest.mark.parametrize(
    ("own", "default", "tier", "per_token"),
    [
        pytest.param(priced("0.15", "0.60"), {}, "Standard", (1.5e-7, 6e-7), id="the class's own prices"),
        pytest.param(
            ABSENT, priced("1", "2"), "Protected", (1e-6, 2e-6), id="the fleet's default prices, whatever the tier"
        ),
        pytest.param(priced("3", "4"), priced("1", "2"), "Standard", (3e-6, 4e-6), id="own prices before defaults"),
        pytest.param(ABSENT, {}, "Protected", (100.0, 100.0), id="without prices tokens count 1:1 inside the tier"),
        pytest.param(ABSENT, {}, "BestEffort", (0.01, 0.01), id="the lowest tier's tokens"),
    ],
)
def test_what_a_token_is_worth(own: Any, default: dict[str, str], tier: str, per_token: tuple[float, float]) -> None:
    resolved = resolve(fleet(pricing=default), [profile()], [workload(prices=own, tier=tier)])
    (entry,) = resolved.classes
    assert (entry.prompt_token_price, entry.output_token_price) == pytest.approx(per_token, rel=1e-12)


def test_tiers_are_further_apart_than_lengths_can_bridge() -> None:
    """The order index of a class without decode work is 1/kappa' at most, 28 for the paper's instance."""
    kappa_tokens = (16 * 0.033272 / 0.022 - 15) / 256
    values = [TIER_TOKEN_VALUES[tier] for tier in (Tier.PROTECTED, Tier.STANDARD, Tier.BEST_EFFORT)]
    assert all(higher / lower > 1 / kappa_tokens for higher, lower in itertools.pairwise(values))


def test_units_of_a_class() -> None:
    resource = workload(
        patienceMilliseconds=2500,
        guaranteedSharePermille=250,
        timeouts={"requestMilliseconds": 90_000},
        tokensPerStepPermille=1500,
        slis=[
            {"signal": "TTFT", "statistic": "WithinFraction", "targetMilliseconds": 800, "fractionPermille": 950},
            {"signal": "TPOT", "targetMilliseconds": 40, "hardness": "Soft", "penalty": "0.5"},
        ],
    )
    (entry,) = resolve(fleet(), [profile()], [resource]).classes
    assert (entry.prior_rate, entry.patience_seconds, entry.abandonment_rate) == (5.0, 2.5, 0.4)
    assert (entry.guaranteed_share, entry.request_timeout_seconds, entry.tokens_per_step) == (0.25, 90.0, 1.5)
    assert (entry.ttft_promise_seconds, entry.slis[0].fraction) == (0.8, 0.95)
    assert (entry.slis[1].signal, entry.slis[1].hardness, entry.slis[1].penalty) == (SliSignal.TPOT, Hardness.SOFT, 0.5)
    assert entry.fairness_id == "team.chat"


def test_units_of_a_fleet() -> None:
    resource = fleet(
        mode="Enforce",
        gatewayRef={"name": "inference"},
        control={"deadBandPermille": 30, "largestStepPermille": 100},
        metrics={"prometheusUrl": "http://p:9090", "sources": [{"signal": "TTFT", "order": ["vLLM", "Envoy"]}]},
    )
    resolved = resolve(resource, [profile()], [workload()]).fleet
    assert resolved is not None
    assert (resolved.mode, resolved.gateway, resolved.key) == (Mode.ENFORCE, ("team", "inference"), "team/fleet")
    assert (resolved.control.dead_band, resolved.control.largest_step) == (0.03, 0.1)
    assert resolved.metrics.sources == (("TTFT", ("vLLM", "Envoy")),)
    pool = resolved.pools[0]
    assert (pool.batched_token_budget, str(pool.endpoints[1]), pool.profile) == (272, "10.0.0.2:8000", "law")


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="by the mixed base"),
        pytest.param({"mixedBaseNanoseconds": ABSENT, "kneeTokens": 74}, id="by the knee, rounded to a token"),
    ],
)
def test_either_way_of_giving_the_law_yields_the_paper_s_instance(spec: dict[str, Any]) -> None:
    law = profile(**spec).spec.law()
    assert law.solo(16) == 0.022
    assert math.isclose(law.mixed(256, 16), 0.033272, abs_tol=62e-6)


def test_a_made_route_needs_a_gateway() -> None:
    pool = {**POOL, "backendRef": {"name": "vllm", "port": 8000}}
    resource = fleet(pools=[pool], dataPlane={"kind": "EnvoyGateway"})
    resolved = resolve(resource, [profile()], [workload()])
    assert [finding.reason for finding in resolved.findings] == [Reason.GATEWAY_NOT_FOUND]
    assert not resolved.is_blocked


def test_orphans_are_classes_whose_fleet_is_not_there() -> None:
    findings = orphans([fleet()], [workload("chat"), workload("code", fleetRef={"name": "gone"})])
    assert [(finding.subject, finding.reason) for finding in findings] == [
        ("WorkloadClass/code", Reason.FLEET_NOT_FOUND)
    ]


@pytest.mark.parametrize(
    ("declared", "limit"),
    [
        pytest.param({"kind": "EnvoyFiles", "listenerPort": 10000}, LimitKind.BOTH, id="a breaker that moves at once"),
        pytest.param({"kind": "EnvoyGateway"}, LimitKind.RATE, id="a breaker that takes 15 s is only a fence"),
        pytest.param({"kind": "ConfigMap"}, LimitKind.RATE, id="any other data plane"),
        pytest.param({"kind": "EnvoyFiles", "listenerPort": 10000, "limit": "Rate"}, LimitKind.RATE, id="as declared"),
    ],
)
def test_the_limit_follows_the_data_plane_unless_it_is_declared(declared: dict[str, Any], limit: LimitKind) -> None:
    found = resolve(fleet(pools=[POOL], dataPlane=declared), [profile()], [workload()])
    assert found.fleet is not None
    assert found.fleet.data_plane.limit is limit
