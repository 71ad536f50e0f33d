"""``--sweep``: one quantity along a range, as a table, a document and a curve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sluice.model.plan import Plan
from sluice.planning import Problem
from sluice.planning import plan as solve
from sluice.planning.whatif import Sweep, sweep

MOST_SHOWN = 8
"""Classes that a table and a curve have room for; a document holds all."""


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep and the plan at each of its points."""

    asked: Sweep
    names: tuple[str, ...]
    """The classes, in the problem's order."""
    plans: tuple[Plan | None, ...]

    @classmethod
    def of(cls, problem: Problem, question: str) -> Swept:
        """Solve along the range."""
        asked = sweep(problem, question)
        plans = tuple(solve(asked.problem_at(value), now=0.0).plan for value in asked.values)
        return cls(asked, tuple(entry.name for entry in problem.classes), plans)

    @property
    def points(self) -> Iterator[tuple[float, Plan | None]]:
        """(value, plan); no plan where there is none at that value."""
        return zip(self.asked.values, self.plans, strict=True)

    @property
    def best(self) -> float:
        """The largest value per second of all points."""
        return max((plan.value_per_second for plan in self.plans if plan is not None), default=0.0)


def show_sweep(console: Console, swept: Swept) -> None:
    """Print a row per point."""
    asked, best, names = swept.asked, swept.best, list(swept.names[:MOST_SHOWN])
    table = Table(box=None, pad_edge=False, header_style="bold", title=f"sweep of {asked.title}", title_justify="left")
    for column in (f"{asked.title} ({asked.unit})", "value/s", "of the best", "conflict"):
        table.add_column(column, justify="left" if column == "conflict" else "right")
    for name in names:
        table.add_column(f"{name} served", justify="right")
    for value, plan in swept.points:
        if plan is None:
            table.add_row(f"{value:.4g}", "no plan")
            continue
        share = plan.value_per_second / best if best > 0 else 1.0
        conflict = "; ".join(_conflicts(plan))
        table.add_row(f"{value:.4g}", f"{plan.value_per_second:.6g}", f"{share:.1%}", conflict, *_served(plan, names))
    console.print(table)


def sweep_document(swept: Swept, fleet: str) -> dict[str, Any]:
    """The sweep as one document: money per second, served shares 0..1, and what had to be relaxed."""
    return {
        "fleet": fleet,
        "sweep": swept.asked.title,
        "unit": swept.asked.unit,
        "points": [_point(value, plan, swept) for value, plan in swept.points],
    }


def _point(value: float, plan: Plan | None, swept: Swept) -> dict[str, Any]:
    if plan is None:
        return {"at": value, "valuePerSecond": None}
    names = list(swept.names)
    return {
        "at": value,
        "valuePerSecond": plan.value_per_second,
        "shareOfBest": plan.value_per_second / swept.best if swept.best > 0 else 1.0,
        "served": dict(zip(names, _shares(plan, names), strict=True)),
        "conflict": [] if plan.conflict is None else list(plan.conflict.promises),
        "otherConflicts": [] if plan.conflict is None else list(plan.conflict.others),
        "relaxed": [] if plan.conflict is None else list(plan.conflict.relaxed),
        "valuePerReplicaHour": {pool.name: pool.value_per_replica_hour for pool in plan.pools},
    }


def _conflicts(plan: Plan) -> list[str]:
    """Every set of promises that cannot hold together."""
    return [] if plan.conflict is None else [", ".join(plan.conflict.promises), *plan.conflict.others]


def _served(plan: Plan, names: list[str]) -> list[str]:
    return [f"{share:.0%}" for share in _shares(plan, names)]


def _shares(plan: Plan, names: list[str]) -> list[float]:
    entries = [entry for name in names if (entry := plan.of(name)) is not None]
    return [entry.admitted_rate / entry.arrival_rate if entry.arrival_rate > 0 else 1.0 for entry in entries]


def draw_sweep(swept: Swept, png: Path) -> None:
    """Value above, served shares below."""
    asked, names = swept.asked, list(swept.names[:MOST_SHOWN])
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 -- an extra, only for drawing
    from matplotlib.figure import Figure  # noqa: PLC0415 -- as above

    points = [(value, plan) for value, plan in swept.points if plan is not None]
    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    value_axis, share_axis = figure.subplots(2, 1, sharex=True)
    across = [value for value, _ in points]
    value_axis.plot(across, [plan.value_per_second for _, plan in points], color="black")
    clashes = [(value, plan.value_per_second) for value, plan in points if plan.conflict is not None]
    if clashes:
        value_axis.plot(*zip(*clashes, strict=True), "x", color="tab:red", label="promises relaxed")
        value_axis.legend()
    value_axis.set_ylabel("value per second")
    value_axis.grid(alpha=0.3)
    for place, name in enumerate(names):
        share_axis.plot(across, [_shares(plan, names)[place] for _, plan in points], label=name)
    share_axis.set_ylabel("served share")
    share_axis.set_ylim(-0.03, 1.03)
    share_axis.set_xlabel(f"{asked.title} ({asked.unit})")
    share_axis.grid(alpha=0.3)
    share_axis.legend()
    figure.savefig(png, dpi=120)
