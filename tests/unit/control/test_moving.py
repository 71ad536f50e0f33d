"""A class moves from one fleet to another: what the old one may still write, and what it leaves."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from tests.control.fleets import PROFILE, fleet, two_classes
from tests.unit.control.pass_world import KEY, Here, Start

from sluice.api.manifests import parse
from sluice.control.enforcing import handed_over
from sluice.control.ports import WorldView

MOVED, STAYING = "decode-heavy", "prefill-heavy"
ROUTE_REF: dict[str, Any] = {"routeRef": {"name": "theirs", "ruleName": "one"}, "match": None}


def world(mode: str = "Enforce", kind: str = "EnvoyGateway", *, old: bool = True, **moved: Any) -> WorldView:
    """One class is the second fleet's by now; ``mode`` and ``kind`` are that fleet's, ``moved`` the class's."""
    classes = []
    for entry in two_classes():
        spec = {**entry["spec"]}
        if entry["metadata"]["name"] == MOVED:
            spec |= {"fleetRef": {"name": "second"}, **moved}
        classes.append({**entry, "spec": {key: value for key, value in spec.items() if value is not None}})
    documents = [dict(PROFILE), fleet(mode, kind=kind, name="second"), *classes, *([fleet()] if old else [])]
    read = parse(yaml.safe_dump_all(documents), "test")
    assert read.errors == ()
    return WorldView(fleets=read.fleets, classes=read.classes, profiles=read.profiles)


def unmoved() -> WorldView:
    return world(fleetRef={"name": "fleet"})


@pytest.mark.parametrize(
    ("view", "left"),
    [
        pytest.param(world(), {MOVED}, id="its new fleet enforces there too"),
        pytest.param(world("Observe"), set(), id="its new fleet writes nothing"),
        pytest.param(world(kind="ConfigMap"), set(), id="its new fleet makes no routes"),
        pytest.param(world(fleetRef={"name": "third"}), set(), id="its new fleet does not exist"),
        pytest.param(world(**ROUTE_REF), set(), id="it is on a route of the user's now"),
        pytest.param(unmoved(), set(), id="it did not move"),
    ],
)
def test_which_routes_are_left_to_the_new_fleet(view: WorldView, left: set[str]) -> None:
    assert handed_over(view, KEY) == left


async def test_a_pass_tells_which_classes_went_elsewhere(started: Start) -> None:
    here = Here(world())
    await started(here).run(1)
    (order,) = here.orders
    assert order.handed_over == {MOVED}
    assert [workload.name for workload in order.classes] == [STAYING]


async def test_a_fleet_that_goes_with_its_class_elsewhere_leaves_that_class_alone(started: Start) -> None:
    here = Here(unmoved())
    operator = started(here)
    await operator.run(5)
    assert here.limit is not None
    here.shown = world(old=False)
    await operator.passes.end(KEY)
    last = here.orders[-1]
    assert [workload.name for workload in last.classes] == [STAYING]
    assert [target.name for target in last.targets.classes] == [STAYING]
    assert last.handed_over == {MOVED}
