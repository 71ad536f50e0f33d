"""A real API server takes our objects, and nothing is written twice or taken from others."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import kubernetes
import pytest
import yaml
from tests.controlplane.cluster import ControlPlane, wait_until
from tests.controlplane.programs import find, module_folder
from tests.unit.actuate.fleets import fleet, order, routed, target, workload

from sluice.actuate.kinds import CONFIG_MAP, HTTP_ROUTE, TRAFFIC_POLICY, Kind
from sluice.actuate.kubernetes_api import APPLY, Answer, ClientApi
from sluice.actuate.kubernetes_apply import KubernetesActuator
from sluice.actuate.port import Order
from sluice.model.fleet import DataPlaneKind
from sluice.model.reasons import Reason

pytestmark = pytest.mark.controlplane

GATEWAY = DataPlaneKind.ENVOY_GATEWAY
DEFINITIONS = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")


class Server:
    """The API server with the two kinds we write, and both identities."""

    def __init__(self, plane: ControlPlane, stranger: str) -> None:
        self.plane = plane
        self.admin, self.stranger = self._login(plane.admin_token), self._login(stranger)

    def _login(self, token: str) -> ClientApi:
        configuration = kubernetes.client.Configuration(
            host=self.plane.url,
            ssl_ca_cert=str(self.plane.certificate),
            api_key={"BearerToken": token},
            api_key_prefix={"BearerToken": "Bearer"},
        )
        return ClientApi(kubernetes.client.ApiClient(configuration))

    def install(self) -> None:
        """The definitions of HTTPRoute and BackendTrafficPolicy as Envoy Gateway ships them."""
        folder = module_folder("github.com/envoyproxy/gateway") / "charts/gateway-crds-helm/templates"
        for name in ("standard-gatewayapi-crds.yaml", "generated/gateway.envoyproxy.io_backendtrafficpolicies.yaml"):
            lines = (folder / name).read_text().splitlines()
            for document in yaml.safe_load_all("\n".join(line for line in lines if not line.startswith("{{"))):
                wanted = {HTTP_ROUTE.name, TRAFFIC_POLICY.name}
                if document and document.get("spec", {}).get("names", {}).get("kind") in wanted:
                    path = f"/apis/{DEFINITIONS.api_version}/{DEFINITIONS.plural}/{document['metadata']['name']}"
                    query = {"fieldManager": "test", "force": "true"}
                    assert self.admin.send("PATCH", path, query=query, body=document, content_type=APPLY).fine
        for kind in (HTTP_ROUTE, TRAFFIC_POLICY):
            wait_until(functools.partial(self.serves, kind), f"{kind.name} is served")

    def serves(self, kind: Kind) -> bool:
        return self.admin.send("GET", kind.collection("default")).fine

    def get(self, kind: Kind, name: str) -> Answer:
        return self.admin.send("GET", kind.path("demo", name))

    def versions(self) -> dict[tuple[str, str], str]:
        return {
            (kind.name, item["metadata"]["name"]): item["metadata"]["resourceVersion"]
            for kind in (HTTP_ROUTE, TRAFFIC_POLICY, CONFIG_MAP)
            for item in self.admin.send("GET", kind.collection("demo")).document["items"]
        }


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if find("kube-apiserver") is None or find("etcd") is None:
        pytest.skip("needs a real kube-apiserver: run make controlplane")
    control = ControlPlane(tmp_path_factory.mktemp("plane"))
    stranger = control.add_user("stranger")
    control.start()
    server = Server(control, stranger)
    server.install()
    yield server
    control.stop()


@pytest.fixture
def server(plane: Server) -> Server:
    """An empty namespace ``demo``, but for a route of the user's."""
    plane.admin.send("POST", "/api/v1/namespaces", body={"metadata": {"name": "demo"}})
    for kind in (HTTP_ROUTE, TRAFFIC_POLICY):
        plane.admin.send("DELETE", kind.collection("demo"))
    plane.admin.send("DELETE", CONFIG_MAP.path("demo", "fleet-plan"))
    backends = [{"name": "slow-service", "port": 8000}, {"name": "fast-service", "port": 8000}]
    users = {
        "apiVersion": HTTP_ROUTE.api_version,
        "kind": HTTP_ROUTE.name,
        "metadata": {"name": "user-route"},
        "spec": {"rules": [{"name": "other"}, {"name": "code", "backendRefs": backends}]},
    }
    assert plane.admin.send("POST", HTTP_ROUTE.collection("demo"), body=users).fine
    return plane


ORDER = order(GATEWAY, (workload(), target(rate_limit=2.5, burst=9, fence=40)), (routed(), target("code")), proxies=2)
CREATED = {"BackendTrafficPolicy/chat", "HTTPRoute/chat", "HTTPRoute/user-route", "ConfigMap/fleet-plan"}


def ordered(one: Order, plan_id: str = "p") -> Order:
    return replace(one, targets=replace(one.targets, plan_id=plan_id))


def test_a_first_pass_writes_a_second_with_another_plan_of_the_same_targets_does_not(server: Server) -> None:
    actuator = KubernetesActuator(server.admin)
    assert actuator.standing(ORDER.fleet) is None
    first = actuator.act(ORDER)
    assert (set(first.written), first.problems) == (CREATED, ())
    before = server.versions()
    second = actuator.act(ordered(ORDER, "another"))
    assert (second.written, second.unchanged, second.removed, second.problems) == ((), 4, (), ())
    assert server.versions() == before
    assert actuator.standing(ORDER.fleet) == ORDER.targets


def test_a_preview_writes_nothing_and_is_empty_afterwards(server: Server) -> None:
    actuator = KubernetesActuator(server.admin)
    before = server.versions()
    text = actuator.preview(ORDER)
    assert "+    maxParallelRequests: 20" in text
    assert "+/spec/rules/1/backendRefs/1/weight: 700" in text
    assert server.versions() == before
    actuator.act(ORDER)
    assert actuator.preview(ORDER) == ""


def test_only_weights_of_a_users_route_change(server: Server) -> None:
    before = server.get(HTTP_ROUTE, "user-route").document
    KubernetesActuator(server.admin).act(ORDER)
    after = server.get(HTTP_ROUTE, "user-route").document
    assert [ref["weight"] for ref in after["spec"]["rules"][1]["backendRefs"]] == [300, 700]
    assert after["spec"]["rules"][0] == before["spec"]["rules"][0]
    assert {key: after["metadata"].get(key) for key in ("labels", "annotations", "ownerReferences")} == {
        key: before["metadata"].get(key) for key in ("labels", "annotations", "ownerReferences")
    }


def test_a_field_that_another_took_is_named_and_taken_back(server: Server) -> None:
    actuator = KubernetesActuator(server.admin)
    actuator.act(ORDER)
    edit = {"spec": {"circuitBreaker": {"maxParallelRequests": 7}}}
    server.admin.send(
        "PATCH",
        TRAFFIC_POLICY.path("demo", "chat"),
        query={"fieldManager": "somebody"},
        body=edit,
        content_type="application/merge-patch+json",
    )
    receipt = actuator.act(ORDER)
    (problem,) = receipt.problems
    assert problem.reason is Reason.FIELD_CONFLICT
    assert '"somebody"' in problem.message
    assert receipt.written == ("BackendTrafficPolicy/chat",)
    assert actuator.act(ORDER).problems == ()


def test_an_object_of_others_under_our_name_is_left_alone_and_holds_only_its_class(server: Server) -> None:
    theirs: dict[str, Any] = {
        "apiVersion": HTTP_ROUTE.api_version,
        "kind": HTTP_ROUTE.name,
        "metadata": {"name": "batch"},
        "spec": {},
    }
    assert server.admin.send("POST", HTTP_ROUTE.collection("demo"), body=theirs).fine
    before = server.get(HTTP_ROUTE, "batch").document
    one = order(GATEWAY, (workload("batch"), target("batch")), (workload(), target()))
    receipt = KubernetesActuator(server.admin).act(one)
    assert [problem.reason for problem in receipt.problems] == [Reason.FIELD_CONFLICT]
    assert set(receipt.written) == {"BackendTrafficPolicy/chat", "HTTPRoute/chat", "ConfigMap/fleet-plan"}
    assert server.get(HTTP_ROUTE, "batch").document == before
    assert server.get(TRAFFIC_POLICY, "batch").status == 404


def test_what_is_no_longer_wanted_is_removed_and_nothing_else(server: Server) -> None:
    actuator = KubernetesActuator(server.admin)
    actuator.act(ORDER)
    receipt = actuator.act(order(GATEWAY, (routed(), target("code"))))
    assert receipt.removed == ("HTTPRoute/chat", "BackendTrafficPolicy/chat")
    assert server.get(HTTP_ROUTE, "user-route").fine


def test_a_class_made_anew_adopts_what_the_old_one_left(server: Server) -> None:
    actuator = KubernetesActuator(server.admin)
    actuator.act(order(GATEWAY, (workload(), target())))
    uid = "33333333-3333-3333-3333-333333333333"
    anew = replace(workload(), uid=uid)
    assert actuator.act(order(GATEWAY, (anew, target()))).problems == ()
    owners = server.get(HTTP_ROUTE, "chat").document["metadata"]["ownerReferences"]
    assert [owner["uid"] for owner in owners] == [uid]


def test_missing_rights_and_a_server_that_is_away_are_findings(server: Server) -> None:
    started = time.monotonic()
    (forbidden,) = KubernetesActuator(server.stranger).act(ORDER).problems
    assert forbidden.reason is Reason.NOT_PERMITTED
    configuration = kubernetes.client.Configuration(host="http://127.0.0.1:9")
    away = ClientApi(kubernetes.client.ApiClient(configuration))
    (unreachable,) = KubernetesActuator(away).act(ORDER).problems
    assert unreachable.reason is Reason.WRITE_FAILED
    assert time.monotonic() - started < 30


def test_a_config_map_fleet_needs_no_gateway_kinds(server: Server) -> None:
    one = order(DataPlaneKind.CONFIG_MAP, (workload(), target()), fleet=fleet(DataPlaneKind.CONFIG_MAP))
    assert KubernetesActuator(server.admin).act(one).written == ("ConfigMap/fleet-plan",)
