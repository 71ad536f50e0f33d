"""The operator with the rights that the chart grants and no others, on one namespace."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.chart import programs as charttools
from tests.control.conftest import OPERATOR_USER, absent
from tests.control.fleets import PROFILE, fleet, gateway, two_classes
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import ControlPlane, wait_until
from tests.controlplane.operator_process import OperatorProcess

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(300)]

CHART = Path(__file__).resolve().parents[2] / "charts" / "sluice"


@pytest.fixture
def granted(admin: Admin) -> Admin:
    """A namespace in which the chart's Role is bound to the operator's user."""
    if charttools.missing():
        absent("helm is not here: run python tests/chart/programs.py")
    helm = str(charttools.cache_folder() / "helm")
    command = [helm, "template", "sluice", str(CHART), "--namespace", admin.namespace]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for document in yaml.safe_load_all(rendered):
        if document and document["kind"] in ("Role", "RoleBinding"):
            if document["kind"] == "RoleBinding":
                document["subjects"] = [
                    {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": OPERATOR_USER}
                ]
            admin.apply(document)
    return admin


def test_the_charts_rights_are_enough(
    granted: Admin,
    control_plane: ControlPlane,
    operator: OperatorProcess,
    other_operator: Callable[..., OperatorProcess],
) -> None:
    operator.stop()  # the one with all rights would do the work
    try:
        kubeconfig = control_plane.kubeconfig(control_plane.operator_token, granted.namespace)
        least = other_operator(f"--kubeconfig={kubeconfig}")
        least.start()
        for document in (PROFILE, gateway(), fleet(), *two_classes()):
            granted.apply(document)
        granted.wait_for("InferenceFleet", "fleet", "Programmed", "True")
        wait_until(lambda: len(granted.all("HTTPRoute")) == 2, "routes")
        wait_until(lambda: bool(granted.all("Event")), "events")
        granted.delete("WorkloadClass", "prefill-heavy")
        wait_until(lambda: len(granted.all("HTTPRoute")) == 1, "a route less")
        least.wait_for_passes(2, "fleet", granted.namespace)
        assert "forbidden" not in least.log().lower(), least.log()
    finally:
        operator.start()


def test_without_rights_it_says_which_it_lacks(
    admin: Admin, control_plane: ControlPlane, other_operator: Callable[..., OperatorProcess]
) -> None:
    kubeconfig = control_plane.kubeconfig(control_plane.operator_token, admin.namespace)
    powerless = other_operator(f"--kubeconfig={kubeconfig}")
    assert powerless.wait() == 1
    assert "not permitted to list inferencefleets" in powerless.log()
    assert "Traceback" not in powerless.log()
