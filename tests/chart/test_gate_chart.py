"""The chart's gate: off unless asked for, restricted, with least rights, and called by the name the operator writes."""

from __future__ import annotations

import typer
from tests.chart.conftest import Render
from tests.chart.test_chart import of_kind

from sluice.cli.app import application
from sluice.model.gate import GATE_PORT, gate_service

ON = ("gate.enabled=true", "gate.fleet=chat-fleet")
CHOSEN = (
    "gate.ungatedPaths={/probe}",
    "gate.shadow=true",
    "gate.refuseLate=true",
    "gate.bytesPerToken=3.5",
    "gate.rampSeconds=60",
)


def test_without_asking_there_is_no_gate(render: Render) -> None:
    for document in render():
        assert "gate" not in document["metadata"]["name"]


def test_policies_of_the_operator_find_the_service(render: Render) -> None:
    found = [one for one in of_kind(render(*ON), "Service") if one["metadata"]["name"] == gate_service("chat-fleet")]
    assert len(found) == 1
    ports = {port["name"]: port for port in found[0]["spec"]["ports"]}
    assert ports["grpc"]["port"] == GATE_PORT
    assert ports["grpc"]["appProtocol"] == "kubernetes.io/h2c"


def test_the_pod_is_restricted_and_understands_every_flag(render: Render) -> None:
    (deployment,) = [
        one
        for one in of_kind(render(*ON, *CHOSEN), "Deployment")
        if one["metadata"]["name"] == gate_service("chat-fleet")
    ]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    command, *flags = container["args"]
    run = typer.main.get_command(application)
    context = run.make_context("sluice", [command, *flags], resilient_parsing=True)
    known = run.get_command(context, command)  # type: ignore[attr-defined]  # a group has commands
    parsed = known.make_context(command, list(flags), parent=context)
    assert parsed.params["fleet"] == "chat-fleet"
    assert parsed.params["ungated_path"] == ["/probe"]
    assert (parsed.params["shadow"], parsed.params["refuse_late"]) == (True, True)
    assert (parsed.params["bytes_per_token"], parsed.params["ramp_seconds"]) == (3.5, 60.0)
    assert pod["terminationGracePeriodSeconds"] > parsed.params["drain_seconds"]


FOLLOWED = (
    "inferencefleets",
    "workloadclasses",
    "iterationprofiles",
    "pods",
    "endpointslices",
    "httproutes",
    "configmaps",
)


def test_the_gate_may_read_and_hold_its_lease_and_nothing_more(render: Render) -> None:
    (role,) = [one for one in of_kind(render(*ON), "Role") if one["metadata"]["name"] == gate_service("chat-fleet")]
    rights = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    seen = {(resource, verb) for resource in FOLLOWED for verb in ("list", "watch")}
    assert rights == seen | {("leases", verb) for verb in ("create", "get", "update")}
    named = {resource: rule.get("resourceNames") for rule in role["rules"] for resource in rule["resources"]}
    assert named["configmaps"] == ["chat-fleet-plan"]
    assert named["leases"] == [gate_service("chat-fleet")], "the one that may be changed"
    assert not any("secrets" in rule["resources"] for rule in role["rules"])


def test_the_active_gate_can_be_evicted(render: Render) -> None:
    (budget,) = of_kind(render(*ON), "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 2, "only the active one is ready: a minimum would block every drain"
