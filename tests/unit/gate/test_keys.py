"""Keys of requests: from a header or a verified claim, and what the proxies must be told for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from envoy.extensions.filters.http.ext_proc.v3 import ext_proc_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
from google.protobuf import json_format
from tests.unit.actuate.fleets import fleet, workload

from sluice.actuate import envoy_extension_policy, envoy_gate, envoy_gateway
from sluice.actuate.port import Order
from sluice.gate import wire
from sluice.gate.keys import LONGEST_KEY, KeySource
from sluice.model.decision import ClassTarget, Targets
from sluice.model.fleet import DataPlaneKind, GateUse
from sluice.model.gate import CLAIMS_NAMESPACE, ENDPOINT_HEADER, OWN_HEADERS


def verified(claims: dict[str, Any]) -> messages.ProcessingRequest:
    """What a proxy sends along that has verified a token."""
    message = messages.ProcessingRequest()
    json_format.ParseDict({"issuer": claims}, message.metadata_context.filter_metadata[CLAIMS_NAMESPACE])
    return message


@pytest.mark.parametrize(
    ("claim", "key"),
    [
        pytest.param("sub", "alice", id="a plain claim"),
        pytest.param("org.team", "red", id="an inner claim"),
        pytest.param("level", "3", id="a number"),
        pytest.param("aud", "a,b", id="a list"),
        pytest.param("absent", "", id="one that is not there"),
        pytest.param("org", "", id="one that is no value"),
        pytest.param("sub.more", "", id="one below a plain value"),
    ],
)
def test_a_claim_is_read_from_what_the_proxy_verified(claim: str, key: str) -> None:
    message = verified({"sub": "alice", "org": {"team": "red"}, "level": 3, "aud": ["a", "b"]})
    source = KeySource.of(None, claim)
    assert source
    assert source.read({}, message.metadata_context.filter_metadata) == key


def test_without_a_verified_token_there_is_no_key() -> None:
    source = KeySource.of(None, "sub")
    assert source
    assert source.read({"sub": "forged"}, messages.ProcessingRequest().metadata_context.filter_metadata) == ""


def test_a_header_is_read_whatever_its_case_and_bounded_where_it_is_long() -> None:
    source = KeySource.of("X-Tenant", None)
    assert source
    assert source.read({"x-tenant": "t" * LONGEST_KEY}, {}) == "t" * LONGEST_KEY
    long = [source.read({"x-tenant": "Bearer " + "t" * 60_000 + tenant}, {}) for tenant in "ab"]
    assert [len(key) for key in long] == [LONGEST_KEY] * 2
    assert long[0] != long[1], "tenants whose keys begin alike are told apart"


def order(*, places: bool = False, **fields: Any) -> Order:
    plane = fleet(DataPlaneKind.ENVOY_GATEWAY)
    plane = replace(plane, data_plane=replace(plane.data_plane, gate=GateUse.ENABLED, gate_places=places))
    one = workload("chat", **fields)
    target = ClassTarget(name="chat", rate_limit=None, in_flight_limit=None, fence=None, weights=())
    return Order(fleet=plane, classes=(one,), targets=Targets(plan_id="p", classes=(target,)))


@pytest.mark.parametrize("field", ["fairness_claim", "affinity_claim"])
def test_a_proxy_sends_claims_only_for_a_class_that_needs_them(field: str) -> None:
    declared: dict[str, Any] = {field: "sub"}
    (with_claim,) = envoy_extension_policy.policies(order(**declared))
    (without,) = envoy_extension_policy.policies(order())
    assert with_claim["spec"]["extProc"][0]["metadata"] == {"accessibleNamespaces": [CLAIMS_NAMESPACE]}
    assert "metadata" not in without["spec"]["extProc"][0]
    for one, sent in ((workload("chat", **declared), [CLAIMS_NAMESPACE]), (workload("chat"), [])):
        document = {name: value for name, value in envoy_gate.route_override(one).items() if name != "@type"}
        override = json_format.ParseDict(document, ext_proc_pb2.ExtProcPerRoute())
        assert list(override.overrides.metadata_options.forwarding_namespaces.untyped) == sent


@pytest.mark.parametrize("places", [False, True])
def test_envoy_gateway_takes_the_gates_word_for_the_replica_only_where_it_gives_it(places: bool) -> None:
    (policy,) = envoy_gateway.policies(order(places=places))
    named = {"type": "LeastRequest", "endpointOverride": {"extractFrom": [{"header": ENDPOINT_HEADER}]}}
    assert policy["spec"].get("loadBalancer") == (named if places else None)


def test_what_passes_without_a_decision_loses_headers_that_only_we_write() -> None:
    message = messages.ProcessingResponse.FromString(wire.CONTINUE)
    assert tuple(message.request_headers.response.header_mutation.remove_headers) == OWN_HEADERS


def test_answers_say_how_long_a_request_waited() -> None:
    marks = (("x-sluice-waited-ms", "12"), ("x-sluice-plan", "p"))
    message = messages.ProcessingResponse.FromString(wire.answer_with(marks, "r1"))
    headers = message.response_headers.response.header_mutation.set_headers
    assert [(one.header.key, one.header.raw_value.decode()) for one in headers] == [*marks, ("x-request-id", "r1")]
