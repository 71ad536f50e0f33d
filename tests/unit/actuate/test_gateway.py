"""What Gateway API and Envoy Gateway are told, and that their own schemas accept it."""

from __future__ import annotations

import functools
import shutil
import subprocess
from dataclasses import replace
from typing import Any

import pytest
import yaml
from tests.controlplane.programs import module_folder
from tests.unit.actuate.fleets import fleet, order, pool, routed, target, workload

from sluice.actuate import envoy_gateway, gateway_api
from sluice.actuate.gateway_api import gateway_duration
from sluice.actuate.port import Order
from sluice.api.rules import broken
from sluice.api.structural import completed, repeats, unknown_fields, violations
from sluice.model.fleet import DataPlaneKind, TrafficMatch
from sluice.model.naming import FAIRNESS_HEADER
from sluice.model.reasons import Reason

KIND = DataPlaneKind.ENVOY_GATEWAY
UNBOUNDED = 4_294_967_295


@functools.cache
def schema(kind: str) -> dict[str, Any]:
    """The structural schema of a kind as Envoy Gateway ships it."""
    if shutil.which("go") is None:
        pytest.skip("needs go: the schemas are in the Go module of Envoy Gateway")
    try:
        folder = module_folder("github.com/envoyproxy/gateway") / "charts/gateway-crds-helm/templates"
    except subprocess.CalledProcessError:
        pytest.skip("needs the Go module of Envoy Gateway (make controlplane fetches it)")
    name = {
        "HTTPRoute": "standard-gatewayapi-crds.yaml",
        "EnvoyExtensionPolicy": "generated/gateway.envoyproxy.io_envoyextensionpolicies.yaml",
    }.get(kind, "generated/gateway.envoyproxy.io_backendtrafficpolicies.yaml")
    if not (folder / name).is_file():
        pytest.skip("needs the Go module of Envoy Gateway (make controlplane fetches it)")
    lines = (folder / name).read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("{{"))
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for document in yaml.load_all(text, Loader=loader):
        if document and document["kind"] == "CustomResourceDefinition" and document["spec"]["names"]["kind"] == kind:
            versions = {entry["name"]: entry for entry in document["spec"]["versions"]}
            served = versions.get("v1") or versions["v1alpha1"]
            return {**served["schema"]["openAPIV3Schema"]}
    raise AssertionError(kind)


def problems(document: dict[str, Any]) -> list[str]:
    """What the API server would say: unknown fields, types and bounds, rules."""
    shape = schema(document["kind"])
    unknown = list(unknown_fields(document, shape))
    spec, spec_shape = completed(document["spec"], shape["properties"]["spec"]), shape["properties"]["spec"]
    found = [
        *violations(spec, spec_shape, "spec"),
        *repeats(spec, spec_shape, "spec"),
        *broken(spec, spec_shape, "spec"),
    ]
    return unknown + [problem.text for problem in found]


def policy(one: Order) -> dict[str, Any]:
    (document,) = envoy_gateway.policies(one)
    return document


def route(one: Order) -> dict[str, Any]:
    documents, findings = gateway_api.routes(one)
    assert findings == ()
    return documents[0]


FULL = order(
    KIND,
    (
        workload(match=TrafficMatch(path_prefix="/v1"), request_timeout_seconds=90.5),
        target(rate_limit=2.5, fence=41),
    ),
    proxies=2,
)
BARE = order(KIND, (workload(), target(weights=(("fast", 0), ("slow", 1000)))))


@pytest.mark.parametrize("one", [pytest.param(FULL, id="all that we can set"), pytest.param(BARE, id="the least")])
def test_the_real_schemas_take_our_objects_and_change_nothing_in_them(one: Order) -> None:
    for document in (route(one), policy(one)):
        assert problems(document) == []
        shape = schema(document["kind"])["properties"]["spec"]
        # Every default of the server is written out: else what we read back would never equal what we sent.
        assert completed(document["spec"], shape) == document["spec"]


def test_a_wrong_field_would_be_noticed() -> None:
    document = policy(FULL)
    document["spec"]["circuitBreaker"]["maxRequests"] = -1
    assert problems(document) != []


def test_a_route_names_its_rule_sets_the_fairness_id_and_cuts_no_stream() -> None:
    document = route(BARE)
    (rule,) = document["spec"]["rules"]
    assert rule["name"] == "sluice"
    assert rule["timeouts"] == {"request": "0s"}
    assert rule["filters"][0]["requestHeaderModifier"] == {"set": [{"name": FAIRNESS_HEADER, "value": "chat"}]}
    assert [(ref["name"], ref["weight"]) for ref in rule["backendRefs"]] == [
        ("fast-service", 0),
        ("slow-service", 1000),
    ]
    (owner,) = document["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("WorkloadClass", "chat", True)


@pytest.mark.parametrize(
    ("seconds", "duration"),
    [(None, "0s"), (90.5, "1m30s500ms"), (86400.0, "24h"), (0.001, "1ms"), (3600.0, "1h"), (1e-9, "1ms")],
)
def test_durations_have_at_most_five_digits_a_unit(seconds: float | None, duration: str) -> None:
    assert gateway_duration(seconds) == duration


@pytest.mark.parametrize(
    ("fields", "in_flight", "rate"),
    [
        pytest.param({}, UNBOUNDED, None, id="no limit: not even the implicit 1024"),
        pytest.param({"rate_limit": 2.5, "fence": 41}, 21, {"requests": 75, "unit": "Minute"}, id="rate and fence"),
        pytest.param({"rate_limit": 30.0}, UNBOUNDED, {"requests": 15, "unit": "Second"}, id="whole requests a second"),
        pytest.param({"in_flight_limit": 7}, 4, None, id="in flight, rounded up"),
        pytest.param({"in_flight_limit": 0}, 0, None, id="closed"),
    ],
)
def test_every_threshold_is_written_and_limits_are_divided(
    fields: dict[str, Any], in_flight: int, rate: dict[str, Any] | None
) -> None:
    spec = policy(order(KIND, (workload(), target(**fields)), proxies=2))["spec"]
    assert spec["circuitBreaker"] == {
        "maxConnections": UNBOUNDED,
        "maxPendingRequests": UNBOUNDED,
        "maxParallelRequests": in_flight,
        "maxParallelRetries": UNBOUNDED,
    }
    limits = [entry["limit"] for entry in spec.get("rateLimit", {}).get("local", {}).get("rules", [])]
    assert limits == ([] if rate is None else [rate])


def test_a_users_route_gets_a_policy_only_for_a_limit_and_by_the_name_of_its_rule() -> None:
    assert envoy_gateway.policies(order(KIND, (routed(), target("code")))) == ()
    spec = policy(order(KIND, (routed(), target("code", in_flight_limit=3))))["spec"]
    assert (spec["targetRefs"][0]["name"], spec["targetRefs"][0]["sectionName"]) == ("user-route", "code")


@pytest.mark.parametrize(
    ("gaps", "reason"),
    [
        pytest.param({"gateway": None}, Reason.GATEWAY_NOT_FOUND, id="no gateway to attach to"),
        pytest.param({"pools": (pool("fast"), pool("slow", backend=None))}, Reason.WRITE_FAILED, id="no back end"),
    ],
)
def test_what_a_route_lacks_is_said(gaps: dict[str, Any], reason: Reason) -> None:
    documents, findings = gateway_api.routes(order(KIND, (workload(), target()), fleet=fleet(KIND, **gaps)))
    assert documents == ()
    assert [finding.reason for finding in findings] == [reason]


USERS = {
    "metadata": {"namespace": "demo", "name": "user-route", "resourceVersion": "7"},
    "spec": {
        "rules": [
            {"name": "other", "backendRefs": [{"name": "else", "port": 1}]},
            {
                "name": "code",
                "backendRefs": [{"name": "slow-service", "port": 8000}, {"name": "fast-service", "port": 8000}],
            },
        ]
    },
}


def test_weights_go_into_the_users_rule_by_a_guarded_patch_and_only_where_they_differ() -> None:
    patch, finding = gateway_api.weights_patch(
        USERS, fleet(KIND), routed(), target(weights=(("fast", 999), ("slow", 1)))
    )
    assert finding is None
    assert patch == [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "test", "path": "/spec/rules/1/name", "value": "code"},
        {"op": "test", "path": "/spec/rules/1/backendRefs/1/name", "value": "fast-service"},
        {"op": "add", "path": "/spec/rules/1/backendRefs/1/weight", "value": 999},
    ]


@pytest.mark.parametrize(
    ("observed", "pools"),
    [
        pytest.param(None, (pool("fast"),), id="no such route"),
        pytest.param({**USERS, "spec": {"rules": []}}, (pool("fast"),), id="no such rule"),
        pytest.param(USERS, (pool("fast"), pool("third"), pool("slow")), id="a pool without a back end in the rule"),
    ],
)
def test_a_rule_that_cannot_carry_the_plan_is_left_alone(observed: Any, pools: Any) -> None:
    shares = tuple((one.name, 1000 // len(pools)) for one in pools)
    patch, finding = gateway_api.weights_patch(observed, fleet(KIND, pools=pools), routed(), target(weights=shares))
    assert patch == []
    assert finding is not None
    assert finding.reason is Reason.ROUTE_NOT_FOUND


def test_a_long_name_becomes_a_short_label() -> None:
    long = "c" * 200
    document = policy(order(KIND, (replace(workload(long)), target(long))))
    assert len(document["metadata"]["labels"]["sluice.dev/class"]) <= 63
