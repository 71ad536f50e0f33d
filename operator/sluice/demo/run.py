"""One run of the load under one control: sends it, listens, and notes once per second what holds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass

import aiohttp

from sluice.demo import lateness
from sluice.demo.arrivals import Arrival
from sluice.demo.gate_watch import GateReading, GateWatch
from sluice.demo.lateness import Lateness
from sluice.demo.load import Event, Orders, Request
from sluice.demo.processes import Child, DemoError, running
from sluice.demo.readings import Reading, read
from sluice.demo.record import Record, Totals, totals
from sluice.demo.scene import MODEL_HEADER, Act, Control, Scene
from sluice.demo.stage import Stage
from sluice.demo.tally import Figures, Tally

TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a run sends."""

    scene: Scene
    arrivals: tuple[Arrival, ...]
    drain_seconds: float
    """How long unfinished answers may go on after the last arrival."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One second of a run."""

    at_seconds: float
    act: Act
    figures: dict[str, Figures]
    reading: Reading
    """Empty in the run without control."""
    gate: GateReading | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateAccount:
    """What is to be said of the gate after a run."""

    reading: GateReading
    obeyed_seconds: tuple[float, ...]
    """From writing a plan to the gate's obeying it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Busyness:
    """Whether the machine kept up."""

    sending: Lateness
    iterating: Lateness
    load_average: float
    """Of the last minute, at the end of the run: processes that want a processor, ours included."""

    @property
    def trusted(self) -> bool:
        """Whether figures of this run are worth anything."""
        return self.sending.trusted and self.iterating.trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run."""

    control: Control
    scene: Scene
    moments: tuple[Moment, ...]
    records: dict[int, Record]
    """Every request, by number."""
    processors: dict[str, float]
    """Program -> share of one processor while the arrivals lasted."""
    busyness: Busyness
    gate: GateAccount | None = None

    def records_of(self, act: Act | None) -> Iterable[Record]:
        """Requests that came during ``act``, or all of them."""
        return (
            record
            for record in self.records.values()
            if act is None or self.scene.act_at(record.arrival.at_seconds).name == act.name
        )

    def totals(self, act: Act | None = None) -> dict[str, Totals]:
        """Class by class: requests that came during ``act``, or all of them."""
        records = list(self.records_of(act))
        return {service.name: totals(records, service) for service in self.scene.services}

    def value(self, act: Act | None = None) -> float:
        """Dollars per second of ``act``, or of the run, by the requests that came then."""
        seconds = act.seconds if act else self.scene.seconds
        return sum(each.value for each in self.totals(act).values()) / seconds

    def good_value(self, act: Act | None = None) -> float:
        """The same, of requests that kept their promise."""
        seconds = act.seconds if act else self.scene.seconds
        return sum(each.good_value for each in self.totals(act).values()) / seconds

    def while_arriving(self) -> tuple[Moment, ...]:
        """The moments before the last arrival."""
        return tuple(moment for moment in self.moments if moment.at_seconds <= self.scene.seconds)


Show = Callable[[Control, Moment], None]


async def play(script: Script, stage: Stage, show: Show, sluice: Child | None = None) -> Run:
    """Send the script's arrivals through the proxy and return what came of them; ``sluice`` steers, if given."""
    command = [sys.executable, "-m", "sluice.demo.load"]
    log = stage.folder / "logs" / "load.log"
    stdin = _orders(script, stage).model_dump_json().encode()
    async with contextlib.AsyncExitStack() as stack:
        watch = None
        if stage.gate_url is not None:
            watch = await stack.enter_async_context(GateWatch(stage.gate_url, stage.plan_file).watching())
        load = await stack.enter_async_context(running("load", command, log, stdin=stdin, read_stdout=True))
        events = _events(load)
        first = await anext(events, None)
        if first is None:
            raise DemoError(f"the load generator sent nothing:\n{load.last_words()}")
        tally = Tally(script.scene, script.arrivals)
        tally.add(first)
        listening = asyncio.create_task(_listen(events, tally))
        try:
            children = (*stage.children, load, *((sluice,) if sluice else ()))
            watcher = _Watcher(script, stage, children, tally, watch, show)
            await watcher.watch(listening, first.at_seconds)
            await listening
        finally:
            listening.cancel()
        iterating = await _late_iterations(stage)
    return Run(
        control=stage.control,
        scene=script.scene,
        moments=tuple(watcher.moments),
        records=tally.records,
        processors=watcher.shares,
        busyness=Busyness(sending=tally.lateness, iterating=iterating, load_average=os.getloadavg()[0]),
        gate=GateAccount(reading=watch.reading, obeyed_seconds=tuple(watch.obeyed_seconds)) if watch else None,
    )


async def _listen(events: AsyncIterator[Event], tally: Tally) -> None:
    async for event in events:
        tally.add(event)


class _Watcher:
    """Once per tick until the load has ended: what holds now, and who used how much processor time."""

    def __init__(
        self,
        script: Script,
        stage: Stage,
        children: Sequence[Child],
        tally: Tally,
        watch: GateWatch | None,
        show: Show,
    ) -> None:
        self._script, self._stage, self._children = script, stage, children
        self._tally, self._watch, self._show = tally, watch, show
        self.moments: list[Moment] = []
        self.shares: dict[str, float] = {}

    async def watch(self, listening: asyncio.Task[None], elapsed: float) -> None:
        """Until ``listening`` ends; ``elapsed`` seconds of the run are over."""
        clock = asyncio.get_running_loop().time
        start = clock() - elapsed
        before = _processors(self._children)
        while not listening.done():
            await asyncio.wait({listening}, timeout=TICK_SECONDS)
            now = clock() - start
            _require(self._children)
            moment = self._moment(now)
            self.moments.append(moment)
            self._show(self._stage.control, moment)
            if now <= self._script.scene.seconds:
                used = _processors(self._children)
                self.shares = {name: (used[name] - before.get(name, 0.0)) / now for name in used}

    def _moment(self, now: float) -> Moment:
        steered = self._stage.control is not Control.NONE
        return Moment(
            at_seconds=now,
            act=self._script.scene.act_at(now),
            figures=self._tally.figures(now),
            reading=read(self._stage.out) if steered else Reading(),
            gate=self._watch.reading if self._watch else None,
        )


def _orders(script: Script, stage: Stage) -> Orders:
    return Orders(
        url=stage.proxy_url,
        model_header=MODEL_HEADER,
        requests=tuple(_request(script.scene, arrival) for arrival in script.arrivals),
        drain_seconds=script.drain_seconds,
    )


def _request(scene: Scene, arrival: Arrival) -> Request:
    return Request(
        at_seconds=arrival.at_seconds,
        workload=arrival.workload,
        model=scene.service(arrival.workload).model,
        chat=arrival.workload == "chat",
        prompt_tokens=arrival.prompt_tokens,
        output_tokens=arrival.output_tokens,
        patience_seconds=arrival.patience_seconds,
        body_bytes=arrival.body_bytes,
    )


async def _events(load: Child) -> AsyncIterator[Event]:
    assert load.process.stdout is not None  # noqa: S101 - it was asked for when the process was started
    async for line in load.process.stdout:
        yield Event.model_validate_json(line)


async def _late_iterations(stage: Stage) -> Lateness:
    """What the replicas counted of their own lateness."""
    texts = []
    async with aiohttp.ClientSession() as session:
        for port in stage.ports.replicas:
            async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                texts.append(await answer.text())
    return lateness.read(texts)


def _require(children: Sequence[Child]) -> None:
    """No program may end while a run goes on, but the load generator."""
    for child in children:
        if child.name != "load" and child.process.returncode is not None:
            raise DemoError(f"{child.name} ended with status {child.process.returncode}:\n{child.last_words()}")


def _processors(children: Sequence[Child]) -> dict[str, float]:
    told = {child.name: child.processor_seconds() for child in children}
    return {name: used for name, used in told.items() if used is not None}
