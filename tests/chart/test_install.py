"""The chart on a real API server: accepted under the restricted Pod Security Standard, with the least rights.

What the operator may do is asked of the server itself, with a token bound to the chart's
service account: the whole list of its rules, and one question per line of a table.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.controlplane.cluster import ControlPlane, wait_until

pytestmark = pytest.mark.controlplane

CHART = Path(__file__).resolve().parents[2] / "charts" / "sluice"
NAMESPACE, ELSEWHERE = "inference", "elsewhere"
CREDENTIALS = "prometheus-credentials"
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
OURS = ("inferencefleets", "workloadclasses", "iterationprofiles")
ROUTES, POLICIES, ENDPOINTS = "gateway.networking.k8s.io", "gateway.envoyproxy.io", "discovery.k8s.io"

Helm = Callable[..., subprocess.CompletedProcess[str]]
Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def kubectl(programs: Path, cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """Run kubectl as the administrator, or as whoever ``--token`` names; warnings are failures."""
    home = tmp_path_factory.mktemp("kubectl")
    config = cluster.kubeconfig()

    def run(*arguments: str, document: object = None) -> subprocess.CompletedProcess[str]:
        command = [str(programs / "kubectl"), "--kubeconfig", str(config), "--warnings-as-errors", *arguments]
        text = None if document is None else json.dumps(document)
        environment = {"HOME": str(home)}
        return subprocess.run(command, input=text, env=environment, capture_output=True, text=True, check=False)

    return run


def checked(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(helm: Helm, kubectl: Kubectl, cluster: ControlPlane) -> Iterator[str]:
    """Install the chart into a restricted namespace; the manifest that helm sent."""
    for name in (NAMESPACE, ELSEWHERE):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
        checked(kubectl("apply", "--filename=-", document=namespace))
    way_in = ("--kubeconfig", str(cluster.kubeconfig()), "--namespace", NAMESPACE)
    done = helm("install", "sluice", str(CHART), *way_in, "--set", f"rbac.credentialSecrets={{{CREDENTIALS}}}")
    assert done.returncode == 0, done.stderr
    yield checked(helm("get", "manifest", "sluice", *way_in))
    checked(helm("uninstall", "sluice", *way_in))


@pytest.fixture(scope="module")
def token(installed: str, kubectl: Kubectl) -> str:
    """A token bound to the chart's service account."""
    assert "kind: ServiceAccount" in installed
    return checked(kubectl("create", "token", "sluice", "--namespace", NAMESPACE)).strip()


def ask(kubectl: Kubectl, token: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The status of a review that the holder of ``token`` makes of itself."""
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    # kubectl validates by listing the definitions, which this token rightly may not.
    options = ("--token", token, "--validate=false", "--output=json")
    answer = json.loads(checked(kubectl("create", "--filename=-", *options, document=review)))
    status: dict[str, Any] = answer["status"]
    return status


def test_a_second_apply_of_the_manifest_warns_of_nothing(installed: str, kubectl: Kubectl) -> None:
    for document in yaml.safe_load_all(installed):
        checked(
            kubectl("apply", "--dry-run=server", "--server-side", "--force-conflicts", "-f", "-", document=document)
        )


def test_the_definitions_are_established(installed: str, kubectl: Kubectl) -> None:
    names = [f"{plural}.sluice.dev" for plural in OURS]
    checked(kubectl("wait", "--for=condition=Established", "--timeout=10s", "crd", *names))


def test_the_pod_comes_to_be_where_restricted_is_enforced(installed: str, kubectl: Kubectl) -> None:
    """Nothing runs it here; that it exists says that admission let it through."""

    def pods() -> list[Any]:
        listing: list[Any] = json.loads(checked(kubectl("get", "pods", "-n", NAMESPACE, "-o", "json")))["items"]
        return listing

    wait_until(lambda: len(pods()) == 1, "the controller manager creates the operator's pod", timeout_seconds=30)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        pytest.param("container", {"securityContext": {}}, id="a container that may gain rights"),
        pytest.param("pod", {"securityContext": {}}, id="a pod that may run as root"),
    ],
)
def test_the_same_pod_with_less_care_is_refused(
    installed: str, kubectl: Kubectl, part: str, change: dict[str, Any]
) -> None:
    """Or the test above would prove nothing."""
    (deployment,) = [d for d in yaml.safe_load_all(installed) if d["kind"] == "Deployment"]
    spec = deployment["spec"]["template"]["spec"]
    (spec if part == "pod" else spec["containers"][0]).update(change)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "careless", "namespace": NAMESPACE}, "spec": spec}
    done = kubectl("create", "--dry-run=server", "-f", "-", document=pod)
    assert done.returncode != 0
    assert 'violates PodSecurity "restricted' in done.stderr


Rule = tuple[str, str, str, str]
"""API group, resource, name of the one object or empty, verb."""


def rules(table: Iterable[tuple[str, Iterable[str], Iterable[str]]]) -> set[Rule]:
    return {
        (group, resource, "", verb) for group, resources, verbs in table for resource in resources for verb in verbs
    }


WATCHED = ("list", "watch")
EXPECTED = rules(
    [
        ("sluice.dev", OURS, WATCHED),
        ("sluice.dev", [f"{plural}/status" for plural in OURS], ["patch"]),
        ("", ["pods"], WATCHED),
        (ENDPOINTS, ["endpointslices"], WATCHED),
        (ROUTES, ["gateways"], WATCHED),
        (ROUTES, ["httproutes"], ["get", *WATCHED, "create", "patch", "delete"]),
        (POLICIES, ["backendtrafficpolicies", "envoyextensionpolicies"], ["get", "list", "create", "patch", "delete"]),
        ("", ["configmaps"], ["get", "create", "patch"]),
        ("", ["events"], ["create", "patch"]),
    ]
) | {("", "secrets", CREDENTIALS, "get")}


def held(kubectl: Kubectl, token: str, namespace: str) -> set[Rule]:
    """All that the holder of ``token`` may do in a namespace."""
    answer = ask(kubectl, token, "SelfSubjectRulesReview", {"namespace": namespace})
    return {
        (group, resource, name, verb)
        for rule in answer["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames") or [""]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize(
    ("namespace", "expected"),
    [
        pytest.param(NAMESPACE, EXPECTED, id="in its namespace it may do this and nothing more"),
        pytest.param(ELSEWHERE, set(), id="in another namespace it may do nothing"),
    ],
)
def test_the_service_account_holds_exactly_these_rights(
    token: str, kubectl: Kubectl, namespace: str, expected: set[Rule]
) -> None:
    nobody = checked(kubectl("create", "token", "default", "--namespace", ELSEWHERE)).strip()
    everybody = held(kubectl, nobody, namespace)
    assert everybody & EXPECTED == set(), "or the difference below would hide a right"
    assert held(kubectl, token, namespace) - everybody == expected


@pytest.mark.parametrize(
    ("verb", "group", "resource", "allowed"),
    [
        pytest.param("watch", "sluice.dev", "workloadclasses", True, id="it sees the classes"),
        pytest.param("patch", "sluice.dev", "inferencefleets/status", True, id="it tells the fleet's status"),
        pytest.param("patch", "sluice.dev", "inferencefleets", False, id="it never changes what the user declared"),
        pytest.param("list", "", "pods", True, id="it counts replicas"),
        pytest.param("delete", "", "pods", False, id="it never ends a replica"),
        pytest.param("patch", "apps", "deployments", False, id="it never scales"),
        pytest.param("patch", ROUTES, "httproutes", True, id="it sets weights"),
        pytest.param("patch", ROUTES, "gateways", False, id="it never changes a gateway"),
        pytest.param("delete", POLICIES, "backendtrafficpolicies", True, id="it takes its limits back"),
        pytest.param("create", "", "events", True, id="it tells what changed"),
        pytest.param("get", "", f"secrets:{CREDENTIALS}", True, id="it reads the credentials that are named"),
        pytest.param("get", "", "secrets:another", False, id="it reads no other secret"),
        pytest.param("list", "", "secrets", False, id="it lists no secrets"),
        pytest.param("create", "", "serviceaccounts/token", False, id="it makes no tokens"),
        pytest.param("create", "rbac.authorization.k8s.io", "roles", False, id="it grants nothing"),
    ],
)
def test_the_server_answers_for_each_deed(
    token: str, kubectl: Kubectl, verb: str, group: str, resource: str, allowed: bool
) -> None:
    resource, _, name = resource.partition(":")
    resource, _, subresource = resource.partition("/")
    attributes = {"namespace": NAMESPACE, "verb": verb, "group": group, "resource": resource}
    spec = {"resourceAttributes": attributes | {"subresource": subresource, "name": name}}
    assert ask(kubectl, token, "SelfSubjectAccessReview", spec)["allowed"] is allowed


def test_who_may_view_a_namespace_may_view_our_resources_there(installed: str, kubectl: Kubectl) -> None:
    assert "aggregate-to-view" in installed

    def viewer_reads_ours() -> bool:
        role = json.loads(checked(kubectl("get", "clusterrole", "view", "-o", "json")))
        return any("sluice.dev" in rule["apiGroups"] and "create" not in rule["verbs"] for rule in role["rules"])

    wait_until(viewer_reads_ours, "the controller manager aggregates the role", timeout_seconds=30)
