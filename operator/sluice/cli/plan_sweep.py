"""``--sweep``: one quantity along a range, as a table and as a curve."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from sluice.model.plan import Plan
from sluice.planning import Problem
from sluice.planning import plan as solve
from sluice.planning.whatif import QuestionError, Sweep, sweep


def show_sweep(console: Console, problem: Problem, question: str, png: Path | None) -> None:
    """Solve along the range, print a row per point, and draw value and served shares where a file is named."""
    asked = sweep(problem, question)
    plans = [solve(asked.problem_at(value), now=0.0).plan for value in asked.values]
    table = Table(box=None, pad_edge=False, header_style="bold", title=f"sweep of {asked.title}", title_justify="left")
    for column in (f"{asked.title} ({asked.unit})", "value/s", "of the best", "conflict"):
        table.add_column(column, justify="left" if column == "conflict" else "right")
    names = [entry.name for entry in problem.classes][:8]
    for name in names:
        table.add_column(f"{name} served", justify="right")
    best = max((plan.value_per_second for plan in plans if plan is not None), default=0.0)
    for value, plan in zip(asked.values, plans, strict=True):
        if plan is None:
            table.add_row(f"{value:.4g}", "no plan")
            continue
        share = plan.value_per_second / best if best > 0 else 1.0
        conflict = "" if plan.conflict is None else ", ".join(plan.conflict.promises)
        table.add_row(f"{value:.4g}", f"{plan.value_per_second:.6g}", f"{share:.1%}", conflict, *_served(plan, names))
    console.print(table)
    if png is not None:
        _draw(asked, plans, names, png)
        console.print(f"drawn to {png}")


def _served(plan: Plan, names: list[str]) -> list[str]:
    return [f"{share:.0%}" for share in _shares(plan, names)]


def _shares(plan: Plan, names: list[str]) -> list[float]:
    entries = [entry for name in names if (entry := plan.of(name)) is not None]
    return [entry.admitted_rate / entry.arrival_rate if entry.arrival_rate > 0 else 1.0 for entry in entries]


def _draw(asked: Sweep, plans: list[Plan | None], names: list[str], png: Path) -> None:
    """Value above, served shares below."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 -- an extra, only for drawing
        from matplotlib.figure import Figure  # noqa: PLC0415 -- as above
    except ImportError as error:
        raise QuestionError("--png needs matplotlib: pip install 'sluice[simulation]'") from error
    points = [(value, plan) for value, plan in zip(asked.values, plans, strict=True) if plan is not None]
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
