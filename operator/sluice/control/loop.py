"""The loop: one task that watches the world, and one per fleet that runs its passes.

Level-based: a pass looks at the world as it is, never at what changed. A change only
decides *when* the next pass runs: soon, after a short pause in which further changes
gather, and which grows where changes do not end (``pace``). Without a change it runs every
solve period, with jitter so that fleets spread. A fleet that hangs or fails delays nobody
but itself, and only up to its time-out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from sluice.control.metrics import Metrics
from sluice.control.observing import Haste
from sluice.control.pace import Pace
from sluice.control.ports import Clock, FleetKey, World, WorldView
from sluice.control.probes import Health

log = logging.getLogger("sluice.loop")

DEBOUNCE_SECONDS = 0.1
"""After a change, how long further changes may gather (kubectl applies objects one by one)."""
PASS_TIMEOUT_SECONDS = 45.0
"""A pass ends by its own time-outs well before; this is the last resort."""
HEARTBEAT_SECONDS = 1.0
SURVEY_SECONDS = 5.0
JITTER = 0.1
"""Periods vary by this share, so that fleets (and operators) do not fall into step."""
LONGEST_BACKOFF_SECONDS = 60.0
STALLED_PERIODS = 3
"""A fleet without a finished pass for so many periods, beyond the time-out, means the loop hangs."""


class FleetPasses(Protocol):
    """Runs the passes of all fleets and remembers between them."""

    async def run(self, key: FleetKey, haste: Haste) -> float:
        """One pass; the seconds until the next one is due."""
        ...

    async def end(self, key: FleetKey) -> None:
        """The fleet is gone: nothing of it may bind any longer."""
        ...

    async def survey(self, view: WorldView) -> None:
        """Tell about objects that belong to no fleet."""
        ...


@dataclass(slots=True)
class _Fleet:
    """One fleet's task and its rhythm."""

    task: asyncio.Task[None] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    finished: float = 0.0
    """When its last pass ended (monotonic seconds)."""
    period_seconds: float = 10.0
    passes: int = 0
    pace: Pace = field(default_factory=Pace)


class Loop:
    """Keeps one task per fleet for as long as the fleet exists."""

    def __init__(
        self,
        *,
        world: World,
        passes: FleetPasses,
        clock: Clock,
        metrics: Metrics,
        randomness: Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        settle_down: Callable[[], None] = lambda: None,
    ) -> None:
        self._world = world
        self._passes = passes
        self._clock = clock
        self._metrics = metrics
        self._random = randomness or Random()  # noqa: S311 - jitter, not a secret
        self._sleep = sleep
        self._settle_down = settle_down
        """Called once, when every fleet has had its first pass."""
        self._is_settled = False
        self._fleets: dict[FleetKey, _Fleet] = {}
        self._turned: float | None = None
        self._surveyed: WorldView | None = None

    async def run(self) -> None:
        """Turn until cancelled."""
        try:
            while True:
                self._turned = self._clock.monotonic()
                self._match(self._world.view())
                await self._survey()
                if not self._is_settled and self._fleets and self.ready().ok:
                    self._is_settled = True
                    self._settle_down()
                for namespace in await self._changed():
                    self._wake(namespace)
        finally:
            await self._stop_all()

    async def _changed(self) -> frozenset[str]:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                return await self._world.changed()
        except TimeoutError:
            return frozenset()

    async def _survey(self) -> None:
        """Only where the view is another one than last time: the world hands out the same until it changes."""
        view = self._world.view()
        if view is self._surveyed:
            return
        try:
            async with asyncio.timeout(SURVEY_SECONDS):
                await self._passes.survey(view)
            self._surveyed = view
        except Exception:
            log.exception("the survey failed")

    def _wake(self, namespace: str) -> None:
        for (home, _), fleet in self._fleets.items():
            if home == namespace:
                fleet.wake.set()

    def _match(self, view: WorldView) -> None:
        """Start tasks for new fleets; end those of fleets that are gone."""
        for key in view.fleet_keys - self._fleets.keys():
            fleet = _Fleet(finished=self._clock.monotonic())
            fleet.task = asyncio.create_task(self._keep(key, fleet), name=f"fleet {'/'.join(key)}")
            self._fleets[key] = fleet
        for key, fleet in self._fleets.items():
            if key not in view.fleet_keys:
                fleet.wake.set()  # its task sees that the fleet is gone and ends itself
        for key in [key for key, fleet in self._fleets.items() if fleet.task is not None and fleet.task.done()]:
            del self._fleets[key]

    async def _keep(self, key: FleetKey, fleet: _Fleet) -> None:
        """One fleet's passes until it is gone."""
        failures, prompt = 0, True
        while key in self._world.view().fleet_keys:
            failures = 0 if await self._pass(key, fleet, prompt=prompt) else failures + 1
            fleet.passes += 1
            fleet.finished = self._clock.monotonic()
            prompt = await self._pause(fleet, failures)
        try:
            await self._passes.end(key)
        except Exception:
            log.exception("taking leave of a fleet failed", extra={"fleet": "/".join(key)})
        self._metrics.forget_fleet(*key)

    async def _pass(self, key: FleetKey, fleet: _Fleet, *, prompt: bool) -> bool:
        """Run one pass; False when it failed. Nothing that it raises may end the fleet's task."""
        namespace, name = key
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(PASS_TIMEOUT_SECONDS):
                fleet.period_seconds = await self._passes.run(key, Haste(prompt, fleet.wake))
        except Exception:
            log.exception("a pass failed", extra={"fleet": f"{namespace}/{name}"})
            self._metrics.count("sluice_passes_total", namespace=namespace, fleet=name, outcome="Failed")
            return False
        elapsed = self._clock.monotonic() - started
        self._metrics.time("sluice_pass_duration_seconds", elapsed, namespace=namespace, fleet=name)
        return True

    async def _pause(self, fleet: _Fleet, failures: int) -> bool:
        """Sleep one period, or until a change; True when a change ended it."""
        seconds = fleet.period_seconds * 2.0**failures if failures < 8 else LONGEST_BACKOFF_SECONDS
        seconds = min(max(seconds, fleet.period_seconds), max(LONGEST_BACKOFF_SECONDS, fleet.period_seconds))
        seconds *= 1.0 + self._random.uniform(-JITTER, JITTER)
        try:
            async with asyncio.timeout(seconds):
                await fleet.wake.wait()
        except TimeoutError:
            return False
        await self._sleep(max(DEBOUNCE_SECONDS, fleet.pace.take(self._clock.monotonic())))
        fleet.wake.clear()
        return True

    async def _stop_all(self) -> None:
        tasks = [fleet.task for fleet in self._fleets.values() if fleet.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fleets.clear()

    def healthy(self) -> Health:
        """Liveness: the loop turns, and no fleet is without a finished pass for too long."""
        if self._turned is None:
            return Health(True, "starting")
        now = self._clock.monotonic()
        if now - self._turned > 10 * HEARTBEAT_SECONDS:
            return Health(False, f"the loop last turned {now - self._turned:.0f} s ago")
        for (namespace, name), fleet in self._fleets.items():
            allowed = PASS_TIMEOUT_SECONDS + max(STALLED_PERIODS * fleet.period_seconds, LONGEST_BACKOFF_SECONDS * 1.2)
            if now - fleet.finished > allowed:
                return Health(False, f"fleet {namespace}/{name}: last pass ended {now - fleet.finished:.0f} s ago")
        return Health(True, f"{len(self._fleets)} fleets")

    def ready(self) -> Health:
        """Readiness: the world is known, and every fleet has had its first pass."""
        if self._turned is None:
            return Health(False, "starting")
        waiting = [f"{namespace}/{name}" for (namespace, name), fleet in self._fleets.items() if fleet.passes == 0]
        if waiting:
            return Health(False, f"first pass not complete: {', '.join(sorted(waiting)[:5])}")
        return Health(True, f"{len(self._fleets)} fleets")
