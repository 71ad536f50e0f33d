"""Measures iterations of a transformer of a given shape on the hardware at hand.

Every measured point is appended to the CSV file at once, so a run that was cut off goes on
where it stopped. A model too large for the hardware is measured with few layers: once
with ``k`` and once with ``2k``, and the difference is what ``k`` layers cost. The file says so.

With several ranks (started by ``torchrun``) all of them run the same iterations, and the
slowest counts; the first rank alone decides when to stop, or they would wait for each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sluice_profiling.grid import Range, coarse, remaining
from sluice_profiling.hardware import Hardware
from sluice_profiling.measurement import Measurement, Point, Provenance, head, read, row
from sluice_profiling.shape import Shape
from sluice_profiling.timing import Patience, Timing, measure
from sluice_profiling.transformer import Transformer

SAME_THROUGHOUT = ("model", "accelerator", "engine", "tensor_parallel", "method")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to measure."""

    shape: Shape
    limits: Range
    raw: Path
    """The CSV file, continued where it exists."""
    budget_seconds: float
    """No point is begun after this time."""
    patience: Patience
    built_layers: int | None = None
    """Layers to build; fewer than the shape's are scaled up. None: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One measured point, for whoever shows progress."""

    measurement: Measurement
    done: int
    known: int
    """Points asked for so far; refinement may ask for more."""


def run(task: Task, hardware: Hardware) -> Iterator[Progress]:
    """Measure point after point until the grid is complete or the time is used up."""
    provenance = describe(task, hardware)
    measured = list(resume(task.raw, provenance)) if hardware.leads else []
    measured = hardware.agreed(measured)
    models = [Transformer(shape, hardware.placement) for shape in built_shapes(task)]
    began = hardware.clock()
    if hardware.leads and not task.raw.exists():
        task.raw.write_text(head(provenance), encoding="utf-8")
    while points := remaining(task.limits, measured):
        for point in points:
            if hardware.clock() - began > task.budget_seconds:
                return
            timings = [_time(model, point, task.patience, hardware) for model in models]
            measurement = _measurement(point, timings, task)
            measured.append(measurement)
            if hardware.leads:
                with task.raw.open("a", encoding="utf-8") as raw:
                    raw.write(row(measurement))
            known = max(len(coarse(task.limits)), len(measured) + len(remaining(task.limits, measured)))
            yield Progress(measurement=measurement, done=len(measured), known=known)


def describe(task: Task, hardware: Hardware) -> Provenance:
    """Where the figures of this task come from."""
    return Provenance(
        model=task.shape.name,
        accelerator=hardware.accelerator,
        engine=hardware.engine,
        tensor_parallel=hardware.placement.ranks,
        measured_time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        method=f"one iteration of a transformer with random weights, {hardware.method}{_scaling(task)}",
        driver=hardware.driver,
        libraries=hardware.libraries,
    )


def resume(raw: Path, provenance: Provenance) -> tuple[Measurement, ...]:
    """What a file already holds; ValueError where it is about something else."""
    if not raw.exists():
        return ()
    before, measured = read(raw)
    for name in SAME_THROUGHOUT:
        old, new = getattr(before, name), getattr(provenance, name)
        if old != new:
            raise ValueError(f"{raw.name} was measured with {name} {old!r}, not {new!r}: name another output")
    return measured


def built_shapes(task: Task) -> tuple[Shape, ...]:
    """The shape itself, or the two small ones that its time is scaled from."""
    layers = task.built_layers
    if layers is None or layers >= task.shape.layers:
        return (task.shape,)
    return replace(task.shape, layers=layers), replace(task.shape, layers=2 * layers)


def scaled(timings: list[Timing], built: int, layers: int) -> tuple[float, float]:
    """Seconds and half width of ``layers`` layers, from the times of ``built`` and of twice as many."""
    few, many = timings
    factor = (layers - built) / built
    seconds = few.seconds + factor * (many.seconds - few.seconds)
    half = math.hypot((1 - factor) * few.half_width_seconds, factor * many.half_width_seconds)
    return max(seconds, many.seconds), half


def _time(model: Transformer, point: Point, patience: Patience, hardware: Hardware) -> Timing:
    timed: Callable[[], float] = hardware.timer(model, point)
    return measure(timed, patience, clock=hardware.clock)


def _measurement(point: Point, timings: list[Timing], task: Task) -> Measurement:
    seconds, half = timings[0].seconds, timings[0].half_width_seconds
    if len(timings) > 1 and task.built_layers is not None:
        seconds, half = scaled(timings, task.built_layers, task.shape.layers)
    return Measurement(
        point=point,
        seconds=seconds,
        half_width_seconds=half,
        samples=min(timing.samples for timing in timings),
        rejected=sum(timing.rejected for timing in timings),
    )


def _scaling(task: Task) -> str:
    few = built_shapes(task)[0].layers
    if few == task.shape.layers:
        return ""
    return f", {few} and {2 * few} layers scaled to {task.shape.layers}"
