"""The gate's process: the server, its feeds, its probes, its switches, and how it leaves.

Kill switch: a file that exists, or SIGUSR1 (SIGUSR2 takes it back). From the next look, twenty
times a second, nothing is held any more, and no API server is asked. On SIGTERM new requests
pass, those that wait go on being admitted in order, and only what is left at the end of the
grace is let go within half a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from sluice.gate import gauges
from sluice.gate.access_log import AccessLogs
from sluice.gate.assembly import Choices, may_hold
from sluice.gate.decision_log import DecisionLog
from sluice.gate.desk import TICK_SECONDS, Desk
from sluice.gate.feed import Feed, FeedError, World, read_world
from sluice.gate.meters import Meters
from sluice.gate.notices import Notices
from sluice.gate.routes import classifier, clusters
from sluice.gate.server import UNGATED_PATHS, Processor, serve
from sluice.gate.state import Gate
from sluice.gate.terms import GateTerms
from sluice.gate.tracing import Tracer
from sluice.model.gate import gate_service
from sluice.model.plan import Plan

LOG = logging.getLogger(__name__)
MANIFESTS_SECONDS = 2.0
STOP_SECONDS = 2.0
PICKED = "InferencePool"
"""Kind of a back end behind which an endpoint picker chooses the replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """What ``sluice gate`` is told."""

    manifests: Path | None = None
    """Directory of manifests; None: the API server is asked."""
    namespace: str | None = None
    kubeconfig: Path | None = None
    plan_file: Path | None = None
    fleet: str | None = None
    listen: str = "127.0.0.1:0"
    http_address: str = "127.0.0.1"
    http_port: int = 0
    shadow: bool = False
    ungated_paths: frozenset[str] = frozenset()
    """Further paths that pass without a decision."""
    choices: Choices = field(default_factory=Choices)
    decisions: Path | None = None
    kill_file: Path | None = None
    drain_seconds: float = 20.0
    polls_engines: bool = True


class GateProcess:
    """Everything that runs."""

    def __init__(self, settings: GateSettings, world: World) -> None:
        if settings.choices.places and any(pool.backend and pool.backend.kind == PICKED for pool in world.fleet.pools):
            raise FeedError("behind an InferencePool the endpoint picker chooses the replica: leave placement to it")
        self.settings = settings
        registry = CollectorRegistry()
        self.meters = Meters(registry)
        self.feed = Feed(
            world=world,
            choices=settings.choices,
            take=self._take,
            problem=self.count_problem,
            plan_file=settings.plan_file,
            manifests=settings.manifests,
            fleet_name=settings.fleet,
        )
        self.meters.plan_age = lambda: self.feed.plan_age(time.monotonic())
        self._holds = self._may_hold()
        gate = Gate(self.feed.terms(), holds=self._holds)
        self.desk = Desk(gate, self.meters, DecisionLog(settings.decisions))
        self.desk.tracer = Tracer.of(os.environ)
        self.draining = False
        self.is_active: Callable[[], bool] = lambda: True
        """Whether proxies shall come to this gate; a standby says no."""
        self._signalled = False
        self._notices = Notices()
        self._notices.tell(gate, world)
        self._classify = classifier(world.fleet.namespace, world.classes, world.rules)
        self.meters.clusters = clusters(world.fleet, world.classes, world.rules)

    def _take(self, terms: GateTerms, fresh: bool) -> None:
        world = self.feed.world
        self._classify = classifier(world.fleet.namespace, world.classes, world.rules)
        self.meters.clusters = clusters(world.fleet, world.classes, world.rules)
        self.desk.take_terms(terms, fresh=fresh)
        self._notices.tell(self.desk.gate, world)

    def count_problem(self, why: str) -> None:
        """Something that a feed brought cannot be used."""
        self.meters.feed_problems[why] += 1

    def take_plan(self, plan: Plan) -> None:
        """A plan from the API server."""
        self.feed.take_plan(plan, asyncio.get_running_loop().time())

    def classify(self, route: str) -> str | None:
        """The class of a route, by the classes of now."""
        return self._classify(route)

    def switch(self) -> None:
        """Obey the kill switch, and hold only where settings and fleet want it."""
        file = self.settings.kill_file
        killed = self._signalled or self.draining or (file is not None and file.exists())
        if killed != self.desk.killed:
            self.desk.killed = killed
            LOG.warning("kill switch", extra={"killed": killed})
        holds = not killed and self._may_hold()
        if holds != self._holds and not self.draining:
            # Not compared with the machine's own word: it may have stopped holding by itself (harm).
            self._holds = holds
            self.desk.gate.set_holding(holds)

    def _may_hold(self) -> bool:
        return not self.settings.shadow and may_hold(self.feed.world.fleet)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop``, then drain."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._signal, True)
        loop.add_signal_handler(signal.SIGUSR2, self._signal, False)
        processor = Processor(self.desk, self.classify, ungated=UNGATED_PATHS | self.settings.ungated_paths)
        logs = AccessLogs(self.desk)
        server, port = await serve((processor, logs), self.settings.listen)
        runner, http_port = await self.serve_http()
        tasks = [asyncio.create_task(self.desk.run()), asyncio.create_task(self._watch_files())]
        if self.desk.tracer is not None:
            tasks.append(asyncio.create_task(self.desk.tracer.run()))
        if self.settings.polls_engines:
            tasks.append(asyncio.create_task(gauges.poll(lambda: list(self.desk.gate.engines), self.desk.read)))
        sys.stdout.write(json.dumps({"port": port, "httpPort": http_port, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        await self._drain()
        logs.close()
        await server.stop(STOP_SECONDS)
        for task in (stopping, *tasks):
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        self.desk.close()
        await runner.cleanup()
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _signal(self, killed: bool) -> None:
        self._signalled = killed
        self.switch()

    async def _watch_files(self) -> None:
        looked = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            self.switch()
            self.feed.look(clock())
            if clock() - looked >= MANIFESTS_SECONDS:
                looked = clock()
                self.feed.look_at_manifests()
                self._notices.tell(self.desk.gate, self.feed.world)
            await asyncio.sleep(TICK_SECONDS)

    async def _drain(self) -> None:
        """New requests pass; those that wait go in order, and at the end of the grace within ten ticks."""
        self.draining = True
        self.switch()
        self.desk.tick()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.desk.empty.wait(), self.settings.drain_seconds)
        self.desk.gate.set_holding(False)
        await self.desk.empty.wait()

    async def serve_http(self) -> tuple[web.AppRunner, int]:
        """Serve probes and metrics; the runner and its port."""

        async def healthy(_: web.Request) -> web.Response:
            return web.Response(text="ok\n")

        async def ready(_: web.Request) -> web.Response:
            word = "draining" if self.draining else "ok" if self.is_active() else "standby"
            blind = ", ".join(sorted(self.desk.gate.unserved))
            text = f"{word}\nno replica is known, so nothing is held of: {blind}\n" if blind else f"{word}\n"
            return web.Response(status=200 if word == "ok" else 503, text=text)

        async def metrics(_: web.Request) -> web.Response:
            return web.Response(
                body=generate_latest(self.meters.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
            )

        app = web.Application()
        app.router.add_get("/healthz", healthy)
        app.router.add_get("/readyz", ready)
        app.router.add_get("/metrics", metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self.settings.http_address, self.settings.http_port).start()
        address: Any = runner.addresses[0]
        return runner, int(address[1])


async def run_until_stopped(settings: GateSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if settings.manifests is not None:
        await GateProcess(settings, read_world(settings.manifests, settings.fleet)).run(stop)
    else:
        await _run_in_cluster(settings, stop)


async def _run_in_cluster(settings: GateSettings, stop: asyncio.Event) -> None:
    """Wait for the first sight of the fleet, then serve; until then proxies find nobody, and let pass."""
    from sluice.gate.cluster_feed import Access, ClusterFeed  # noqa: PLC0415 - a large client that files do not need
    from sluice.gate.lease import Lease  # noqa: PLC0415 - as above

    access = Access.login(settings.kubeconfig, settings.namespace)
    identity = os.environ.get("POD_NAME") or socket.gethostname()
    lease = Lease(access=access, name=gate_service(settings.fleet or ""), identity=identity)
    worlds: asyncio.Queue[World] = asyncio.Queue()
    plans: list[Plan] = []
    feed = ClusterFeed(
        access=access,
        fleet_name=settings.fleet or "",
        take_world=worlds.put_nowait,
        take_plan=plans.append,
        problem=lambda _: None,
    )
    following = asyncio.create_task(feed.run())
    leading = asyncio.create_task(lease.run())
    stopping = asyncio.create_task(stop.wait())
    stopping.add_done_callback(lambda _: leading.cancel())  # the standby takes over while this one drains
    first = asyncio.create_task(worlds.get())
    try:
        await asyncio.wait([following, stopping, first], return_when=asyncio.FIRST_COMPLETED)
        if first.done():
            process = GateProcess(settings, first.result())
            feed.take_world = process.feed.take_world
            feed.take_plan = process.take_plan
            feed.problem = process.count_problem
            for plan in plans[-1:]:
                process.take_plan(plan)
            process.is_active = lambda: lease.is_held
            await process.run(stop)
    finally:
        for task in (following, leading, stopping, first):
            task.cancel()
        await asyncio.gather(following, leading, stopping, first, return_exceptions=True)
