"""The plan's order as InferenceObjectives: a real API server with the real definition takes them, and loses them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.control.conftest import absent
from tests.control.fleets import PROFILE, fleet, gateway, two_classes
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import wait_until
from tests.controlplane.crds import install, objective_definition
from tests.controlplane.operator_process import OperatorProcess

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(300)]

GROUP = "inference.networking.x-k8s.io"
HEADER = "x-gateway-inference-objective"
POOL = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "engines"}


@pytest.fixture
def picked(admin: Admin) -> Admin:
    """A namespace with a fleet behind an InferencePool that asks for objectives."""
    definition = objective_definition()
    if definition is None:
        absent("the Gateway API inference extension's module cannot be had: install Go")
    install(admin, [definition])
    pool = fleet()["spec"]["pools"][0] | {"backendRef": POOL}
    plane = {"kind": "EnvoyGateway", "objectiveGroup": GROUP}
    for document in (PROFILE, gateway(), fleet(pools=[pool], dataPlane=plane), *two_classes()):
        admin.apply(document)
    return admin


def priorities(admin: Admin) -> dict[str, int]:
    return {item["metadata"]["name"]: item["spec"]["priority"] for item in admin.all("InferenceObjective")}


def named(admin: Admin) -> dict[str, Any]:
    """Class to the objective that its route names."""
    found = {}
    for item in admin.all("HTTPRoute"):
        (rule,) = item["spec"]["rules"]
        written = rule["filters"][0]["requestHeaderModifier"]["set"]
        found[item["metadata"]["name"]] = next((one["value"] for one in written if one["name"] == HEADER), None)
    return found


def test_objectives_carry_the_order_and_go_when_nobody_asks_for_them(picked: Admin, operator: OperatorProcess) -> None:
    order = {"prefill-heavy": 1, "decode-heavy": 0}
    wait_until(lambda: priorities(picked) == order, "both classes have objectives, what is planned in full goes first")
    (one, _) = picked.all("InferenceObjective")
    assert one["spec"]["poolRef"] == POOL
    wait_until(lambda: named(picked) == {"prefill-heavy": "prefill-heavy", "decode-heavy": "decode-heavy"}, "routes")
    before = picked.versions(["InferenceObjective"])
    picked.wait_for("InferenceFleet", "fleet", "Programmed", "True")

    picked.edit("InferenceFleet", "fleet", {"spec": {"dataPlane": {"objectiveGroup": None}}})
    wait_until(lambda: not priorities(picked), "the fleet asks for none any longer")
    wait_until(lambda: set(named(picked).values()) == {None}, "and no route names one")

    picked.edit("InferenceFleet", "fleet", {"spec": {"dataPlane": {"objectiveGroup": GROUP}}})
    wait_until(lambda: len(priorities(picked)) == 2, "it asks for them again")
    assert picked.versions(["InferenceObjective"]).keys() == before.keys()

    picked.edit("InferenceFleet", "fleet", {"spec": {"mode": "Observe"}})
    wait_until(lambda: set(named(picked).values()) == {None}, "the routes of a fleet that does not enforce name none")
    operator.wait_for_passes(1, "fleet", picked.namespace)
    wait_until(lambda: not priorities(picked), "and it orders nothing, whichever pass wrote last")


def test_an_objective_that_somebody_else_made_stays(picked: Admin, operator: OperatorProcess) -> None:
    theirs = {
        "apiVersion": f"{GROUP}/v1alpha2",
        "kind": "InferenceObjective",
        "metadata": {"name": "somebodys"},
        "spec": {"priority": 7, "poolRef": POOL},
    }
    picked.apply(theirs)
    wait_until(lambda: len(priorities(picked)) == 3, "both classes have objectives")
    picked.edit("InferenceFleet", "fleet", {"spec": {"dataPlane": {"objectiveGroup": None}}})
    wait_until(lambda: priorities(picked) == {"somebodys": 7}, "ours go")
