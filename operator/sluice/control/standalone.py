"""``sluice run --standalone``: the same loop without an API server.

The world is a directory of manifests, status and plans are files, events are log lines,
and the data plane is an Envoy that watches files.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from sluice.actuate.envoy_files import EnvoyFiles
from sluice.actuate.port import Actuator
from sluice.control.caretaking import Caretaker, FilesPremises
from sluice.control.dataplanes import PlanFileOnly, Unsupported
from sluice.control.directory import DirectoryWorld
from sluice.control.events import Event, EventType
from sluice.control.files import StatusFiles
from sluice.control.garbage import settle_down
from sluice.control.loop import Loop
from sluice.control.metrics import Metrics
from sluice.control.observing import Observations
from sluice.control.passes import Passes
from sluice.control.ports import SystemClock, World
from sluice.control.probes import ProbeServer
from sluice.control.telling import Telling
from sluice.control.workers import Crews
from sluice.model.fleet import DataPlaneKind, Fleet
from sluice.observe.observer import Observer

log = logging.getLogger("sluice.standalone")


@dataclass(frozen=True, slots=True, kw_only=True)
class StandaloneSettings:
    """How to run without an API server."""

    manifests: Path
    out: Path
    address: str = "127.0.0.1"
    """Address of probes and metrics."""
    port: int | None = 0
    """Port of probes and metrics; 0: a free one; None: none."""


@dataclass(slots=True)
class LogRecorder:
    """Events as log lines."""

    log: logging.Logger = field(default_factory=lambda: logging.getLogger("sluice.events"))

    async def publish(self, events: tuple[Event, ...]) -> None:
        """One line per event."""
        for event in events:
            level = logging.WARNING if event.type is EventType.WARNING else logging.INFO
            subject = event.subject
            text = f"{subject.kind} {subject.namespace}/{subject.name}: {event.reason}: {event.message}"
            self.log.log(level, "%s", text)


class DataPlanes:
    """Chooses a fleet's actuator; one Envoy belongs to one fleet."""

    def __init__(self, out: Path, world: World) -> None:
        self.files = EnvoyFiles(out)
        self._world = world
        self._plans = PlanFileOnly(out)
        self._owner: str | None = None

    def of(self, fleet: Fleet) -> Actuator:
        """The actuator that ``fleet`` declares."""
        match fleet.data_plane.kind:
            case DataPlaneKind.ENVOY_FILES:
                if self._owner not in {"/".join(key) for key in self._world.view().fleet_keys}:
                    self._owner = fleet.key
                    log.info("fleet %s drives an Envoy: start it with envoy -c %s", fleet.key, self.files.bootstrap)
                if self._owner != fleet.key:
                    return Unsupported(
                        f"the Envoy files here belong to fleet {self._owner}; give this one its own --out"
                    )
                return self.files
            case DataPlaneKind.CONFIG_MAP:
                return self._plans
            case DataPlaneKind.ENVOY_GATEWAY:
                return Unsupported("dataPlane.kind EnvoyGateway needs an API server; standalone has EnvoyFiles")


async def run_standalone(settings: StandaloneSettings, started: asyncio.Event | None = None) -> None:
    """Run until cancelled. ``started`` is set when the probes answer."""
    clock, metrics, crews = SystemClock(), Metrics(version("sluice")), Crews()
    statuses = StatusFiles(settings.out)
    world = DirectoryWorld(settings.manifests, statuses)
    world.load()
    settle_down()
    observations = Observations(Observer.of, world, clock)
    telling = Telling(sink=statuses, recorder=LogRecorder(), metrics=metrics)
    planes = DataPlanes(settings.out, world)
    caretaker = Caretaker(world=world, premises=FilesPremises(planes.files, crews.writing), clock=clock)
    passes = Passes(
        world=world,
        observations=observations,
        actuator_of=planes.of,
        telling=telling,
        clock=clock,
        metrics=metrics,
        crews=crews,
    )
    loop = Loop(world=world, passes=passes, clock=clock, metrics=metrics, settle_down=settle_down)
    probes = ProbeServer(healthy=loop.healthy, ready=loop.ready, metrics=metrics)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(crews.close)
        stack.callback(statuses.close)
        stack.push_async_callback(observations.close)
        if settings.port is not None:
            port = await probes.start(settings.address, settings.port)
            stack.push_async_callback(probes.stop)
            log.info("probes and metrics at http://%s:%d", settings.address, port)
        if started is not None:
            started.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(world.watch())
            tasks.create_task(loop.run())
            tasks.create_task(caretaker.keep())


async def run_until_stopped(settings: StandaloneSettings) -> None:
    """Run until SIGTERM or SIGINT, then end in order: what the proxies hold stays."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    running = asyncio.create_task(run_standalone(settings))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        stopping.cancel()
        running.result()
        return
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    log.info("stopped; the data plane keeps what it holds")
