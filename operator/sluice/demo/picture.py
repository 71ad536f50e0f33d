"""The runs as one picture: the same seconds, a line per control, the acts marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sluice.demo.record import quantile, totals
from sluice.demo.run import Run
from sluice.demo.scene import Control, Scene, Service
from sluice.demo.summary import MILLI, Outcome

COLOURS = {Control.NONE: "#b0413e", Control.LIMITS: "#c98a1b", Control.GATE: "#2f6f4f"}
BIN_SECONDS = 3.0
"""Width of the bins of arrivals whose 95th percentile is drawn."""


def draw(outcome: Outcome, path: Path) -> None:
    """Write a PNG: money, first tokens, and what was offered, refused and held, over time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - from the extra `simulation`
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    scene = outcome.scene
    figure = Figure(figsize=(12, 3.1 * (1 + len(scene.services))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1 + len(scene.services), 2, squeeze=False)
    _money(axes[0][0], outcome, good=True)
    _money(axes[0][1], outcome, good=False)
    for row, service in enumerate(scene.services, start=1):
        _first_tokens(axes[row][0], outcome, service)
        _demand(axes[row][1], outcome, service)
    for axis in axes.flat:
        _mark_acts(axis, scene, named=axis in axes[0])
        axis.legend(fontsize=7, loc="upper left")
    for axis in axes[-1]:
        axis.set_xlabel("seconds")
    good = ", ".join(f"{run.control.words} {MILLI * run.good_value():.2f}" for run in outcome.runs)
    note = "" if outcome.trusted else "\nTHE MACHINE WAS TOO BUSY: DO NOT TRUST THESE FIGURES"
    figure.suptitle(f"Same requests, simulated replicas, real Envoy\ngood value, m$/s: {good}{note}", fontsize=11)
    figure.savefig(path, dpi=110)


def _money(axis: Any, outcome: Outcome, *, good: bool) -> None:
    for run in outcome.runs:
        moments = run.while_arriving()
        money = [MILLI * sum(f.good_value if good else f.value for f in m.figures.values()) for m in moments]
        axis.plot([m.at_seconds for m in moments], money, color=COLOURS[run.control], label=run.control.words)
    title = "good value (first token within the promise)" if good else "value of all complete answers"
    axis.set(title=title, ylabel="m$ per second", ylim=(0, None))


def _first_tokens(axis: Any, outcome: Outcome, service: Service) -> None:
    for run in outcome.runs:
        points = _tails(run, service)
        if points:
            axis.plot(*zip(*points, strict=True), color=COLOURS[run.control], label=run.control.words)
    axis.axhline(service.promise_seconds, color="black", linestyle=":", label="promise")
    axis.set(title=f"{service.name}: p95 TTFT by time of arrival", ylabel="seconds", ylim=(0, None))


def _tails(run: Run, service: Service) -> list[tuple[float, float]]:
    """95th percentile of TTFT of what arrived in each bin; a client that left counts with what it waited."""
    bins: dict[int, list[Any]] = {}
    for record in run.records.values():
        bins.setdefault(int(record.arrival.at_seconds / BIN_SECONDS), []).append(record)
    tails = ((number, quantile(totals(records, service).ttft_seconds, 0.95)) for number, records in bins.items())
    return [((number + 0.5) * BIN_SECONDS, tail) for number, tail in sorted(tails) if tail is not None]


def _demand(axis: Any, outcome: Outcome, service: Service) -> None:
    name = service.name
    for run in outcome.runs:
        moments = run.while_arriving()
        times, colour = [m.at_seconds for m in moments], COLOURS[run.control]
        if run is outcome.runs[0]:
            axis.plot(times, [m.figures[name].offered for m in moments], color="black", label="offered per second")
        if any(m.figures[name].refused for m in moments):
            label = f"refused per second {run.control.words}"
            axis.plot(times, [m.figures[name].refused for m in moments], color=colour, label=label)
        held = [(m.at_seconds, m.gate.waiting.get(name, 0)) for m in moments if m.gate is not None]
        if any(number for _, number in held):
            axis.plot(*zip(*held, strict=True), color=colour, linestyle="--", label="held by the gate (requests)")
    axis.set(title=f"{name}: offered, refused, held", ylim=(0, None))


def _mark_acts(axis: Any, scene: Scene, *, named: bool) -> None:
    """Grey every other act; where ``named``, say below the axis which is which."""
    for number, span in enumerate(scene.timetable):
        axis.axvspan(span.start, span.end, color="grey", alpha=0.12 if number % 2 else 0.0, linewidth=0)
        if named:
            axis.text(
                (span.start + span.end) / 2.0,
                -0.12,
                f"{span.act.name}\n{span.act.load}",
                transform=axis.get_xaxis_transform(),
                ha="center",
                va="top",
                fontsize=8,
            )
    axis.set_xlim(0, scene.seconds)
