"""Whose request a route's name tells, and where in a user's route a class stands."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from tests.control import fleets as documents
from tests.unit.actuate.fleets import fleet, routed, workload

from sluice.api.manifests import parse
from sluice.gate.feed import world_of
from sluice.gate.routes import Rules, classifier, clusters
from sluice.model.fleet import DataPlaneKind, RouteRef, WorkloadClass

SHARED = "user-route"


def sharing(name: str) -> WorkloadClass:
    """A class with a rule of its own name in a user's route that others use too."""
    return replace(routed(name), route=RouteRef(name=SHARED, rule_name=name))


def test_routes_tell_classes() -> None:
    classify = classifier("demo", [workload("chat"), routed("code")], {})
    assert classify("chat") == "chat"
    assert classify("httproute/demo/chat/rule/0/match/0/x") == "chat"
    assert classify("httproute/demo/user-route/rule/1/match/0/x") == "code"
    assert classify("httproute/other/chat/rule/0") is None


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        pytest.param({SHARED: ("", "batch", "code")}, [None, "batch", "code"], id="rules that are seen do tell"),
        pytest.param({}, [None, None, None], id="rules that are not seen do not"),
        pytest.param({SHARED: ("code",)}, ["code", None, None], id="a class whose rule is gone has none"),
    ],
)
def test_a_users_route_that_classes_share_by_rules(rules: Rules, told: list[str | None]) -> None:
    both = [sharing("batch"), sharing("code")]
    classify = classifier("demo", both, rules)
    assert [classify(f"httproute/demo/{SHARED}/rule/{place}/match/0/x") for place in range(3)] == told
    found = clusters(fleet(DataPlaneKind.ENVOY_GATEWAY), [*both, workload("chat")], rules)
    expected = {name: f"httproute/demo/{SHARED}/rule/{place}" for place, name in enumerate(told) if name}
    assert found == {**expected, "chat": "httproute/demo/chat/rule/0"}


def test_rules_are_read_from_the_routes_that_classes_refer_to() -> None:
    code = documents.workload("code", 300, 100, routeRef={"name": SHARED, "ruleName": "code"})
    del code["spec"]["match"]
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "spec": {"rules": [{}, {"name": "code"}]},
    }
    routes = [
        {**route, "metadata": {"name": SHARED}},
        {**route, "metadata": {"name": "nobodys"}},
        {**route, "metadata": {"name": SHARED, "namespace": "elsewhere"}},
    ]
    text = yaml.safe_dump_all([dict(documents.PROFILE), documents.fleet(), code, *routes])
    assert world_of(parse(text, "files"), "fleet").rules == {SHARED: ("", "code")}
