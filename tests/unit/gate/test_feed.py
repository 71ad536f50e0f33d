"""Which fleets the gate's feed lets go of, and which it keeps although they cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.control.fleets import PROFILE, fleet, two_classes

from sluice.gate.assembly import Choices, may_hold
from sluice.gate.feed import Feed, read_world

GATED: dict[str, Any] = {"kind": "EnvoyGateway", "gate": "Enabled"}
LAW, CLASSES = [dict(PROFILE)], two_classes()


def enforcing(mode: str = "Enforce", **plane: str) -> list[dict[str, Any]]:
    return [fleet(mode, dataPlane={**GATED, **plane})]


def write(folder: Path, documents: list[dict[str, Any]], broken: str = "") -> None:
    """The manifests, and beside them what may be no manifest."""
    (folder / "all.yaml").write_text(yaml.safe_dump_all(documents))
    (folder / "other.yaml").write_text(broken)


@pytest.mark.parametrize(
    ("documents", "broken", "holds"),
    [
        pytest.param([*enforcing(), *CLASSES], "", True, id="its profile is gone"),
        pytest.param([*enforcing(), *LAW], "", True, id="its classes are gone"),
        pytest.param([*enforcing("Observe"), *CLASSES], "", False, id="it looks, and its profile is gone"),
        pytest.param([*enforcing(gate="Shadow"), *CLASSES], "", False, id="a shadow, and its profile is gone"),
        pytest.param([*LAW, *CLASSES], "", False, id="it is gone"),
        pytest.param([*LAW, *CLASSES], "kind: [", True, id="it is not there, and something cannot be read"),
        pytest.param([*enforcing("Observe"), *CLASSES], "kind: [", False, id="it looks, whatever cannot be read"),
        pytest.param([*enforcing(), *LAW, *CLASSES], "", True, id="nothing is wrong"),
    ],
)
@pytest.mark.parametrize("named", ["fleet", None])
def test_a_gate_holds_only_while_its_fleet_may_still_want_it(
    tmp_path: Path, documents: list[dict[str, Any]], broken: str, holds: bool, named: str | None
) -> None:
    write(tmp_path, [*enforcing(), *LAW, *CLASSES])
    feed = Feed(
        world=read_world(tmp_path, named),
        choices=Choices(),
        take=lambda terms, fresh: None,
        problem=lambda why: None,
        manifests=tmp_path,
        fleet_name=named,
    )
    feed.look_at_manifests()
    assert may_hold(feed.world.fleet)
    before = feed.world
    write(tmp_path, documents, broken)
    feed.look_at_manifests()
    assert may_hold(feed.world.fleet) == holds
    assert feed.world.classes == before.classes, "its routes are known as before"
    write(tmp_path, [*enforcing(), *LAW, *CLASSES], " ")
    feed.look_at_manifests()
    assert feed.world == before, "and it takes up again"
