"""The loop's rhythm: changes wake, hanging fleets delay nobody, failures back off, fleets come and go."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.api.workload_class import WorkloadClassResource
from sluice.control.garbage import settle_down
from sluice.control.loop import PASS_TIMEOUT_SECONDS, Loop
from sluice.control.metrics import Metrics
from sluice.control.observing import Haste
from sluice.control.pace import INTERVAL_SECONDS, PROMPT_PASSES, Pace
from sluice.control.ports import FleetKey, WorldView
from sluice.control.pulse import Pulse


def view(*fleets: str) -> WorldView:
    def refers_to(name: str) -> WorkloadClassResource:
        spec = {
            "fleetRef": {"name": name},
            "match": {"pathPrefix": "/"},
            "priors": {"promptTokens": 1, "outputTokens": 1, "milliRequestsPerSecond": 1},
        }
        return WorkloadClassResource.model_validate({"metadata": {"name": f"of-{name}"}, "spec": spec})

    return WorldView(classes=tuple(refers_to(name) for name in fleets))


class FakeWorld:
    def __init__(self, *fleets: str) -> None:
        self.shown = view(*fleets)
        self.pulse = Pulse()

    def view(self) -> WorldView:
        return self.shown

    async def changed(self) -> frozenset[str]:
        return await self.pulse.taken()

    def becomes(self, *fleets: str) -> None:
        self.shown = view(*fleets)
        self.pulse.beat({"default"})


class FakeClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


class FakePasses:
    """Counts passes per fleet; what a fleet does in its pass is given by name."""

    def __init__(self, **behaviour: Callable[[], object]) -> None:
        self.behaviour = behaviour
        self.counts: dict[str, int] = {}
        self.ended: list[str] = []
        self.surveys = 0
        self.period = 3600.0

    async def run(self, key: FleetKey, haste: Haste) -> float:
        del haste
        self.counts[key[1]] = self.counts.get(key[1], 0) + 1
        result = self.behaviour.get(key[1], lambda: None)()
        if isinstance(result, asyncio.Event):
            await result.wait()
        return self.period

    async def end(self, key: FleetKey) -> None:
        self.ended.append(key[1])

    async def survey(self, view: WorldView) -> None:
        del view
        self.surveys += 1


class Turning:
    """A loop that turns for the length of a test."""

    def __init__(self, world: FakeWorld, passes: FakePasses) -> None:
        self.clock, self.metrics = FakeClock(), Metrics("0")
        self.settled: list[bool] = []
        self.loop = Loop(
            world=world,
            passes=passes,
            clock=self.clock,
            metrics=self.metrics,
            randomness=Random(1),
            sleep=self.sleep,
            settle_down=self.settle_down,
        )

    def settle_down(self) -> None:
        self.settled.append(self.loop.ready().ok)

    async def sleep(self, seconds: float) -> None:
        """The clock moves, and nobody waits."""
        self.clock.seconds += seconds
        await asyncio.sleep(0)

    async def __aenter__(self) -> Turning:
        self._task = asyncio.create_task(self.loop.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - conditions of the code under test, which sets no event
            await asyncio.sleep(0.005)


async def test_every_fleet_has_a_first_pass_and_then_waits_its_period() -> None:
    passes = FakePasses()
    async with Turning(FakeWorld("a", "b"), passes) as turning:
        assert not turning.loop.ready().ok
        await until(lambda: turning.loop.ready().ok)
        assert passes.counts == {"a": 1, "b": 1}
        assert passes.surveys == 1


async def test_a_change_wakes_the_fleets_of_its_namespace_once() -> None:
    passes, world = FakePasses(), FakeWorld("a")
    async with Turning(world, passes) as turning:
        await until(lambda: turning.loop.ready().ok)
        world.pulse.beat({"elsewhere"})
        world.pulse.beat({"default"})
        world.pulse.beat({"default"})
        await until(lambda: passes.counts["a"] == 2)
    assert passes.counts == {"a": 2}


async def test_a_fleet_that_hangs_delays_nobody() -> None:
    never, world = asyncio.Event(), FakeWorld("stuck", "fine")
    passes = FakePasses(stuck=lambda: never)
    async with Turning(world, passes) as turning:
        await until(lambda: passes.counts.get("fine") == 1)
        world.becomes("stuck", "fine")
        await until(lambda: passes.counts["fine"] == 2)
        assert passes.counts["stuck"] == 1
        assert turning.loop.healthy().ok
        assert not turning.loop.ready().ok
        assert "stuck" in turning.loop.ready().message


async def test_a_loop_that_stands_still_is_not_healthy() -> None:
    never, world = asyncio.Event(), FakeWorld("stuck")
    async with Turning(world, FakePasses(stuck=lambda: never)) as turning:
        await until(lambda: turning.loop.healthy().message == "1 fleets")
        turning.clock.seconds = PASS_TIMEOUT_SECONDS + 10_000
        assert not turning.loop.healthy().ok


async def test_a_pass_that_fails_is_counted_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    passes = FakePasses(bad=lambda: 1 // 0)
    world = FakeWorld("bad")
    async with Turning(world, passes) as turning:
        await until(lambda: passes.counts.get("bad") == 1)
        world.pulse.beat({"default"})
        await until(lambda: passes.counts["bad"] == 2)
        await until(lambda: 'outcome="Failed"} 2.0' in turning.metrics.exposition().decode())
    assert "ZeroDivisionError" in caplog.text


async def test_a_fleet_that_is_gone_is_ended_and_its_series_go() -> None:
    passes, world = FakePasses(), FakeWorld("a", "b")
    async with Turning(world, passes) as turning:
        await until(lambda: turning.loop.ready().ok)
        world.becomes("b")
        await until(lambda: passes.ended == ["a"])
        await until(lambda: 'fleet="a"' not in turning.metrics.exposition().decode())
        world.becomes("a", "b")
        await until(lambda: passes.counts["a"] == 2)


async def test_changes_without_end_drive_a_pass_a_second_and_not_more() -> None:
    world = FakeWorld("churning")
    passes = FakePasses(churning=lambda: world.pulse.beat({"default"}))
    async with Turning(world, passes) as turning:
        await until(lambda: passes.counts.get("churning", 0) >= 30)
        took = turning.clock.seconds
    prompt = 1 + PROMPT_PASSES  # the first of all follows no change
    assert took >= (30 - prompt - 1) * INTERVAL_SECONDS
    assert took <= passes.counts["churning"] * INTERVAL_SECONDS


@given(gaps=st.lists(st.floats(0.0, 5.0), min_size=1, max_size=60))
def test_in_any_time_there_are_only_so_many_passes(gaps: list[float]) -> None:
    pace, now = Pace(), 0.0
    starts = []
    for gap in gaps:
        now += gap
        now += pace.take(now)
        starts.append(now)
    for first, start in enumerate(starts):
        for last in range(first, len(starts)):
            allowed = PROMPT_PASSES + 1 + (starts[last] - start) / INTERVAL_SECONDS
            assert last - first + 1 <= allowed + 1e-6


def test_after_a_quiet_time_passes_are_prompt_again() -> None:
    pace = Pace()
    assert [pace.take(100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 1.0]
    assert pace.take(101.0) == 1.0
    assert [pace.take(200.0) for _ in range(3)] == [0.0, 0.0, 0.0]


async def test_it_settles_down_once_when_every_fleet_has_had_its_first_pass() -> None:
    held, world = asyncio.Event(), FakeWorld("quick", "slow")
    passes = FakePasses(slow=lambda: held)
    async with Turning(world, passes) as turning:
        await until(lambda: passes.counts.get("quick") == 1)
        world.pulse.beat({"elsewhere"})
        assert turning.settled == []
        held.set()
        await until(lambda: turning.loop.ready().ok)
        await until(lambda: bool(turning.settled))
        world.becomes("quick", "slow", "new")
        await until(lambda: passes.counts.get("new") == 1)
        await until(lambda: turning.loop.ready().ok)
        await until(lambda: passes.surveys == 2)
    assert turning.settled == [True]


def test_what_is_settled_is_not_walked_through_again() -> None:
    before = gc.get_freeze_count()
    settle_down()
    try:
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
