"""``sluice plan --diff cluster``: the plan ConfigMap of a real API server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import ControlPlane

from sluice.actuate.plan_config_map import PLAN_KEY
from sluice.model.naming import plan_config_map

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(300)]

SAMPLE = Path(__file__).resolve().parents[2] / "crds" / "samples" / "two-class" / "two-class.yaml"


@pytest.fixture
def manifests(admin: Admin, tmp_path: Path) -> Path:
    """The two-class sample in the test's namespace."""
    documents = [document for document in yaml.safe_load_all(SAMPLE.read_text()) if document]
    for document in documents:
        document["metadata"]["namespace"] = admin.namespace
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return path


def asked(manifests: Path, kubeconfig: Path | str, *more: str) -> subprocess.CompletedProcess[str]:
    """One run of the command, as a user has it: the kubeconfig comes from the environment."""
    command = [sys.executable, "-m", "sluice", "plan", "-f", str(manifests), *more]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def stored(admin: Admin, plan: dict[str, Any]) -> None:
    """The plan where the operator stores it."""
    name = plan_config_map(plan["fleet"].partition("/")[2])
    admin.create(
        {
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": admin.namespace}, "data": {PLAN_KEY: json.dumps(plan)},
        }
    )  # fmt: skip


def test_the_plan_in_force_is_compared_with_what_would_be(
    control_plane: ControlPlane, admin: Admin, manifests: Path
) -> None:
    kubeconfig = control_plane.kubeconfig()
    missing = asked(manifests, kubeconfig, "--diff", "cluster")
    assert missing.returncode == 1
    assert "404" in missing.stderr
    plan = json.loads(asked(manifests, kubeconfig, "-o", "json").stdout)
    stored(admin, plan)
    same = asked(manifests, kubeconfig, "--diff", "cluster")
    assert same.returncode == 0, same.stderr
    assert f"no difference from plan {plan['planId']}" in same.stdout
    other = asked(manifests, kubeconfig, "--diff", "cluster", "--demand", "decode-heavy=x0.5", "-o", "json")
    difference = json.loads(other.stdout)["diff"]
    assert difference["planId"] == plan["planId"]
    assert {"class decode-heavy"} <= {change["subject"] for change in difference["changes"]}


def test_a_user_who_may_not_read_and_a_machine_without_kubeconfig_are_told(
    control_plane: ControlPlane, manifests: Path
) -> None:
    assert control_plane.operator_token is not None
    stranger = asked(manifests, control_plane.kubeconfig(control_plane.operator_token), "--diff", "cluster")
    nowhere = asked(manifests, manifests.with_name("no-such-kubeconfig"), "--diff", "cluster")
    assert (stranger.returncode, nowhere.returncode) == (1, 1)
    assert "403" in stranger.stderr
    assert "no kubeconfig" in nowhere.stderr
    assert "Traceback" not in stranger.stderr + nowhere.stderr
