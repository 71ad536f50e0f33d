"""Engines that became slower than their profile: condition, event, status, and the plan where allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from tests.unit.control.pass_world import KEY, Here, Operator, view

from sluice.control.ports import Ref, WorldView
from sluice.model.engine_sample import EngineSample
from sluice.model.fleet import Fleet, WorkloadClass
from sluice.model.snapshot import Observation
from sluice.observe.proxies import Proxies

RUNNING = 8.0


@dataclass
class Drifting(Here):
    """Engines that take ``slower`` times what their profile says."""

    slower: float = 1.0

    async def observe(
        self, fleet: Fleet, classes: Sequence[WorkloadClass], now: float, around: Proxies | None = None
    ) -> Observation:
        assert around is not None
        assert around.replicas != ()
        return Observation(engines=dict.fromkeys(around.replicas, self.sample(now)))

    def sample(self, now: float) -> EngineSample:
        gap = self.shown.profiles[0].spec.law().solo(RUNNING) * self.slower
        return EngineSample(
            at_seconds=now,
            inter_token_seconds=gap,
            running=RUNNING,
            generation_rate=RUNNING / gap,
            prompt_rate=0.0,
            prompt_tokens=0.0,
        )

    def view(self) -> WorldView:
        shown = super().view()
        dressed = []
        for profile in shown.profiles:
            ref = Ref("IterationProfile", profile.metadata.namespace, profile.metadata.name)
            status = type(profile.status).model_validate(self.statuses.get(ref, {}))
            dressed.append(profile.model_copy(update={"status": status}))
        return replace(shown, profiles=tuple(dressed))

    def types(self) -> set[str]:
        return {entry["type"] for entry in self.statuses[Ref("InferenceFleet", *KEY)]["conditions"]}


def shown(observed_law: str) -> WorldView:
    world = view()
    fleet = world.fleets[0]
    pools = tuple(pool.model_copy(update={"observed_law": observed_law}) for pool in fleet.spec.pools)
    return replace(world, fleets=(fleet.model_copy(update={"spec": fleet.spec.model_copy(update={"pools": pools})}),))


async def watched(here: Drifting, passes: int) -> None:
    operator = Operator(here)
    try:
        await operator.passes.survey(here.view())
        await operator.run(passes)
    finally:
        operator.crews.close()


def observed(here: Drifting) -> list[dict[str, object]]:
    entries = [status.get("observed") for ref, status in here.statuses.items() if ref.kind == "IterationProfile"]
    return [entry for listed in entries for entry in listed or []]


async def test_slower_engines_are_told_as_condition_event_and_law() -> None:
    here = Drifting(shown("Report"), slower=1.3)
    await watched(here, 12)
    condition = here.condition("Drifted")
    assert (condition["status"], condition["reason"]) == ("True", "LawDrifted")
    assert [event.reason for event in here.events].count("LawDrifted") == 1
    (entry,) = observed(here)
    declared = here.shown.profiles[0].spec.solo_nanoseconds
    assert entry["driftPermille"] == pytest.approx(300, abs=30)
    assert entry["soloNanoseconds"] == pytest.approx(1.3 * declared, rel=0.03)


@pytest.mark.parametrize(
    ("observed_law", "planned_slower"),
    [pytest.param("Report", False, id="only reported"), pytest.param("Use", True, id="used")],
)
async def test_plans_follow_the_observed_law_only_where_that_is_allowed(
    observed_law: str, planned_slower: bool
) -> None:
    steady, slow = (Drifting(shown(observed_law), slower=factor) for factor in (1.0, 1.3))
    for here in (steady, slow):
        await watched(here, 12)
    values = [here.statuses[Ref("InferenceFleet", *KEY)]["plan"]["valuePerSecond"] for here in (steady, slow)]
    assert (values[1] < 0.9 * values[0]) is planned_slower


async def test_engines_that_keep_their_law_write_nothing_after_a_while() -> None:
    here = Drifting(shown("Use"))
    operator = Operator(here)
    try:
        await operator.passes.survey(here.view())
        await operator.run(12)
        writes = here.writes
        await operator.run(5)
    finally:
        operator.crews.close()
    assert "Drifted" not in here.types()
    assert here.writes == writes


async def test_other_fleets_entries_are_left_alone() -> None:
    here = Drifting(shown("Report"), slower=1.3)
    profile = here.shown.profiles[0]
    ref = Ref("IterationProfile", profile.metadata.namespace, profile.metadata.name)
    await watched(here, 1)
    foreign = {
        "fleet": "other",
        "pool": "p",
        "soloNanoseconds": 1,
        "mixedBaseNanoseconds": 1,
        "perTokenNanoseconds": 1,
        "perSequenceNanoseconds": 1,
        "driftPermille": 0,
        "samples": 9,
    }
    here.statuses[ref] = {**here.statuses[ref], "observed": [foreign]}
    await watched(here, 8)
    assert [entry["fleet"] for entry in observed(here)] == ["fleet", "other"]
