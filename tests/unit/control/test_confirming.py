"""A plan that stays is told to be right now and then: not on every pass, and not by an operator that knows nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from tests.unit.actuate.fake_server import FakeServer
from tests.unit.actuate.fleets import fleet, order
from tests.unit.control.pass_world import KEY, Here, Start, view
from tests.unit.gate.test_edges import planned

from sluice.actuate.confirming import CONFIRM_SECONDS, is_due
from sluice.actuate.kubernetes_apply import KubernetesActuator
from sluice.actuate.port import Order
from sluice.control.account import confirmed_at
from sluice.control.files import StatusFiles
from sluice.control.ports import FleetKey
from sluice.gate.assembly import Choices
from sluice.gate.cluster_feed import Access, ClusterFeed
from sluice.gate.feed import Feed, World
from sluice.model.decision import Decision, Receipt, Targets
from sluice.model.fleet import ControlSettings, DataPlaneKind, SafePlan
from sluice.model.plan import Plan
from sluice.model.reasons import ConditionType, Finding, Reason

HOUR = 3600.0
STEP_SECONDS = 119.0


@pytest.mark.parametrize(
    ("told", "now", "due"),
    [
        pytest.param(None, 5.0, True, id="never told"),
        pytest.param(0.0, CONFIRM_SECONDS - 1.0, False, id="told a while ago"),
        pytest.param(0.0, CONFIRM_SECONDS, True, id="told ten minutes ago"),
        pytest.param(5 * HOUR, 0.0, True, id="the clock was set back"),
        pytest.param(0.0, None, False, id="not confirmed now"),
    ],
)
def test_when_a_plan_is_confirmed_again(told: float | None, now: float | None, due: bool) -> None:
    assert is_due(told, now) == due


TARGETS = Targets(plan_id="p", classes=())
BLIND = Finding(condition=ConditionType.DEGRADED, reason=Reason.BLIND, message="no fresh samples")


@pytest.mark.parametrize(
    ("targets", "findings", "safe_plan", "confirmed"),
    [
        pytest.param(TARGETS, (), SafePlan.OPEN, True, id="weighed against what was measured"),
        pytest.param(None, (), SafePlan.OPEN, False, id="kept, because no better one could be made"),
        pytest.param(TARGETS, (BLIND,), SafePlan.OPEN, False, id="blind, with open limits"),
        pytest.param(TARGETS, (BLIND,), SafePlan.PRIORS, True, id="blind, and planned by priors as declared"),
        pytest.param(None, (BLIND,), SafePlan.LAST_PLAN, False, id="blind, with the last plan"),
    ],
)
def test_what_is_held_for_want_of_better_is_not_confirmed(
    targets: Targets | None, findings: tuple[Finding, ...], safe_plan: SafePlan, confirmed: bool
) -> None:
    declared = fleet(DataPlaneKind.CONFIG_MAP, control=ControlSettings(safe_plan=safe_plan))
    decision = Decision(plan=None, targets=targets, adopted=False, findings=findings)
    assert confirmed_at(decision, declared, 7.0) == (7.0 if confirmed else None)


class Steady(Here):
    """A world in which nothing changes, written through the real adapters, with a gate behind each of them."""

    def __init__(self, out: Path) -> None:
        super().__init__(view())
        self.server, self.files, self.plan_file = FakeServer(), StatusFiles(out), out / "plan.default.fleet.json"
        self.gates: tuple[Feed, ...] = ()
        self.following: ClusterFeed | None = None
        self.files_seen: set[int] = set()

    def act(self, order: Order) -> Receipt:
        self.held = order.targets
        receipt = KubernetesActuator(self.server).act(order)
        if not self.gates:
            self.open_gates(World(fleet=order.fleet, classes=order.classes))
        return receipt

    async def keep_plan(self, key: FleetKey, plan: Plan, confirmed_at: float | None) -> None:
        await self.files.keep_plan(key, plan, confirmed_at)

    def open_gates(self, world: World) -> None:
        def feed(plan_file: Path | None) -> Feed:
            return Feed(
                world=world,
                choices=Choices(),
                take=lambda terms, fresh: None,
                problem=lambda why: None,
                plan_file=plan_file,
            )

        by_server = feed(None)
        self.gates = feed(self.plan_file), by_server
        nowhere = Access(configuration=kubernetes.client.Configuration(), namespace="default")
        self.following = ClusterFeed(
            access=nowhere,
            fleet_name="fleet",
            take_world=lambda world: None,
            take_plan=lambda plan: by_server.take_plan(plan, self.seconds),
            problem=lambda why: None,
        )

    def look(self) -> list[bool]:
        """Whether each gate goes by the plan now."""
        assert self.following is not None
        plans: dict[str, Mapping[str, Any]] = {**self.server.of("ConfigMap")}
        self.following._seen = {"configmaps": plans}
        self.following._tell_plan()
        self.files_seen.add(self.plan_file.stat().st_ino)
        for gate in self.gates:
            gate.look(self.seconds)
        return [gate.fresh for gate in self.gates]


async def test_a_steady_fleet_keeps_its_order_and_one_whose_operator_is_gone_loses_it(
    started: Start, tmp_path: Path
) -> None:
    here = Steady(tmp_path)
    operator = started(here)
    end = here.seconds + 3 * HOUR
    await operator.run(5)
    here.look()
    writes, told = here.server.version, set(here.files_seen)
    await operator.run(5)
    here.look()
    assert (here.server.version, here.files_seen) == (writes, told), "not on every pass"
    while here.seconds < end:
        await operator.run(1)
        here.seconds += STEP_SECONDS
        assert here.look() == [True, True]
    assert 0 < here.server.version - writes <= 3 * HOUR / CONFIRM_SECONDS
    for seconds, fresh in (
        (HOUR - 2 * STEP_SECONDS - CONFIRM_SECONDS, True),
        (CONFIRM_SECONDS + 4 * STEP_SECONDS, False),
    ):
        here.seconds += seconds
        assert here.look() == [fresh, fresh]
    await operator.run(1)
    assert here.look() == [True, True], "until it is back"


async def test_a_restart_leaves_a_young_file_alone_and_renews_an_old_one(tmp_path: Path) -> None:
    path, plan = tmp_path / "plan.default.fleet.json", Plan.model_validate_json(planned(chat={}))
    now = 1_767_225_600.0
    await StatusFiles(tmp_path).keep_plan(KEY, plan, now)
    os.utime(path, (now, now))
    before = path.stat().st_ino
    await StatusFiles(tmp_path).keep_plan(KEY, plan, now + CONFIRM_SECONDS / 2)
    assert path.stat().st_ino == before
    again = StatusFiles(tmp_path)
    await again.keep_plan(KEY, plan, None)
    assert path.stat().st_ino == before, "nor is one that nobody confirms"
    await again.keep_plan(KEY, plan, now + CONFIRM_SECONDS)
    assert path.stat().st_ino != before


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-01"])
def test_a_time_that_is_none_of_ours_is_replaced(text: str) -> None:
    server = FakeServer()
    one = replace(order(DataPlaneKind.CONFIG_MAP), plan=Plan.model_validate_json(planned(chat={})), confirmed_at=60.0)
    actuator = KubernetesActuator(server)
    actuator.act(one)
    (path,) = server.objects
    server.put(path, {**server.objects[path], "data": {**server.objects[path]["data"], "confirmed": text}})
    actuator.act(one)
    assert server.objects[path]["data"]["confirmed"] == "1970-01-01T00:01:00Z"
