"""Limits whose fleet went, left Enforce or moved away while no operator ran: nobody else would ever lift them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.control.fleets import PROFILE, fleet, gateway, two_classes
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import wait_until
from tests.controlplane.operator_process import OperatorProcess

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(300)]


def limits(admin: Admin) -> dict[str, Any]:
    return {
        item["metadata"]["name"]: item["spec"]["rateLimit"]
        for item in admin.all("BackendTrafficPolicy")
        if "rateLimit" in item["spec"]
    }


def parallel(admin: Admin) -> set[int]:
    return {item["spec"]["circuitBreaker"]["maxParallelRequests"] for item in admin.all("BackendTrafficPolicy")}


def delete_the_fleet(admin: Admin) -> None:
    admin.delete("InferenceFleet", "fleet")


def move_to_another_data_plane(admin: Admin) -> None:
    admin.edit("InferenceFleet", "fleet", {"spec": {"dataPlane": {"kind": "ConfigMap"}}})


def leave_enforce_without_a_profile(admin: Admin) -> None:
    admin.delete("IterationProfile", "law")
    admin.edit("InferenceFleet", "fleet", {"spec": {"mode": "Observe"}})


CHANGES = (delete_the_fleet, move_to_another_data_plane, leave_enforce_without_a_profile)


@pytest.mark.parametrize("is_down", [True, False], ids=["while it is down", "while it runs"])
@pytest.mark.parametrize("change", CHANGES, ids=[change.__name__.replace("_", " ") for change in CHANGES])
def test_limits_that_no_fleet_holds_are_lifted(
    admin: Admin, operator: OperatorProcess, change: Callable[[Admin], None], is_down: bool
) -> None:
    for document in (PROFILE, gateway(), fleet(), *two_classes()):
        admin.apply(document)
    wait_until(lambda: "decode-heavy" in limits(admin), "a limit")
    if is_down:
        operator.stop()
        change(admin)
        assert limits(admin), "nobody is there to lift it"
        operator.start()
    else:
        change(admin)
    wait_until(lambda: not limits(admin), "no limit is left")
    wait_until(lambda: parallel(admin) == {4_294_967_295}, "no fence and no threshold of Envoy's own is left")
    assert {item["metadata"]["name"] for item in admin.all("HTTPRoute")} == {"decode-heavy", "prefill-heavy"}
    assert all("finalizers" not in item["metadata"] for item in admin.all("WorkloadClass"))


def test_a_fleet_is_gone_at_once_although_no_operator_runs(admin: Admin, operator: OperatorProcess) -> None:
    for document in (PROFILE, gateway(), fleet(), *two_classes()):
        admin.apply(document)
    wait_until(lambda: "decode-heavy" in limits(admin), "a limit")
    operator.stop()
    for kind in ("InferenceFleet", "WorkloadClass", "IterationProfile"):
        for item in admin.all(kind):
            admin.delete(kind, item["metadata"]["name"])
        assert admin.all(kind) == [], "no finalizer holds it up"
    wait_until(lambda: not admin.all("HTTPRoute") + admin.all("BackendTrafficPolicy"), "what was ours is collected")
    operator.start()
