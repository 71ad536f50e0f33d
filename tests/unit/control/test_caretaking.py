"""When premises are cleared, and what counts as a fleet that enforces."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import yaml
from tests.control.fleets import PROFILE, fleet, two_classes

from sluice.actuate import leftovers
from sluice.actuate.kinds import EXTENSION_POLICY, TRAFFIC_POLICY
from sluice.actuate.kubernetes_api import Answer
from sluice.actuate.objects import label_value
from sluice.api.manifests import parse
from sluice.control.caretaking import AGAIN_SECONDS, SETTLED_SECONDS, Caretaker
from sluice.control.enforcing import enforcing
from sluice.control.ports import Ref, Refusal, World, WorldView
from sluice.model.decision import Receipt
from sluice.model.fleet import DataPlaneKind
from sluice.model.reasons import ConditionType, Finding, Reason

GATEWAY = DataPlaneKind.ENVOY_GATEWAY
FAILED = Receipt(
    problems=(Finding(condition=ConditionType.PROGRAMMED, reason=Reason.WRITE_FAILED, message="no answer"),)
)


def view(mode: str = "Enforce") -> WorldView:
    declared = parse(yaml.safe_dump_all([dict(PROFILE), fleet(mode), *two_classes()]), "test")
    assert declared.errors == ()
    return WorldView(fleets=declared.fleets, classes=declared.classes, profiles=declared.profiles)


@dataclass
class House:
    """World, premises and clock in one."""

    shown: WorldView = field(default_factory=view)
    seconds: float = 0.0
    cleared: int = 0
    receipt: Receipt = field(default_factory=Receipt)
    error: Exception | None = None
    often: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it was cleared three times."""

    def view(self) -> WorldView:
        return self.shown

    async def changed(self) -> frozenset[str]:
        return frozenset()

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def clear(self, world: World) -> Receipt:
        assert world is self
        self.cleared += 1
        if self.cleared >= 3:
            self.often.set()
        if self.error is not None:
            raise self.error
        return self.receipt


async def looks(house: House, *steps: Any) -> list[int]:
    """How often premises were cleared after a look at the start and after each step."""
    caretaker = Caretaker(world=house, premises=house, clock=house)
    counts = []
    for step in (lambda: None, *steps):
        step()
        await caretaker.look()
        counts.append(house.cleared)
    return counts


async def test_it_clears_at_the_start_when_fleets_change_and_every_few_minutes() -> None:
    house = House()

    def show(shown: WorldView) -> None:
        house.shown = shown

    def pass_time(seconds: float) -> None:
        house.seconds += seconds

    counts = await looks(
        house,
        lambda: None,
        lambda: show(replace(house.shown, classes=())),
        lambda: show(view("Observe")),
        lambda: pass_time(SETTLED_SECONDS / 2),
        lambda: pass_time(SETTLED_SECONDS / 2),
        lambda: pass_time(AGAIN_SECONDS / 2),
        lambda: pass_time(AGAIN_SECONDS / 2),
        lambda: show(WorldView()),
    )
    assert counts == [1, 1, 1, 2, 2, 3, 3, 4, 4], "a fleet that only looks and one that is gone hold nothing alike"


@pytest.mark.parametrize("house", [House(receipt=FAILED), House(error=TimeoutError("too slow"))], ids=["no", "late"])
async def test_what_failed_is_tried_at_every_look_and_told_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert await looks(house, lambda: None, lambda: None) == [1, 2, 3]
    assert len(caplog.records) == 1


async def test_it_looks_again_until_nothing_was_left() -> None:
    house = House(receipt=Receipt(removed=("InferenceObjective/demo/chat",)))

    def tidy() -> None:
        house.receipt = Receipt()

    assert await looks(house, tidy, lambda: None) == [1, 2, 2], "a pass that was under way may write after a look"


@dataclass(frozen=True)
class Refusing:
    """An API server that refuses everything."""

    status: int

    def send(self, *_: object, **__: object) -> Answer:
        return Answer(status=self.status)


def test_what_changed_meanwhile_is_no_success() -> None:
    item = {"metadata": {"namespace": "demo", "name": "chat", "uid": "u", "resourceVersion": "1"}}
    receipt = leftovers.lift(Refusing(409), leftovers.Remnants(objects=((EXTENSION_POLICY, item),)))
    assert len(receipt.problems) == 1
    assert not receipt.removed


async def test_what_was_lifted_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await looks(House(receipt=Receipt(written=("BackendTrafficPolicy/demo/chat",))))
    assert "lifted" in caplog.text


def test_a_fleet_that_cannot_be_read_may_enforce_anywhere() -> None:
    refusal = Refusal(ref=Ref("InferenceFleet", "demo", "new"), problems=("spec.x: unknown",))
    held = enforcing(WorldView(refusals=(refusal,)))
    assert all(("demo", "new") in keys for keys in held.values())


@pytest.mark.parametrize(
    ("shown", "held"),
    [
        pytest.param(view(), {("default", "fleet")}, id="it enforces there"),
        pytest.param(view("Advise"), set(), id="it only looks"),
        pytest.param(WorldView(classes=view().classes), set(), id="its classes are left without it"),
    ],
)
def test_which_fleets_hold_limits_at_the_gateway(shown: WorldView, held: set[tuple[str, str]]) -> None:
    assert enforcing(shown)[GATEWAY] == held


def test_remnants_of_living_fleets_are_left_alone_name_by_name() -> None:
    def owned(fleet_label: str, namespace: str = "demo") -> dict[str, Any]:
        return {"metadata": {"namespace": namespace, "name": "chat", "labels": {"sluice.dev/fleet": fleet_label}}}

    long_name = "f" * 70
    remnants = leftovers.Remnants(
        objects=(
            (TRAFFIC_POLICY, owned("alive")),
            (EXTENSION_POLICY, owned("gone")),
            (TRAFFIC_POLICY, owned("alive", "elsewhere")),
            (TRAFFIC_POLICY, owned(label_value(long_name))),
        )
    )
    left = remnants.without([("demo", "alive"), ("demo", long_name)])
    assert [(kind.name, item["metadata"]["namespace"]) for kind, item in left.objects] == [
        ("EnvoyExtensionPolicy", "demo"),
        ("BackendTrafficPolicy", "elsewhere"),
    ]


async def test_it_keeps_looking_until_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.control.caretaking.PERIOD_SECONDS", 0.0)
    house = House(receipt=FAILED)
    task = asyncio.create_task(Caretaker(world=house, premises=house, clock=house).keep())
    async with asyncio.timeout(5):
        await house.often.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
