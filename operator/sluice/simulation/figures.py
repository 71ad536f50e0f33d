"""Charts as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import StrMethodFormatter

from sluice.simulation.claims import Chart, Line

MOST_TICKS = 12
FEW_POINTS = 50
"""Up to here every point has its mark."""
LEGEND_COLUMNS = 4
WIDE_LABEL = 24
"""Characters beyond which labels stand one under the other."""
STYLES = ("-", "--", "-.", ":")
"""In turn, so that a line which lies on another leaves it to be seen."""
HEADROOM = 1.04
"""Above the highest point of an axis that begins at zero."""
APART = 0.012
"""Share of the axis by which neighbours with error bars stand apart: one on another, nobody could tell them."""


def _mark(axes: Axes, values: Sequence[float]) -> None:
    """Ticks where few points are, as plain numbers: powers of ten say nothing about five sizes."""
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if len(values) <= MOST_TICKS:
        axes.set_xticks(values)
        axes.minorticks_off()


def distinct(lines: Sequence[Line]) -> list[Line]:
    """Lines that coincide as one with all their names: the last drawn would hide the others."""
    found: dict[tuple[tuple[float, ...], ...], Line] = {}
    for line in lines:
        key = (line.x, line.y, line.error)
        found[key] = replace(line, label=f"{found[key].label} = {line.label}") if key in found else line
    return list(found.values())


def apart(lines: Sequence[Line], *, logarithmic: bool) -> list[Line]:
    """Lines with error bars moved a little to either side."""
    points = [x for line in lines for x in line.x]
    if len(lines) < 2 or not any(line.error for line in lines) or len(set(points)) < 2:
        return list(lines)
    low, high = min(points), max(points)
    moved = []
    for k, line in enumerate(lines):
        step = APART * (k - (len(lines) - 1) / 2)
        x = tuple(v * (high / low) ** step if logarithmic else v + step * (high - low) for v in line.x)
        moved.append(replace(line, x=x))
    return moved


def draw(chart: Chart, folder: Path) -> Path:
    """Draw one chart into ``folder`` and return its path."""
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    lines = distinct(chart.lines)
    for number, line in enumerate(apart(lines, logarithmic=chart.logarithmic_x)):
        style = STYLES[number % len(STYLES)]
        if line.error:
            axes.errorbar(
                line.x, line.y, yerr=line.error, label=line.label, marker="o", markersize=3, capsize=2, elinewidth=0.8
            )
        else:
            mark = "o" if len(line.x) < FEW_POINTS else None
            axes.plot(line.x, line.y, label=line.label, linestyle=style, marker=mark, markersize=3)
    if chart.level is not None:
        axes.axhline(chart.level, color="black", linewidth=0.8, linestyle=":")
    if chart.logarithmic_x:
        axes.set_xscale("log")
        _mark(axes, sorted({x for line in chart.lines for x in line.x}))
    axes.set_title(chart.title)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(alpha=0.3)
    if chart.from_zero:
        axes.set_ylim(0.0, max(axes.get_ylim()[1], HEADROOM * max((y for line in lines for y in line.y), default=1.0)))
    if len(chart.lines) > 1:
        wide = max(len(line.label) for line in lines) > WIDE_LABEL
        figure.legend(fontsize="small", loc="outside lower center", ncols=1 if wide else LEGEND_COLUMNS)
    path = folder / f"{chart.name}.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
