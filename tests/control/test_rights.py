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


GATEWAYS = "gateways"
"""Where the proxies run, as Envoy Gateway's do in a namespace of its own."""


@pytest.fixture
def granted(admin: Admin) -> Admin:
    """A namespace, and one with proxies, in which the chart's Roles are bound to the operator's user."""
    if charttools.missing():
        absent("helm is not here: run python tests/chart/programs.py")
    helm = str(charttools.cache_folder() / "helm")
    settings = f"--set=rbac.proxyNamespaces={{{GATEWAYS}}}"
    command = [helm, "template", "sluice", str(CHART), "--namespace", admin.namespace, settings]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    admin.within(GATEWAYS)
    for document in yaml.safe_load_all(rendered):
        if document and document["kind"] in ("Role", "RoleBinding"):
            if document["kind"] == "RoleBinding":
                document["subjects"] = [
                    {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": OPERATOR_USER}
                ]
            admin.apply(document)
    return admin


def declare_proxy(admin: Admin, name: str, namespace: str) -> None:
    """A ready Pod with the labels that Envoy Gateway gives the proxies of ``namespace``'s Gateway."""
    labels = {
        "app.kubernetes.io/managed-by": "envoy-gateway",
        "gateway.envoyproxy.io/owning-gateway-name": "gateway",
        "gateway.envoyproxy.io/owning-gateway-namespace": namespace,
    }
    metadata = {"name": name, "labels": labels}
    there = admin.within(GATEWAYS)
    there.apply({"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {"containers": [ENVOY]}})
    there.edit_status("Pod", name, {"status": {"conditions": [{"type": "Ready", "status": "True"}]}})


ENVOY = {"name": "envoy", "image": "envoy"}


def is_uncounted(admin: Admin) -> bool:
    return admin.condition("InferenceFleet", "fleet", "Degraded").get("reason") == "ProxiesUncounted"


def test_the_charts_rights_are_enough(
    granted: Admin,
    control_plane: ControlPlane,
    operator: OperatorProcess,
    other_operator: Callable[..., OperatorProcess],
) -> None:
    operator.stop()  # the one with all rights would do the work
    kubeconfig = control_plane.kubeconfig(control_plane.operator_token, granted.namespace)
    least = other_operator(f"--kubeconfig={kubeconfig}", f"--proxy-namespace={GATEWAYS}")
    least.start()
    for document in (PROFILE, gateway(), fleet(), *two_classes()):
        granted.apply(document)
    granted.wait_for("InferenceFleet", "fleet", "Programmed", "True")
    wait_until(lambda: len(granted.all("HTTPRoute")) == 2, "routes")
    wait_until(lambda: is_uncounted(granted), "that no proxy is seen is told")
    for name in ("one", "two"):
        declare_proxy(granted, name, granted.namespace)
    wait_until(lambda: not is_uncounted(granted), "proxies are counted where they run")
    wait_until(lambda: bool(granted.all("Event")), "events")
    granted.delete("WorkloadClass", "prefill-heavy")
    wait_until(lambda: len(granted.all("HTTPRoute")) == 1, "a route less")
    least.wait_for_passes(2, "fleet", granted.namespace)
    assert "forbidden" not in least.log().lower(), least.log()


def test_without_rights_it_says_which_it_lacks(
    admin: Admin, control_plane: ControlPlane, refused: Callable[..., str]
) -> None:
    kubeconfig = control_plane.kubeconfig(control_plane.operator_token, admin.namespace)
    assert "not permitted to list inferencefleets" in refused(f"--kubeconfig={kubeconfig}")
