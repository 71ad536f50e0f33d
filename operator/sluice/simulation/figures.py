"""Charts as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import StrMethodFormatter

from sluice.simulation.claims import Chart

MOST_TICKS = 12
LEGEND_COLUMNS = 4


def _mark(axes: Axes, values: Sequence[float]) -> None:
    """Ticks where few points are, as plain numbers: powers of ten say nothing about five sizes."""
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if len(values) <= MOST_TICKS:
        axes.set_xticks(values)
        axes.minorticks_off()


def draw(chart: Chart, folder: Path) -> Path:
    """Draw one chart into ``folder`` and return its path."""
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for line in chart.lines:
        if line.error:
            axes.errorbar(line.x, line.y, yerr=line.error, label=line.label, marker="o", markersize=3, capsize=2)
        else:
            axes.plot(line.x, line.y, label=line.label, marker="o" if len(line.x) < 50 else None, markersize=3)
    if chart.level is not None:
        axes.axhline(chart.level, color="black", linewidth=0.8, linestyle=":")
    if chart.logarithmic_x:
        axes.set_xscale("log")
        _mark(axes, sorted({x for line in chart.lines for x in line.x}))
    axes.set_title(chart.title)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(alpha=0.3)
    if len(chart.lines) > 1:
        figure.legend(fontsize="small", loc="outside lower center", ncols=LEGEND_COLUMNS)
    path = folder / f"{chart.name}.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
