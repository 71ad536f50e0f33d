"""Single passes: modes, edits under way, what goes, failures."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest
from tests.control.fleets import fleet, two_classes
from tests.unit.control.pass_world import HEAVY, KEY, Here, Start, view

from sluice.actuate.order import has_limits
from sluice.control.ports import Ref, WorldView
from sluice.model.fleet import DataPlaneKind, GateUse


async def test_a_rationed_class_is_limited_and_settles(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(5)
    assert here.limit == pytest.approx(4.6833, rel=1e-3)
    assert here.condition("Programmed")["status"] == "True"
    writes, events = here.writes, len(here.events)
    await operator.run(5)
    assert (here.writes, len(here.events)) == (writes, events)


@pytest.mark.parametrize("mode", ["Observe", "Advise"])
async def test_looking_orders_nothing(started: Start, mode: str) -> None:
    here = Here(view(mode))
    await started(here).run(3)
    assert here.orders == []
    assert ("would change" in here.condition("Programmed")["message"]) == (mode == "Advise")


async def test_leaving_enforce_opens_once_and_a_return_starts_from_open(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(5)
    here.shown = view("Observe")
    await operator.run(1)
    assert here.limit is None
    orders = len(here.orders)
    await operator.run(3)
    assert len(here.orders) == orders
    assert here.held is not None
    assert all(target.weights for target in here.held.classes), "weights stay"


@pytest.mark.parametrize("limit", ["Rate", "None"])
async def test_leaving_enforce_takes_objectives_away(started: Start, limit: str) -> None:
    plane = {"kind": "EnvoyGateway", "limit": limit, "objectiveGroup": "llm-d.ai"}

    def ranked(mode: str) -> WorldView:
        pool = fleet()["spec"]["pools"][0] | {
            "backendRef": {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "engines"}
        }
        return view(mode, dataPlane=plane, gatewayRef={"name": "gateway"}, pools=[pool])

    here = Here(ranked("Enforce"))
    operator = started(here)
    await operator.run(5)
    assert here.held is not None
    assert has_limits(here.held) == (limit == "Rate")
    here.shown = ranked("Observe")
    orders = len(here.orders)
    await operator.run(4)
    assert [order.fleet.data_plane.objective_group for order in here.orders[orders:]] == [None]


@pytest.mark.parametrize("limit", ["Rate", "None"])
@pytest.mark.parametrize(
    ("plane", "left"),
    [
        pytest.param({"kind": "EnvoyGateway", "gate": "Enabled", "placement": "Gate"}, GateUse.DISABLED, id="objects"),
        pytest.param({"kind": "EnvoyGateway", "gate": "Shadow"}, GateUse.DISABLED, id="a shadow is in the way too"),
        pytest.param(
            {"kind": "EnvoyFiles", "gate": "Enabled", "gateAddress": "127.0.0.1:9002", "listenerPort": 10080},
            GateUse.SHADOW,
            id="in the files it is part of the bootstrap, and loses its fence",
        ),
    ],
)
@pytest.mark.parametrize("leave", ["Observe", "gone"])
async def test_leaving_enforce_takes_the_gate_away(
    started: Start, limit: str, plane: dict[str, Any], left: GateUse, leave: str
) -> None:
    def gated(mode: str) -> WorldView:
        edge: dict[str, Any] = {"gatewayRef": {"name": "gateway"}} if plane["kind"] == "EnvoyGateway" else {}
        return view(mode, dataPlane={**plane, "limit": limit}, **edge)

    here = Here(gated("Enforce"))
    operator = started(here)
    await operator.run(5)
    orders = len(here.orders)
    here.shown = replace(here.shown, fleets=()) if leave == "gone" else gated(leave)
    await operator.run(4)
    (order,) = here.orders[orders:]
    assert order.fleet.data_plane.gate is left
    assert not order.fleet.data_plane.gate_places


async def test_an_edit_under_way_is_planned_in_the_same_pass(started: Start) -> None:
    here = Here(view())
    other = view(classes=two_classes()[:1])

    def edit() -> None:
        here.shown, here.on_observe = other, None

    here.on_observe = edit
    await started(here).run(1)
    assert [[entry.name for entry in order.classes] for order in here.orders] == [["decode-heavy"]]


async def test_a_write_that_fails_is_told_and_does_not_count_as_done(started: Start) -> None:
    here = Here(view(), failing=True)
    operator = started(here)
    await operator.run(2)
    assert here.condition("Programmed")["reason"] == "WriteFailed"
    assert here.condition("Ready")["status"] == "False"
    assert here.statuses[Ref("WorkloadClass", "default", "decode-heavy")]["limit"] == ""
    here.failing = False
    await operator.run(1)
    assert here.condition("Programmed")["status"] == "True"


async def test_what_was_written_beside_a_problem_is_in_force_and_opened_on_leaving(started: Start) -> None:
    here = Here(view(), foreign=True)
    operator = started(here)
    await operator.run(5)
    assert here.condition("Programmed")["reason"] == "FieldConflict"
    assert here.statuses[Ref("WorkloadClass", "default", "decode-heavy")]["limit"] == "4.68/s"
    here.shown = view("Observe")
    await operator.run(1)
    assert here.limit is None


async def test_a_limit_that_could_not_be_lifted_on_leaving_is_tried_again(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(5)
    here.shown, here.stuck = view("Observe"), True
    await operator.run(2)
    assert here.limit is not None
    here.stuck = False
    await operator.run(1)
    assert here.limit is None


async def test_no_order_overtakes_one_that_still_hangs(started: Start) -> None:
    here = Here(view(), hold=threading.Event())
    operator = started(here)
    assert here.hold is not None
    await operator.run(3)
    assert len(here.orders) == 1
    assert "an earlier write" in here.condition("Programmed")["message"]
    here.hold.set()
    async with asyncio.timeout(10):
        while here.condition("Programmed")["status"] != "True":  # it comes back late
            await operator.run(1)


async def test_the_last_plan_stays_when_a_profile_goes(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(5)
    plan, held = here.statuses[Ref("InferenceFleet", *KEY)]["plan"], here.held
    here.shown = view(law=False)
    await operator.run(2)
    assert here.condition("ResolvedRefs")["reason"] == "ProfileNotFound"
    assert here.statuses[Ref("InferenceFleet", *KEY)]["plan"] == plan
    assert here.held == held


async def test_the_last_class_takes_its_limits_with_it(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(5)
    here.shown = view(classes=[])
    await operator.run(1)
    assert here.held is not None
    assert here.held.classes == ()
    assert here.condition("Solved")["reason"] == "EmptyFleet"


async def test_a_deleted_fleet_leaves_open_limits(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(5)
    await operator.passes.end(KEY)
    assert here.limit is None


async def left(key: tuple[str, str]) -> None:
    """Wait until nothing remains to be done for a fleet that is gone."""
    (late,) = (task for task in asyncio.all_tasks() if task.get_name() == f"leaving {'/'.join(key)}")
    async with asyncio.timeout(10):
        await late


async def test_what_the_first_write_of_a_deleted_fleet_wrote_after_all_is_taken_back(started: Start) -> None:
    here = Here(view(), hold=threading.Event())
    operator = started(here)
    assert here.hold is not None
    await operator.run(1)
    here.shown = replace(here.shown, fleets=(), classes=())
    await operator.passes.end(KEY)
    assert len(here.orders) == 1, "nothing overtakes a write that hangs"
    here.hold.set()
    await left(KEY)
    assert not has_limits(here.orders[1].targets)


async def test_a_fleet_that_is_back_by_then_keeps_what_its_own_passes_write(started: Start) -> None:
    here = Here(view(), hold=threading.Event())
    operator = started(here)
    assert here.hold is not None
    await operator.run(1)
    await operator.passes.end(KEY)
    await operator.run(1)
    here.hold.set()
    await left(KEY)
    assert len(here.orders) == 2, "the old fleet's write and the new one's, and none that opens"


async def test_a_fleet_that_moves_to_another_data_plane_leaves_open_limits_behind(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(5)
    moved = view()
    spec = moved.fleets[0].spec
    plane = spec.data_plane.model_copy(update={"kind": DataPlaneKind.ENVOY_FILES})
    fleet = moved.fleets[0].model_copy(update={"spec": spec.model_copy(update={"data_plane": plane})})
    here.shown = replace(moved, fleets=(fleet,))
    seen = len(here.orders)
    await operator.run(1)
    left, taken = here.orders[seen:]
    assert left.fleet.data_plane.kind is DataPlaneKind.CONFIG_MAP
    assert taken.fleet.data_plane.kind is DataPlaneKind.ENVOY_FILES
    assert [target.rate_limit for target in left.targets.classes] == [None, None]


async def test_a_class_without_a_fleet_is_told(started: Start) -> None:
    here = Here(replace(view(), fleets=()))
    await started(here).run(1)
    status = here.statuses[Ref("WorkloadClass", "default", "decode-heavy")]
    assert {"ResolvedRefs": "FleetNotFound"}.items() <= {c["type"]: c["reason"] for c in status["conditions"]}.items()


async def test_a_fleet_that_goes_before_its_classes_takes_its_limits_along(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(3)
    limits = [here.limit]
    here.shown = replace(here.shown, fleets=())
    await operator.run(2)
    limits.append(here.limit)
    assert [limit is None for limit in limits] == [False, True]
    assert here.held is not None
    assert here.held.of("decode-heavy") is not None, "routes and weights stay"


@pytest.mark.parametrize(("mode", "stays"), [("Enforce", True), ("Observe", False)])
async def test_a_fleet_that_cannot_be_resolved_can_still_leave_enforce(started: Start, mode: str, stays: bool) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(3)
    here.shown = view(mode, law=False)
    await operator.run(2)
    assert (here.limit is not None) == stays


async def test_a_limit_that_could_not_be_written_goes_on_from_where_it_stands(started: Start) -> None:
    here = Here(view(classes=[{**entry, "spec": {**entry["spec"], "priors": HEAVY}} for entry in two_classes()]))
    operator = started(here)
    await operator.run(2)
    before = here.limit
    assert before is not None
    here.failing = True
    await operator.run(4)
    here.failing = False
    await operator.run(1)
    assert here.limit is not None
    assert 0.8 * before - 1e-9 <= here.limit < before, "one step of a fifth, and not five of them"
