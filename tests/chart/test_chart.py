"""What the chart renders to, by real helm and without a cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from sluice.cli.app import application

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "sluice"
OPERATOR_KINDS = {"Role", "ClusterRole"}

Helm = Callable[..., subprocess.CompletedProcess[str]]
Render = Callable[..., list[dict[str, Any]]]


def of_kind(objects: Iterable[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in objects if document["kind"] == kind]


def operator_rules(objects: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rules of the operator's own roles: those that users' roles aggregate are not among them."""
    return [
        rule
        for document in objects
        if document["kind"] in OPERATOR_KINDS
        and not any("aggregate-to" in label for label in document["metadata"]["labels"])
        for rule in document["rules"]
    ]


def test_the_chart_passes_the_strict_lint(helm: Helm) -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


def test_the_chart_carries_the_very_definitions_of_the_repository() -> None:
    source = {path.name: path.read_bytes() for path in (ROOT / "crds").glob("*.yaml")}
    copy = {path.name: path.read_bytes() for path in (CHART / "crds").glob("*.yaml")}
    assert len(source) == 3
    assert copy == source, "run make crds"


def test_the_readme_describes_every_value() -> None:
    check = [sys.executable, str(ROOT / "tests" / "chart" / "values_table.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_schema_is_closed_at_every_level_it_describes() -> None:
    """A level without ``additionalProperties`` would let a misspelt value through."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert set(values) == set(schema["properties"]) - {"global"}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            assert set(value) <= set(schema["properties"][key]["properties"]), key
            assert schema["properties"][key]["additionalProperties"] is False, key


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        pytest.param("replicaCount=2", "replicaCount", id="a value that does not exist"),
        pytest.param("image.pullpolicy=Always", "pullpolicy", id="a value with a typing error"),
        pytest.param("image.pullPolicy=Sometimes", "pullPolicy", id="a word that is not one of the choices"),
        pytest.param("http.port=http", "port", id="a text where a number belongs"),
        pytest.param("http.port=80", "port", id="a port that a user who is not root cannot open"),
        pytest.param("runAsUser=0", "runAsUser", id="root"),
        pytest.param("image.digest=sha256:12", "digest", id="a digest that is too short"),
        pytest.param("watch.clusterWide=true,watch.namespaces={a}", "namespaces", id="all namespaces and some"),
    ],
)
def test_wrong_values_are_refused_by_name(helm: Helm, setting: str, named: str) -> None:
    done = helm("template", "sluice", str(CHART), "--set", setting)
    assert done.returncode != 0
    assert "schema" in done.stderr
    assert named in done.stderr


def test_the_pod_is_restricted(render: Render) -> None:
    (deployment,) = of_kind(render(), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {volume["name"]: "emptyDir" in volume for volume in pod["volumes"]} == {"tmp": True}
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
    assert {"startupProbe", "livenessProbe", "readinessProbe", "resources"} <= set(container)


def test_two_operators_never_run_at_once(render: Render) -> None:
    (deployment,) = of_kind(render(), "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize(
    ("settings", "roles", "namespaces"),
    [
        pytest.param((), {"Role"}, ["inference"], id="the release's namespace by default"),
        pytest.param(("watch.namespaces={a,b}",), {"Role"}, ["a", "b"], id="the namespaces that are named"),
        pytest.param(("watch.clusterWide=true",), {"ClusterRole"}, [None], id="the whole cluster only when asked"),
    ],
)
def test_rights_reach_as_far_as_the_watch(
    render: Render, settings: tuple[str, ...], roles: set[str], namespaces: list[str | None]
) -> None:
    objects = render(*settings, "rbac.aggregate=false")
    found = [document for document in objects if document["kind"] in OPERATOR_KINDS]
    assert {document["kind"] for document in found} == roles
    assert [document["metadata"].get("namespace") for document in found] == namespaces
    bindings = of_kind(objects, "RoleBinding") + of_kind(objects, "ClusterRoleBinding")
    assert [binding["roleRef"]["name"] for binding in bindings] == [role["metadata"]["name"] for role in found]


@pytest.mark.parametrize("settings", [(), ("watch.clusterWide=true",), ("rbac.proxyNamespaces={gateways}",)])
def test_no_rule_grants_more_than_it_spells_out(render: Render, settings: tuple[str, ...]) -> None:
    rules = operator_rules(render(*settings))
    assert rules != []
    for rule in rules:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        assert "secrets" not in rule["resources"]


def test_only_secrets_that_are_named_may_be_read(render: Render) -> None:
    rules = operator_rules(render("rbac.credentialSecrets={prometheus-token}"))
    assert [rule for rule in rules if "secrets" in rule["resources"]] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["prometheus-token"], "verbs": ["get"]}
    ]


@pytest.mark.parametrize(
    ("setting", "kinds"),
    [
        pytest.param("rbac.create=false", {"Role", "RoleBinding"}, id="roles made by someone else"),
        pytest.param("serviceAccount.create=false", {"ServiceAccount"}, id="a service account made by someone else"),
        pytest.param("rbac.aggregate=false", {"ClusterRole"}, id="nothing cluster-scoped"),
    ],
)
def test_what_strict_clusters_make_themselves_can_be_left_out(render: Render, setting: str, kinds: set[str]) -> None:
    assert {document["kind"] for document in render()} - {document["kind"] for document in render(setting)} == kinds


def test_the_metrics_service_finds_the_pod(render: Render) -> None:
    objects = render()
    (service,), (deployment,) = of_kind(objects, "Service"), of_kind(objects, "Deployment")
    template = deployment["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    named = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= named


def test_every_object_bears_the_recommended_labels(render: Render) -> None:
    labels = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "version", "part-of", "managed-by")}
    for document in render("watch.clusterWide=true"):
        assert labels | {"helm.sh/chart"} <= set(document["metadata"]["labels"]), document["kind"]


def test_the_digest_takes_the_place_of_the_tag(render: Render) -> None:
    digest = f"sha256:{'0' * 64}"
    (deployment,) = of_kind(render(f"image.digest={digest}", "image.tag=old"), "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"].endswith(f"/sluice@{digest}")


@pytest.mark.parametrize(
    "settings",
    [(), ("watch.namespaces={a,b}",), ("watch.clusterWide=true",), ("rbac.proxyNamespaces={gateways,more-gateways}",)],
)
def test_the_operator_understands_every_flag_that_the_deployment_gives(
    render: Render, settings: tuple[str, ...]
) -> None:
    """Parsed by the real command line, which then ends because there is no cluster to watch."""
    (deployment,) = of_kind(render(*settings), "Deployment")
    command, *flags = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    run = typer.main.get_command(application)
    context = run.make_context("sluice", [command, *flags], resilient_parsing=True)
    known = run.get_command(context, command)  # type: ignore[attr-defined]  # a group has commands
    parsed = known.make_context(command, list(flags), parent=context)
    assert parsed.params["http_port"] == 8080
    assert parsed.params["all_namespaces"] is ("--all-namespaces" in flags)
    assert len(parsed.params["namespace"] or ()) == sum(flag.startswith("--namespace=") for flag in flags)
    proxies = ["gateways", "more-gateways"] if "proxyNamespaces" in str(settings) else []
    assert list(parsed.params["proxy_namespace"] or ()) == proxies


@pytest.mark.parametrize("asked", [False, True])
def test_objectives_of_the_endpoint_picker_may_be_written_only_where_that_is_asked_for(
    render: Render, asked: bool
) -> None:
    roles = of_kind(render(f"rbac.inferenceObjectives={str(asked).lower()}"), "Role")
    written = {resource for role in roles for rule in role["rules"] for resource in rule["resources"]}
    assert ("inferenceobjectives" in written) is asked
