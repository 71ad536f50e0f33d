"""What ``sluice profile kernel`` does: find the hardware, measure with a progress bar, conclude."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sluice_profiling import hardware, kernel
from sluice_profiling.grid import Range, coarse
from sluice_profiling.report import conclude_raw
from sluice_profiling.shape import SHAPES, shape_of
from sluice_profiling.timing import Patience

TINY = Range(operating_batch=8, largest_batch=16, smallest_chunk=8, largest_chunk=128, context_tokens=64)
TINY_BUDGET_SECONDS = 75.0
TINY_PATIENCE = Patience(warm_up=2, fewest=8, most=60, relative_half_width=0.01, seconds=1.5)
SMALLEST_CHUNK = 16
REFINEMENT = 1.5
"""Points of the whole grid, those around the knee included, over those of the coarse one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the command."""

    shape: str
    tiny: bool
    batch: int
    largest_batch: int
    largest_chunk: int
    context: int
    layers: int | None
    device: str
    minutes: float
    output: Path
    name: str | None


def start(options: Options) -> None:
    """Measure, fit and write; ValueError, OSError or RuntimeError where that cannot be done."""
    console = Console()
    machine = hardware.find(options.device)
    task = _task(options, machine)
    if machine.leads:
        options.output.mkdir(parents=True, exist_ok=True)
        described = kernel.describe(task, machine)
        console.print(f"{described.model} on {described.accelerator}: {described.method}")
    _measure(task, machine, console)
    if not machine.leads:
        return
    conclusion = conclude_raw(task.raw, task.raw.stem, task.limits.operating_batch)
    for line in conclusion.lines():
        console.print(line, markup=False, highlight=False)
    for path in (task.raw, conclusion.manifest, conclusion.picture):
        console.print(f"wrote {path}", markup=False, highlight=False)


def _measure(task: kernel.Task, machine: hardware.Hardware, console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not machine.leads) as bar:
        row = bar.add_task("measuring", total=None)
        for progress in kernel.run(task, machine):
            point, seconds = progress.measurement.point, progress.measurement.seconds
            told = f"chunk {point.chunk_tokens:5d} batch {point.batch:4d}: {seconds * 1e3:9.3f} ms"
            bar.update(row, completed=progress.done, total=progress.known, description=told)


def _task(options: Options, machine: hardware.Hardware) -> kernel.Task:
    shape = SHAPES["tiny"] if options.tiny else shape_of(options.shape)
    name = options.name or _resource_name(f"{shape.name}-{machine.accelerator}")
    limits = TINY if options.tiny else _range(options)
    budget = TINY_BUDGET_SECONDS if options.tiny else options.minutes * 60
    patience = TINY_PATIENCE if options.tiny else Patience()
    # A budget is spread over the grid: many rough points make a better law than a few sharp ones.
    share = budget / (REFINEMENT * len(coarse(limits)))
    return kernel.Task(
        shape=shape,
        limits=limits,
        raw=options.output / f"{name}.csv",
        budget_seconds=budget,
        patience=replace(patience, seconds=min(patience.seconds, share)),
        built_layers=options.layers,
    )


def _range(options: Options) -> Range:
    return Range(
        operating_batch=options.batch,
        largest_batch=max(options.batch, options.largest_batch),
        smallest_chunk=min(SMALLEST_CHUNK, options.largest_chunk),
        largest_chunk=options.largest_chunk,
        context_tokens=options.context,
    )


def _resource_name(text: str) -> str:
    """A name that Kubernetes accepts."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
