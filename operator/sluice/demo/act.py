"""One run of the load: sends it, listens, and notes once per second what holds."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from sluice.demo.arrivals import Arrival
from sluice.demo.load import Event, Orders, Request
from sluice.demo.processes import Child, DemoError, running
from sluice.demo.readings import Reading, read
from sluice.demo.scene import MODEL_HEADER, Scene
from sluice.demo.stage import Stage
from sluice.demo.tally import ClassTotals, Figures, Tally

TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a run sends."""

    title: str
    arrivals: tuple[Arrival, ...]
    seconds: float
    drain_seconds: float
    """How long unfinished answers may go on after the last arrival."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One second of a run."""

    at_seconds: float
    figures: dict[str, Figures]
    reading: Reading
    """Empty in the run without Sluice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A finished run."""

    title: str
    seconds: float
    """Length of the arrivals; what a run earned is divided by it."""
    moments: tuple[Moment, ...]
    totals: dict[str, ClassTotals]
    processors: dict[str, float]
    """Program -> share of one processor while the arrivals lasted."""

    @property
    def value(self) -> float:
        """Dollars per second."""
        return sum(totals.value for totals in self.totals.values()) / self.seconds

    @property
    def good_value(self) -> float:
        """Dollars per second of requests that kept their promise."""
        return sum(totals.good_value for totals in self.totals.values()) / self.seconds

    def while_arriving(self) -> tuple[Moment, ...]:
        """The moments before the last arrival."""
        return tuple(moment for moment in self.moments if moment.at_seconds <= self.seconds)


Show = Callable[[str, Moment], None]


async def play(script: Script, scene: Scene, stage: Stage, show: Show, sluice: Child | None = None) -> Act:
    """Send the script's arrivals through the proxy and return what came of them; ``sluice`` steers, if given."""
    orders = Orders(
        url=stage.proxy_url,
        model_header=MODEL_HEADER,
        requests=tuple(_request(scene, arrival) for arrival in script.arrivals),
        drain_seconds=script.drain_seconds,
    )
    command = [sys.executable, "-m", "sluice.demo.load"]
    log = stage.folder / "logs" / "load.log"
    stdin = orders.model_dump_json().encode()
    async with running("load", command, log, stdin=stdin, read_stdout=True) as load:
        events = _events(load)
        first = await anext(events, None)
        if first is None:
            raise DemoError(f"the load generator sent nothing:\n{load.last_words()}")
        tally = Tally(scene, script.arrivals)
        tally.add(first)
        listening = asyncio.create_task(_listen(events, tally))
        try:
            children = (*stage.children, load, *((sluice,) if sluice else ()))
            moments, processors = await _watch(script, stage, children, listening, tally, first.at_seconds, show)
            await listening
        finally:
            listening.cancel()
    return Act(title=script.title, seconds=script.seconds, moments=moments, totals=tally.totals, processors=processors)


async def _listen(events: AsyncIterator[Event], tally: Tally) -> None:
    async for event in events:
        tally.add(event)


async def _watch(
    script: Script,
    stage: Stage,
    children: Sequence[Child],
    listening: asyncio.Task[None],
    tally: Tally,
    elapsed: float,
    show: Show,
) -> tuple[tuple[Moment, ...], dict[str, float]]:
    """Once per tick until the load has ended: what holds now, and who used how much processor time."""
    loop = asyncio.get_running_loop()
    start = loop.time() - elapsed
    before = _processors(children)
    moments: list[Moment] = []
    shares: dict[str, float] = {}
    steered = any(child.name == "sluice" for child in children)
    while not listening.done():
        await asyncio.wait({listening}, timeout=TICK_SECONDS)
        now = loop.time() - start
        _require(children)
        reading = read(stage.out) if steered else Reading()
        moment = Moment(at_seconds=now, figures=tally.figures(now), reading=reading)
        moments.append(moment)
        show(script.title, moment)
        if now <= script.seconds:
            used = _processors(children)
            shares = {name: (used[name] - before.get(name, 0.0)) / now for name in used}
    return tuple(moments), shares


def _request(scene: Scene, arrival: Arrival) -> Request:
    return Request(
        at_seconds=arrival.at_seconds,
        workload=arrival.workload,
        model=scene.service(arrival.workload).model,
        chat=arrival.workload == "chat",
        prompt_tokens=arrival.prompt_tokens,
        output_tokens=arrival.output_tokens,
        patience_seconds=arrival.patience_seconds,
    )


async def _events(load: Child) -> AsyncIterator[Event]:
    assert load.process.stdout is not None  # noqa: S101 - it was asked for when the process was started
    async for line in load.process.stdout:
        yield Event.model_validate_json(line)


def _require(children: Sequence[Child]) -> None:
    """No program may end while a run goes on, but the load generator."""
    for child in children:
        if child.name != "load" and child.process.returncode is not None:
            raise DemoError(f"{child.name} ended with status {child.process.returncode}:\n{child.last_words()}")


def _processors(children: Sequence[Child]) -> dict[str, float]:
    told = {child.name: child.processor_seconds() for child in children}
    return {name: used for name, used in told.items() if used is not None}
