"""A plan as tables for people: what each class gets, and why."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from sluice.model.fleet import Fleet
from sluice.model.plan import Band, ClassPlan, Plan

_WIDTH = 132
"""Characters of a line where no terminal tells."""
_BANDS = {Band.FULL: "in full", Band.RATIONED: "rationed", Band.IDLE_ONLY: "idle capacity only"}


def show(console: Console, fleet: Fleet, plan: Plan, notes: Iterable[str]) -> None:
    """Print the plan of one fleet."""
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(
        f"[bold]{fleet.key}[/bold]  plan {plan.plan_id}  {plan.charging} charging  "
        f"value {plan.value_per_second:.6g}/s  upper bound {plan.upper_bound:.6g}/s"
    )
    console.print(_classes(plan))
    console.print(_pools(plan))
    if plan.shadow_prices:
        console.print(_prices(plan))
    else:
        console.print("Nothing binds: no class asks for anything.")
    for note in notes:
        console.print(f"note: {note}")


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    return table


def _classes(plan: Plan) -> Table:
    """Demand, what is admitted, limit, weights, and the order of classes."""
    left, right = "left", "right"
    table = _table(
        ("class", left),
        ("offered/s", right),
        ("admitted/s", right),
        ("share", right),
        ("planned", left),
        ("limit", right),
        ("weights", left),
        ("index", right),
    )
    for entry in plan.classes:
        table.add_row(
            entry.name,
            f"{entry.arrival_rate:.4g}",
            f"{entry.admitted_rate:.4g}",
            f"{_share(entry):.0%}",
            _BANDS[entry.band],
            "none" if entry.in_flight_limit is None else f"{entry.in_flight_limit} in flight",
            " ".join(f"{part.pool}={part.weight_permille}" for part in entry.pools),
            f"{entry.index:.4g}",
        )
    return table


def _share(entry: ClassPlan) -> float:
    return entry.admitted_rate / entry.arrival_rate if entry.arrival_rate > 0 else 1.0


def _pools(plan: Plan) -> Table:
    """Replicas and how they spend their time."""
    table = _table(("pool", "left"), ("replicas", "right"), ("mixed", "right"), ("solo", "right"))
    for pool in plan.pools:
        table.add_row(pool.name, str(pool.replicas), f"{pool.mixed:.2f}", f"{pool.solo:.2f}")
    return table


def _prices(plan: Plan) -> Table:
    """The rows that bind, and what they cost."""
    table = _table(("binding row", "left"), ("price", "right"), ("unit", "left"), ("in words", "left"))
    for price in plan.shadow_prices:
        table.add_row(price.constraint.replace("[", r"\["), f"{price.value:.4g}", price.unit, price.meaning)
    return table
