"""The live table at a terminal, or a line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from sluice.demo.readings import Reading
from sluice.demo.run import Moment, Show
from sluice.demo.scene import Control, Scene

LINE_SECONDS = 5.0
"""Time between two lines where there is no terminal."""
MILLI = 1000.0


@contextlib.contextmanager
def board(scene: Scene, console: Console, *, live: bool) -> Iterator[Show]:
    """Something to show moments on; a table that is redrawn in place where ``live``."""
    if not live:
        yield _Lines(scene, console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as screen:

        def show(control: Control, moment: Moment) -> None:
            screen.update(table(scene, control, moment), refresh=True)

        yield show


def table(scene: Scene, control: Control, moment: Moment) -> Table:
    """All classes at one moment, narrow enough for 80 columns; money in thousandths of a dollar per second."""
    clock = f"{moment.at_seconds:.0f} of {scene.seconds:.0f} s"
    title = f"{control.words} | {moment.act.title}, load {moment.act.load} | {clock}"
    result = Table(title=title, caption=_caption(moment.reading), box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    result.add_column("class")
    for heading in ("offered\n/s", "refused\n/s", "limit", "held", "in\nflight", "TTFT s\n(bar)", "TPOT\nms"):
        result.add_column(heading, justify="right")
    for heading in ("value\nm$/s", "good\nm$/s"):
        result.add_column(heading, justify="right")
    for service in scene.services:
        figures = moment.figures[service.name]
        ttft = "-" if figures.ttft_seconds is None else f"{figures.ttft_seconds:.2f}"
        if figures.ttft_seconds is not None:
            colour = "green" if figures.ttft_seconds <= service.promise_seconds else "red"
            ttft = f"[{colour}]{ttft}[/]"
        result.add_row(
            service.name,
            f"{figures.offered:.1f}",
            f"{figures.refused:.1f}",
            moment.reading.limit(service.name).replace(", ", "\n").replace("in flight", "max"),
            _held(moment, service.name),
            str(figures.in_flight),
            f"{ttft} ({service.promise_seconds:g})",
            "-" if figures.tpot_seconds is None else f"{figures.tpot_seconds * MILLI:.0f}",
            f"{figures.value * MILLI:.2f}",
            f"{figures.good_value * MILLI:.2f}",
        )
    everything = moment.figures.values()
    result.add_section()
    result.add_row(
        *("all", f"{sum(f.offered for f in everything):.1f}", f"{sum(f.refused for f in everything):.1f}"),
        *("", "", str(sum(f.in_flight for f in everything)), "", ""),
        f"{sum(f.value for f in everything) * MILLI:.2f}",
        f"{sum(f.good_value for f in everything) * MILLI:.2f}",
    )
    return result


def line(scene: Scene, control: Control, moment: Moment) -> str:
    """The same in one line."""
    parts = [_brief(service.name, moment) for service in scene.services]
    head = f"{control.value:6} {moment.act.name:5} {moment.at_seconds:5.1f} s"
    return f"{head} | {' | '.join(parts)} | {_caption(moment.reading)}"


class _Lines:
    """Prints a line now and then."""

    def __init__(self, scene: Scene, console: Console) -> None:
        self._scene = scene
        self._console = console
        self._next: dict[Control, float] = {}

    def __call__(self, control: Control, moment: Moment) -> None:
        if moment.at_seconds >= self._next.get(control, 0.0):
            self._next[control] = moment.at_seconds + LINE_SECONDS
            self._console.out(line(self._scene, control, moment), highlight=False)


def _brief(name: str, moment: Moment) -> str:
    figures = moment.figures[name]
    words = [f"{name} {figures.offered:.1f}/s"]
    if moment.reading.limits(name):
        words.append(f"limit {moment.reading.limit(name)}")
    if moment.gate is not None:
        words.append(f"{_held(moment, name)} held")
    words += [f"{figures.in_flight} in flight", f"TTFT {_seconds(figures.ttft_seconds)}"]
    return ", ".join([*words, f"good value {figures.good_value * MILLI:.2f} m$/s"])


def _held(moment: Moment, name: str) -> str:
    return "-" if moment.gate is None else str(moment.gate.waiting.get(name, 0))


def _caption(reading: Reading) -> str:
    if reading.plan is None:
        return "no plan, no limits"
    word = reading.effective
    effective = f"Effective={word.status} ({word.reason})" if word else "Effective unknown"
    return f"plan {reading.plan.value_per_second * MILLI:.2f} m$/s, {effective}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
