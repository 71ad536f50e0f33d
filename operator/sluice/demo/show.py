"""The whole demo: the same load without and with Sluice, then what came of it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from sluice.demo.act import Script, play
from sluice.demo.board import board
from sluice.demo.picture import draw
from sluice.demo.processes import DemoError
from sluice.demo.programs import ProgramMissingError
from sluice.demo.scene import SCENE, Scene
from sluice.demo.stage import staged, steered
from sluice.demo.summary import Outcome, renderable

PICTURE = "demo.png"
_FOLDER = "demo"
_MARKER = ".sluice-demo"
"""Lies in a folder that the demo made and may therefore empty."""
_LOG_WIDTH = 120
"""Characters per line where there is no terminal to ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What the command line chooses."""

    seconds: float = 70.0
    """Length of each run's arrivals."""
    drain_seconds: float = 10.0
    """How long answers may go on after them."""
    seed: int = 1
    out: Path = Path("out")
    live: bool = True
    """Redraw a table in place; else print lines."""
    scene: Scene = SCENE


async def perform(settings: DemoSettings) -> Outcome:
    """Both runs; the picture and everything the programs wrote lie below ``settings.out``."""
    console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
    folder = (settings.out / _FOLDER).absolute()
    _make_room(folder)
    scene = settings.scene
    async with staged(scene, folder) as stage:
        arrivals = scene.arrivals(seconds=settings.seconds, unit_rate=stage.unit_rate, seed=settings.seed)
        console.print(_opening(settings, len(arrivals), stage.unit_rate))

        def script(title: str) -> Script:
            return Script(
                title=title, arrivals=arrivals, seconds=settings.seconds, drain_seconds=settings.drain_seconds
            )

        with board(scene, live=settings.live) as show:
            without = await play(script("without Sluice"), scene, stage, show)
            async with steered(stage) as sluice:
                with_sluice = await play(script("with Sluice"), scene, stage, show, sluice)
    outcome = Outcome(without=without, with_sluice=with_sluice)
    picture = settings.out / PICTURE
    await asyncio.to_thread(draw, scene, outcome, picture)
    console.print(renderable(scene, outcome))
    console.print(f"Picture: {picture}. Manifests, plans, Envoy's files and logs: {settings.out / _FOLDER}.")
    return outcome


def _make_room(folder: Path) -> None:
    """An empty folder of our own; one that an earlier run did not mark as its own is left alone."""
    marker = folder / _MARKER
    if folder.exists() and not marker.is_file():
        raise DemoError(f"{folder} exists and is not from an earlier demo; choose another --out")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    marker.touch()


def run(settings: DemoSettings) -> int:
    """Perform the demo; the exit status. Ctrl-C and SIGTERM end every program that was started."""
    try:
        asyncio.run(_until_terminated(settings))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("sluice: stopped; nothing is left running\n")
        return 130
    except (DemoError, ProgramMissingError) as error:
        sys.stderr.write(f"sluice: {error}\n")
        return 1
    return 0


async def _until_terminated(settings: DemoSettings) -> None:
    performing = asyncio.current_task()
    if performing is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, performing.cancel)
    await perform(settings)


def _opening(settings: DemoSettings, requests: int, unit_rate: float) -> str:
    scene = settings.scene
    rates = ", ".join(f"{service.name} {unit_rate * service.share:.1f}/s" for service in scene.services)
    loads = ", ".join(f"{phase.share * settings.seconds:.0f} s at {phase.load:g}" for phase in scene.phases)
    return (
        f"{scene.replicas} simulated replicas; the plan just serves {rates} (load 1). "
        f"Each run: {requests} requests, {loads} times that load."
    )
