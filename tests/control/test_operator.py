"""The operator against a real API server: plans, ownership, idempotence, restarts, modes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.control.fleets import PROFILE, fleet, gateway, two_classes, workload
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import wait_until
from tests.controlplane.operator_process import OperatorProcess

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(300)]

SAMPLES = Path(__file__).resolve().parents[2] / "crds" / "samples"
EVERYTHING = (
    "InferenceFleet",
    "WorkloadClass",
    "IterationProfile",
    "HTTPRoute",
    "BackendTrafficPolicy",
    "ConfigMap",
    "Gateway",
    "Event",
)
OWNED = ("HTTPRoute", "BackendTrafficPolicy", "ConfigMap")
PLAN_SECONDS = 2.0
POOL_OF_PODS = {
    "name": "a100",
    "podSelector": {"matchLabels": {"app": "gone"}},
    "profileRef": {"name": "law"},
    "slots": 16,
    "chunkTokens": 256,
}
WITHOUT_PODS = fleet("Observe", kind="ConfigMap", pools=[POOL_OF_PODS])


def prices(per_million: str) -> dict[str, str]:
    return {"promptPerMillionTokens": per_million, "outputPerMillionTokens": per_million}


def declare(admin: Admin, *documents: Any) -> None:
    """The usual world: a law, a gateway, and what the test adds."""
    for document in (PROFILE, gateway(), *documents):
        admin.apply(document)


def plan_id(admin: Admin, name: str = "fleet") -> str:
    return str(((admin.find("InferenceFleet", name) or {}).get("status", {}).get("plan") or {}).get("planId", ""))


def plan_value(admin: Admin, name: str) -> float:
    plan = (admin.find("InferenceFleet", name) or {}).get("status", {}).get("plan") or {}
    return float(plan.get("valuePerSecond", 0.0))


def names(admin: Admin, kind: str) -> list[str]:
    """What of a kind is in the namespace, without what Kubernetes itself puts there."""
    return sorted(
        item["metadata"]["name"] for item in admin.all(kind) if item["metadata"]["name"] != "kube-root-ca.crt"
    )


def settle(admin: Admin, operator: OperatorProcess) -> None:
    """Wait until limits have reached the plan and nothing is on its way any longer."""
    operator.wait_for_passes(4, "fleet", admin.namespace)


def policy_limits(admin: Admin) -> dict[str, Any]:
    return {item["metadata"]["name"]: item["spec"].get("rateLimit") for item in admin.all("BackendTrafficPolicy")}


def is_judged(admin: Admin) -> bool:
    return "just written" not in admin.condition("InferenceFleet", "fleet", "Effective").get("message", "just written")


def everything(admin: Admin) -> dict[str, Any]:
    """Every object of the namespace, resource versions included."""
    return {f"{kind}/{item['metadata']['name']}": item for kind in EVERYTHING for item in admin.all(kind)}


def test_a_plan_is_in_status_within_two_seconds_of_apply(admin: Admin, operator: OperatorProcess) -> None:
    admin.apply_file(SAMPLES / "two-class")
    applied = time.monotonic()
    # Objects arrive one by one, so a slow machine may see a plan for the first class alone before the plan for both.
    wait_until(lambda: plan_value(admin, "two-class") == pytest.approx(2977.16190347, rel=1e-6), "the plan in status")
    assert time.monotonic() - applied < PLAN_SECONDS, operator.log()
    assert admin.get("InferenceFleet", "two-class")["status"]["observedGeneration"] == 1
    wait_until(lambda: admin.condition("WorkloadClass", "decode-heavy", "Ready").get("status") == "True", "ready")
    assert admin.get("WorkloadClass", "decode-heavy")["status"]["plan"]["rationed"] is True


@pytest.mark.parametrize("sample", sorted(path.name for path in SAMPLES.iterdir()))
def test_every_sample_applies_cleanly(admin: Admin, operator: OperatorProcess, sample: str) -> None:
    documents = admin.apply_file(SAMPLES / sample)
    mine = [document for document in documents if document["kind"] == "InferenceFleet"]
    for document in mine:
        admin.wait_for("InferenceFleet", document["metadata"]["name"], "Accepted", "True")
    assert mine, "a sample without a fleet shows nothing"
    assert "Traceback" not in operator.log()


def test_an_edit_is_planned_within_one_period(admin: Admin, operator: OperatorProcess) -> None:
    declare(admin, fleet("Observe", kind="ConfigMap"), *two_classes())
    wait_until(lambda: plan_id(admin) != "", "a first plan")
    before = plan_id(admin)
    admin.edit("WorkloadClass", "decode-heavy", {"spec": {"priors": {"milliRequestsPerSecond": 8000}}})
    took = wait_until(lambda: plan_id(admin) not in ("", before), "another plan")
    assert took < 1.0 + PLAN_SECONDS
    wait_until(
        lambda: admin.get("WorkloadClass", "decode-heavy")["status"]["observedGeneration"] == 2, "generation seen"
    )


def test_enforce_makes_routes_limits_and_the_plan(admin: Admin, operator: OperatorProcess) -> None:
    declare(admin, fleet(), *two_classes())
    wait_until(lambda: names(admin, "HTTPRoute") == ["decode-heavy", "prefill-heavy"], "a route per class")
    admin.wait_for("InferenceFleet", "fleet", "Programmed", "True")
    assert names(admin, "ConfigMap") == ["fleet-plan"]
    settle(admin, operator)
    limits = policy_limits(admin)
    assert limits["decode-heavy"] is not None, "a rationed class has a rate limit"
    assert limits.get("prefill-heavy") is None, "a class that is planned in full has none"
    shown = admin.get("WorkloadClass", "decode-heavy")["status"]["limit"]
    assert shown.endswith("/s")


def test_deleting_a_class_removes_what_we_own(admin: Admin, operator: OperatorProcess) -> None:
    declare(admin, fleet(), *two_classes())
    wait_until(lambda: len(names(admin, "HTTPRoute")) == 2, "two routes")
    admin.delete("WorkloadClass", "prefill-heavy")
    wait_until(lambda: names(admin, "HTTPRoute") == ["decode-heavy"], "its route is gone")
    wait_until(lambda: "prefill-heavy" not in names(admin, "BackendTrafficPolicy"), "its policy is gone")
    wait_until(lambda: admin.get("InferenceFleet", "fleet")["status"]["classes"] == 1, "the plan has one class")
    wait_until(lambda: bool(_told(admin, "ClassRemoved")), "an event says that its traffic has no route")


def test_deleting_the_last_class_and_the_fleet_leaves_nothing_of_ours(admin: Admin, operator: OperatorProcess) -> None:
    declare(admin, fleet(), *two_classes())
    wait_until(lambda: len(names(admin, "HTTPRoute")) == 2, "two routes")
    for name in ("decode-heavy", "prefill-heavy"):
        admin.delete("WorkloadClass", name)
    admin.wait_for("InferenceFleet", "fleet", "Ready", "False")
    admin.delete("InferenceFleet", "fleet")
    wait_until(lambda: not any(names(admin, kind) for kind in OWNED), "everything of ours is collected")
    assert [item["metadata"]["name"] for item in admin.all("Gateway")] == ["gateway"]


def test_users_objects_bear_no_finalizer_and_no_annotation_of_ours(admin: Admin, operator: OperatorProcess) -> None:
    declare(admin, fleet(), *two_classes())
    admin.wait_for("InferenceFleet", "fleet", "Programmed", "True")
    for kind in ("InferenceFleet", "WorkloadClass", "IterationProfile", "Gateway"):
        for item in admin.all(kind):
            assert "finalizers" not in item["metadata"], item["metadata"]
            assert item["metadata"].get("annotations", {}) == {}, item["metadata"]


def is_at_rest(admin: Admin, operator: OperatorProcess) -> bool:
    """Whether some passes leave everything as it is."""
    before = everything(admin)
    operator.wait_for_passes(2, "fleet", admin.namespace)
    return everything(admin) == before


def test_neither_another_pass_nor_a_restart_writes_anything(admin: Admin, operator: OperatorProcess) -> None:
    declare(admin, fleet(), *two_classes())
    wait_until(lambda: policy_limits(admin).get("decode-heavy") is not None, "a limit")
    wait_until(lambda: is_judged(admin), "the time that a proxy is given to follow is over", timeout_seconds=60.0)
    wait_until(lambda: is_at_rest(admin, operator), "limits have reached the plan", timeout_seconds=60.0)
    before = everything(admin)
    operator.wait_for_passes(3, "fleet", admin.namespace)
    assert everything(admin) == before
    assert operator.stop() == 0
    operator.start()
    operator.wait_for_passes(3, "fleet", admin.namespace)
    assert everything(admin) == before


@pytest.mark.parametrize("mode", ["Observe", "Advise"])
def test_looking_creates_nothing(admin: Admin, operator: OperatorProcess, mode: str) -> None:
    declare(admin, fleet(mode), *two_classes())
    admin.wait_for("InferenceFleet", "fleet", "Ready", "True")
    operator.wait_for_passes(2, "fleet", admin.namespace)
    assert [names(admin, kind) for kind in OWNED] == [[], [], []]
    programmed = admin.condition("InferenceFleet", "fleet", "Programmed")
    assert (programmed["status"], programmed["reason"]) == ("False", "NotEnforcing")
    assert ("would change" in programmed["message"]) == (mode == "Advise")


def test_leaving_enforce_removes_limits_and_keeps_routes(admin: Admin, operator: OperatorProcess) -> None:
    declare(admin, fleet(), *two_classes())
    wait_until(lambda: policy_limits(admin).get("decode-heavy") is not None, "a limit")
    settle(admin, operator)
    routes = {item["metadata"]["name"]: item["spec"] for item in admin.all("HTTPRoute")}
    admin.edit("InferenceFleet", "fleet", {"spec": {"mode": "Observe"}})
    wait_until(lambda: not any(policy_limits(admin).values()), "no limit")
    assert {item["metadata"]["name"]: item["spec"] for item in admin.all("HTTPRoute")} == routes
    operator.wait_for_passes(2, "fleet", admin.namespace)
    before = admin.versions(EVERYTHING)
    operator.wait_for_passes(2, "fleet", admin.namespace)
    assert admin.versions(EVERYTHING) == before, "once left, nothing is written any longer"


def test_a_profile_that_is_missing_is_named_and_its_arrival_heals(admin: Admin, operator: OperatorProcess) -> None:
    admin.apply(gateway())
    for document in (fleet("Observe"), *two_classes()):
        admin.apply(document)
    found = admin.wait_for("InferenceFleet", "fleet", "ResolvedRefs", "False")
    assert found["reason"] == "ProfileNotFound"
    assert "law" in found["message"]
    wait_until(lambda: bool(_told(admin, "ProfileNotFound")), "one event")
    admin.apply(PROFILE)
    admin.wait_for("InferenceFleet", "fleet", "Ready", "True")
    assert len(_told(admin, "ProfileNotFound")) == 1


def test_a_class_without_a_fleet_says_so(admin: Admin, operator: OperatorProcess) -> None:
    admin.apply(workload("lonely", 300, 100, of="nowhere"))
    found = admin.wait_for("WorkloadClass", "lonely", "ResolvedRefs", "False")
    assert found["reason"] == "FleetNotFound"


@pytest.mark.parametrize(
    ("documents", "type_", "reason"),
    [
        pytest.param([fleet("Observe")], "Solved", "EmptyFleet", id="a fleet without classes"),
        pytest.param([WITHOUT_PODS, *two_classes()], "Solved", "NoReplicas", id="a pool whose Pods are gone"),
        pytest.param(
            [
                fleet("Observe"),
                workload("dear", 300, 1000, tier="BestEffort", prices=prices("9")),
                workload("cheap", 300, 1000, tier="Protected", prices=prices("1")),
            ],
            "Accepted",
            "ContradictoryPrices",
            id="prices that contradict tiers",
        ),
    ],
)
def test_bad_input_is_a_condition_with_a_reason(
    admin: Admin, operator: OperatorProcess, documents: list[dict[str, Any]], type_: str, reason: str
) -> None:
    declare(admin, *documents)
    wait_until(lambda: admin.condition("InferenceFleet", "fleet", type_).get("reason") == reason, f"{type_}: {reason}")
    assert admin.condition("InferenceFleet", "fleet", type_)["status"] == "False"
    assert admin.condition("InferenceFleet", "fleet", "Ready")["status"] == "False"


def test_the_credentials_of_prometheus_are_shown_nowhere(admin: Admin, operator: OperatorProcess) -> None:
    secret = "correct-horse-battery-staple"
    admin.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": {"token": secret}})
    metrics = {"prometheusUrl": "http://127.0.0.1:9", "credentialsSecretRef": {"name": "login"}, "timeoutSeconds": 1}
    declare(admin, fleet("Observe", metrics=metrics), *two_classes())
    found = admin.wait_for("InferenceFleet", "fleet", "MetricsAvailable", "False")
    assert found["reason"] == "PrometheusUnreachable"
    assert admin.condition("InferenceFleet", "fleet", "ResolvedRefs")["status"] == "True"
    told = str([admin.all(kind) for kind in EVERYTHING])
    assert secret not in operator.log() + told + operator.get("/metrics")[1]


def test_credentials_that_are_missing_are_named(admin: Admin, operator: OperatorProcess) -> None:
    metrics = {"prometheusUrl": "http://127.0.0.1:9", "credentialsSecretRef": {"name": "nowhere"}, "timeoutSeconds": 1}
    declare(admin, fleet("Observe", metrics=metrics), *two_classes())
    found = admin.wait_for("InferenceFleet", "fleet", "ResolvedRefs", "False")
    assert found["reason"] == "SecretNotFound"
    assert "nowhere" in found["message"]


def test_a_prometheus_that_hangs_holds_up_neither_plan_nor_others(admin: Admin, operator: OperatorProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        metrics = {"prometheusUrl": f"http://127.0.0.1:{silent.getsockname()[1]}", "timeoutSeconds": 30}
        declare(admin, fleet("Observe", name="slow", metrics=metrics), workload("one", 300, 1000, of="slow"))
        wait_until(lambda: plan_id(admin, "slow") != "", "a plan without metrics", timeout_seconds=10.0)
        declare(admin, fleet("Observe"), *two_classes())
        wait_until(lambda: plan_id(admin) != "", "the other fleet's plan", timeout_seconds=10.0)
        operator.wait_for_passes(2, "fleet", admin.namespace)
        assert operator.get("/healthz")[0] == 200
        admin.delete("WorkloadClass", "one")
        admin.delete("InferenceFleet", "slow")
        wait_until(lambda: 'fleet="slow"' not in operator.get("/metrics")[1], "the fleet's series are gone")


def test_an_operator_without_an_api_server_says_so(refused: Callable[..., str], tmp_path: Path) -> None:
    nowhere = tmp_path / "kubeconfig"
    nowhere.touch()
    assert "the API server cannot be used" in refused(f"--kubeconfig={nowhere}")


def _told(admin: Admin, reason: str) -> list[dict[str, Any]]:
    return [event for event in admin.all("Event") if event["reason"] == reason]


@pytest.fixture(autouse=True)
def _no_traceback(operator: OperatorProcess) -> Iterator[None]:
    yield
    assert "Traceback" not in operator.log()
