"""The whole demo: the same load under each control, then what came of it."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from sluice.demo import manifests, programs
from sluice.demo.board import board
from sluice.demo.document import document
from sluice.demo.picture import draw
from sluice.demo.processes import DemoError
from sluice.demo.programs import ProgramMissingError
from sluice.demo.run import Run, Script, Show, play
from sluice.demo.scene import SCENE, Control, Scene
from sluice.demo.stage import DECISIONS, staged, steered
from sluice.demo.summary import Outcome, renderable

PICTURE, DOCUMENT = "demo.png", "demo.json"
_FOLDER = "demo"
_MARKER = ".sluice-demo"
"""Lies in a folder that the demo made and may therefore empty."""
_LOG_WIDTH = 160
"""Characters per line where there is no terminal to ask."""
_SECONDS_AROUND = 15.0
"""Starting the programs of a run and waiting for its last answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What the command line chooses."""

    scene: Scene = SCENE
    controls: tuple[Control, ...] = tuple(Control)
    drain_seconds: float = 12.0
    """How long answers may go on after the last arrival of a run."""
    seed: int = 1
    out: Path = Path("out")
    live: bool = True
    """Redraw a table in place; else print lines."""
    prints_json: bool = False
    """The document on standard output, everything else on standard error."""


async def perform(settings: DemoSettings) -> Outcome:
    """All runs; the picture, the document and everything the programs wrote lie below ``settings.out``."""
    console = _console(settings)
    programs.envoy()  # what is missing is said before anything is written or started
    await asyncio.to_thread(programs.prometheus)
    folder = (settings.out / _FOLDER).absolute()
    make_room(folder)
    scene = settings.scene
    unit_rate = manifests.unit_rate(scene)
    try:
        arrivals = scene.arrivals(unit_rate=unit_rate, seed=settings.seed)
    except ValueError as error:
        raise DemoError(f"{error}: choose fewer seconds") from error
    console.print(_opening(settings, len(arrivals), unit_rate))
    script = Script(scene=scene, arrivals=arrivals, drain_seconds=settings.drain_seconds)
    runs = []
    with board(scene, console, live=settings.live) as show:
        for control in settings.controls:
            runs.append(await _run(script, folder, control, unit_rate, show))
    outcome = Outcome(scene=scene, seed=settings.seed, unit_rate=unit_rate, runs=tuple(runs))
    await asyncio.to_thread(draw, outcome, settings.out / PICTURE)
    text = json.dumps(document(outcome), indent=2) + "\n"
    (settings.out / DOCUMENT).write_text(text, encoding="utf-8")
    console.print(renderable(outcome))
    console.print(_what_next(settings, outcome), soft_wrap=True, highlight=False)
    if settings.prints_json:
        sys.stdout.write(text)
    return outcome


async def _run(script: Script, folder: Path, control: Control, unit_rate: float, show: Show) -> Run:
    """One run with programs of its own."""
    async with staged(script.scene, folder / control.value, control, unit_rate) as stage:
        if control is Control.NONE:
            return await play(script, stage, show)
        async with steered(stage) as sluice:
            return await play(script, stage, show, sluice)


def _console(settings: DemoSettings) -> Console:
    """Where people read."""
    stream = sys.stderr if settings.prints_json else sys.stdout
    return Console(file=stream) if stream.isatty() else Console(file=stream, width=_LOG_WIDTH)


def make_room(folder: Path) -> None:
    """An empty folder of our own; one that an earlier run did not mark as its own is left alone."""
    marker = folder / _MARKER
    if folder.exists() and not marker.is_file():
        raise DemoError(f"{folder} exists and is not from an earlier demo; choose another --out")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        marker.touch()
    except OSError as error:
        raise DemoError(f"cannot write to {folder}: {error.strerror}; choose another --out") from error


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
    acts = "; ".join(f"{act.name} {act.seconds:.0f} s at {act.load}" for act in scene.acts)
    controls = ", ".join(control.words for control in settings.controls)
    minutes = len(settings.controls) * (scene.seconds + _SECONDS_AROUND) / 60.0
    return (
        f"{scene.replicas} simulated replicas; the plan just serves {rates} (load 1).\n"
        f"The same {requests} requests (seed {settings.seed}) in each run: {controls}.\n"
        f"Acts, in multiples of load 1: {acts}. It takes about {minutes:.1f} minutes."
    )


def _what_next(settings: DemoSettings, outcome: Outcome) -> str:
    folder = settings.out / _FOLDER
    lines = [
        f"Picture: {settings.out / PICTURE}. All figures: {settings.out / DOCUMENT}. "
        f"Manifests, plans, Envoy's files and logs: {folder}/{'|'.join(c.value for c in settings.controls)}.",
    ]
    if steered_runs := [control for control in settings.controls if control is not Control.NONE]:
        manifests_folder = folder / steered_runs[-1].value / "manifests"
        lines.append(f"Next: sluice plan -f {manifests_folder} --demand code=x2     (the plan, and what if)")
    if (gate := outcome.of(Control.GATE)) and (request_id := _longest_held(gate)):
        decisions = folder / Control.GATE.value / DECISIONS
        lines.append(f"      sluice explain {request_id} --decisions {decisions}     (why one request waited)")
    return "\n".join(lines)


def _longest_held(gate: Run) -> str | None:
    """The request that the gate held longest before it let it go."""
    held = [record for record in gate.records.values() if record.request_id and record.waited_seconds > 0.0]
    return max(held, key=lambda record: record.waited_seconds).request_id if held else None
