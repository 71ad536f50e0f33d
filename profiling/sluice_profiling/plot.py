"""The picture of a fit: measured times with the law through them, and what the law leaves over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sluice_profiling.laws import LawFit, relative_errors
from sluice_profiling.measurement import Measurement

MILLISECOND = 1e-3


def plot(path: Path, title: str, fit: LawFit, measurements: Sequence[Measurement]) -> None:
    """Write a PNG with the times over the chunk, one line a batch, and the relative residuals."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    times, residuals = figure.subplots(1, 2)
    errors = relative_errors(fit.law, measurements)
    batches = sorted({entry.point.batch for entry in measurements})
    for position, batch in enumerate(batches):
        chosen = [index for index, entry in enumerate(measurements) if entry.point.batch == batch]
        chunks = np.array([measurements[index].point.chunk_tokens for index in chosen])
        colour = f"C{position % 10}"
        seconds = [measurements[index].seconds / MILLISECOND for index in chosen]
        half = [measurements[index].half_width_seconds / MILLISECOND for index in chosen]
        times.errorbar(chunks, seconds, yerr=half, fmt="o", color=colour, label=f"batch {batch}")
        line = np.linspace(0, max(1, int(chunks.max())), 200)
        predicted = [fit.law.mixed(chunk, batch) / MILLISECOND for chunk in line]
        times.plot(line, predicted, color=colour, linewidth=1)
        residuals.plot(chunks, errors[chosen] * 100, "o", color=colour)
    times.set(xlabel="prompt tokens in the iteration", ylabel="iteration, ms", title=title)
    times.legend()
    residuals.axhline(0, color="black", linewidth=0.8)
    residuals.set(
        xlabel="prompt tokens in the iteration",
        ylabel="law over measurement, %",
        title=f"{fit.form} law: mean error {fit.mean_error:.1%}, R2 {fit.r_squared:.4f}",
    )
    figure.savefig(path, dpi=110)
