"""A comparison as tables, figures and JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

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
            entry.measure.total.queue,
            entry.measure.utilisation,
        )
        for entry in comparison.entries
    )
    return Table(
        title=f"{comparison.scenario.fleet.key}: plan {bound:.6g} per second",
        columns=("policy", "value/s", "good value/s", "share of R*", "served", "kept", "waiting", "busy"),
        note="served, kept: share of arrivals that finished, and that also kept their TTFT promise; waiting: mean "
        "requests before their prefill; busy: share of replica time with anything in the batch",
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
    rows, bound = [], comparison.plan.value_per_second
    for entry in comparison.entries:
        rows += [(entry.measure.regime, *_class_row(klass, bound)) for klass in entry.measure.classes]
    columns = (
        "policy",
        "class",
        "value/s",
        "good value/s",
        "of R*",
        "served",
        "kept",
        *(f"{signal} {statistic}" for signal in ("TTFT", "TPOT") for statistic in ("mean", "p50", "p95", "p99")),
        "waiting",
    )
    return Table(title="By class (seconds)", columns=columns, rows=tuple(rows))


def _class_row(klass: ClassMeasure, bound: float) -> tuple[str | float, ...]:
    ttft, tpot = klass.ttft, klass.tpot
    latencies = (ttft.mean, ttft.p50, ttft.p95, ttft.p99, tpot.mean, tpot.p50, tpot.p95, tpot.p99)
    value, good = klass.value_per_second.mean, klass.good_value_per_second.mean
    share = value / bound if bound else math.nan
    return (klass.name, value, good, share, klass.served, klass.kept, *latencies, klass.queue)


POINTS = 200
"""Points of a distribution's line."""
BINS = 60
"""Points of a line over time."""


def charts(comparison: Comparison) -> tuple[Chart, ...]:
    """Distributions of TTFT and TPOT, good value and waiting requests over time."""
    return (
        _distribution(comparison, "ttft", "Time to first token", "answered requests", _first_tokens),
        replace(
            _distribution(comparison, "tpot", "Time per output token", "finished answers", _token_milliseconds),
            x_label="milliseconds",
            logarithmic_x=False,
        ),
        _over_time(
            comparison, "good-value", "Value of answers that kept their promise", "money per second", _good_value
        ),
        _over_time(comparison, "waiting", "Requests before their first token", "requests", _waiting),
    )


def _distribution(comparison: Comparison, name: str, title: str, whose: str, of: Callable[[Any], Floats]) -> Chart:
    """Share of requests below a time, on a logarithmic axis."""
    lines, shares = [], np.linspace(0, 1, POINTS)
    for entry in comparison.entries:
        seconds = of(entry.record.requests)
        if len(seconds):
            points = np.quantile(seconds, shares)
            lines.append(Line(label=entry.measure.regime, x=tuple(points), y=tuple(shares)))
    return Chart(
        name=name, title=title, x_label="seconds", y_label=f"share of {whose}", lines=tuple(lines), logarithmic_x=True
    )


def _first_tokens(rows: Any) -> Floats:
    return np.asarray(np.maximum(1e-6, (rows["first"] - rows["arrival"])[rows["first"] >= 0]))


def _token_milliseconds(rows: Any) -> Floats:
    done = rows[(rows["state"] == int(State.DONE)) & (rows["output"] > 1.0)]
    return np.asarray(1e3 * (done["ended"] - done["first"]) / (done["output"] - 1.0))


def _over_time(
    comparison: Comparison, name: str, title: str, y_label: str, of: Callable[[Comparison, Any, Floats], Floats]
) -> Chart:
    """A value in each of equal spans of the horizon, the warm-up included."""
    edges = np.linspace(0.0, comparison.scenario.workload.horizon_seconds, BINS + 1)
    middle = tuple((edges[1:] + edges[:-1]) / 2)
    lines = tuple(
        Line(label=entry.measure.regime, x=middle, y=tuple(of(comparison, entry.record.requests, edges)))
        for entry in comparison.entries
    )
    return Chart(
        name=name,
        title=title,
        x_label="seconds since the start",
        y_label=y_label,
        lines=lines,
        from_zero=True,
    )


def _good_value(comparison: Comparison, rows: Any, edges: Floats) -> Floats:
    good = kept_promise(rows, comparison.prices) & (rows["state"] == int(State.DONE))
    sums, _ = np.histogram(rows["ended"][good], edges, weights=values_of(rows, comparison.prices)[good])
    return np.asarray(sums / (edges[1] - edges[0]))


def _waiting(comparison: Comparison, rows: Any, edges: Floats) -> Floats:
    """Requests that have arrived and have neither a first token nor left: the mean of each span."""
    del comparison
    gone = np.where(rows["first"] >= 0, rows["first"], np.where(rows["ended"] >= 0, rows["ended"], np.inf))
    return np.asarray(np.diff(_waited(rows["arrival"], edges) - _waited(gone, edges)) / np.diff(edges))


def _waited(moments: Floats, edges: Floats) -> Floats:
    """Seconds since ``moments`` up to each edge, summed over all that lie before it."""
    ordered = np.sort(moments[np.isfinite(moments)])
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    before = np.searchsorted(ordered, edges, "right")
    return np.asarray(before * edges - sums[before])


def _finite(value: str | float) -> str | float | None:
    """JSON knows no NaN: what nobody measured is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_document(comparison: Comparison) -> Mapping[str, object]:
    """The tables as JSON."""
    tables = (value_table(comparison), class_table(comparison), gap_table(comparison))
    return {
        table.title: [
            {column: _finite(value) for column, value in zip(table.columns, row, strict=True)} for row in table.rows
        ]
        for table in tables
        if table is not None
    }
