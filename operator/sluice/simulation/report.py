"""A comparison as tables, figures and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sluice.simulation.actuated import ideal_of
from sluice.simulation.claims import Chart, Line, Table
from sluice.simulation.comparison import Comparison, Entry
from sluice.simulation.layout import State
from sluice.simulation.measure import BATCHES, ClassMeasure, Interval, interval_of, kept_promise, values_of

Floats = NDArray[np.float64]


def value_table(comparison: Comparison) -> Table:
    """One row per policy: what it earns, and what of it kept its promise."""
    bound = comparison.plan.value_per_second
    rows = tuple(
        (
            entry.measure.regime,
            str(entry.measure.total.value_per_second),
            str(entry.measure.total.good_value_per_second),
            entry.measure.total.value_per_second.mean / bound if bound else math.nan,
            entry.measure.total.served,
            entry.measure.total.kept,
            entry.measure.utilisation,
        )
        for entry in comparison.entries
    )
    return Table(
        title=f"{comparison.scenario.fleet.key}: plan {bound:.6g} per second",
        columns=("policy", "value/s", "good value/s", "share of R*", "served", "kept", "busy"),
        rows=rows,
    )


def gap_table(comparison: Comparison) -> Table | None:
    """What Sluice really does beside the ideal of the same means; None where no operator was at work.

    Paired over the same requests: the interval is that of the difference, by batch means.
    """
    by_name = {entry.measure.regime: entry for entry in comparison.entries}
    bound = comparison.plan.value_per_second
    rows: list[tuple[str | float, ...]] = []
    for name, entry in by_name.items():
        ideal = by_name.get(ideal_of(name) or "")
        if ideal is None:
            continue
        for label, good in (("value", False), ("good value", True)):
            told, held = _by_batch(comparison, ideal, good=good), _by_batch(comparison, entry, good=good)
            difference = interval_of(held - told)
            mean = float(told.mean())
            gap = Interval(difference.mean / mean, difference.half_width / mean) if mean else Interval(math.nan, 0.0)
            share = float(held.mean()) / bound if bound else math.nan
            rows.append((name, label, mean, float(held.mean()), f"{gap.mean:+.2%} ± {gap.half_width:.2%}", share))
    if not rows:
        return None
    writes = ", ".join(f"{name} {entry.writes}" for name, entry in by_name.items() if entry.writes is not None)
    return Table(
        title="What Sluice really does beside the ideal of the same limits",
        columns=("policy", "yardstick", "ideal/s", "actuated/s", "gap", "of R*"),
        rows=tuple(rows),
        note=f"ideal: true rates and lengths, the plan's numbers from the first second. Orders written: {writes}",
    )


def _by_batch(comparison: Comparison, entry: Entry, *, good: bool) -> Floats:
    """Value per second of finished requests in each batch after the warm-up."""
    setup, rows = entry.record.setup, entry.record.requests
    chosen = rows["state"] == int(State.DONE)
    if good:
        chosen &= kept_promise(rows, comparison.prices)
    edges = np.linspace(setup.warmup_seconds, setup.workload.horizon_seconds, BATCHES + 1)
    sums, _ = np.histogram(rows["ended"][chosen], bins=edges, weights=values_of(rows, comparison.prices)[chosen])
    return np.asarray(sums / (edges[1] - edges[0]), dtype=np.float64)


def class_table(comparison: Comparison) -> Table:
    """One row per policy and class: what its users see."""
    rows = []
    for entry in comparison.entries:
        rows += [(entry.measure.regime, *_class_row(klass)) for klass in entry.measure.classes]
    columns = (
        "policy",
        "class",
        "served",
        "kept",
        "TTFT mean",
        "p50",
        "p95",
        "p99",
        "TPOT mean",
        "p95",
        "p99",
        "queue",
    )
    return Table(title="By class (seconds)", columns=columns, rows=tuple(rows))


def _class_row(klass: ClassMeasure) -> tuple[str | float, ...]:
    ttft, tpot = klass.ttft, klass.tpot
    latencies = (ttft.mean, ttft.p50, ttft.p95, ttft.p99, tpot.mean, tpot.p95, tpot.p99)
    return (klass.name, klass.served, klass.kept, *latencies, klass.queue)


def charts(comparison: Comparison) -> tuple[Chart, ...]:
    """TTFT distributions and good value over time."""
    cdfs, series = [], []
    for entry in comparison.entries:
        rows = entry.record.requests
        waits = np.sort((rows["first"] - rows["arrival"])[rows["first"] >= 0])
        if len(waits) == 0:
            continue
        shares = np.linspace(0, 1, 200)
        points = np.quantile(waits, shares)
        cdfs.append(Line(label=entry.measure.regime, x=tuple(points), y=tuple(shares)))
        good = kept_promise(rows, comparison.prices) & (rows["state"] == int(State.DONE))
        edges = np.linspace(0.0, comparison.scenario.workload.horizon_seconds, 61)
        sums, _ = np.histogram(rows["ended"][good], edges, weights=values_of(rows, comparison.prices)[good])
        series.append(Line(label=entry.measure.regime, x=tuple(edges[1:]), y=tuple(sums / (edges[1] - edges[0]))))
    return (
        Chart(
            name="ttft",
            title="Time to first token",
            x_label="seconds",
            y_label="share of answered requests",
            lines=tuple(cdfs),
            logarithmic_x=True,
        ),
        Chart(
            name="good-value",
            title="Value of answers that kept their promise",
            x_label="seconds",
            y_label="money per second",
            lines=tuple(series),
        ),
    )


def as_document(comparison: Comparison) -> Mapping[str, object]:
    """The tables as JSON."""
    tables = (value_table(comparison), class_table(comparison), gap_table(comparison))
    return {
        table.title: [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        for table in tables
        if table is not None
    }
