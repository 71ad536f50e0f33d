"""A plan as tables for people: what each class gets, what everything costs, and why."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sluice.model.fleet import Fleet
from sluice.model.plan import Band, ClassPlan, Plan
from sluice.planning.diff import Change
from sluice.planning.sensitivity import Sensitivity

_WIDTH = 160
"""Characters of a line where no terminal tells; from there on a table has room for the sentence of each class."""
_ENDLESS = 10_000
"""Characters of a line that holds whatever is measured."""
_BANDS = {Band.FULL: "in full", Band.RATIONED: "rationed", Band.IDLE_ONLY: "idle capacity only"}


def show(console: Console, fleet: Fleet, plan: Plan) -> None:
    """Print the plan of one fleet."""
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(
        f"[bold]{fleet.key}[/bold]  plan {plan.plan_id}  {plan.charging} charging  "
        f"value {plan.value_per_second:.6g}/s  upper bound {plan.upper_bound:.6g}/s"
    )
    if plan.replica_cost_per_second is not None:
        console.print(f"replicas in use cost {plan.replica_cost_per_second:.6g}/s; the value is net of it")
    if plan.conflict is not None:
        _show_conflict(console, plan)
    _show_classes(console, plan)
    console.print(_pools(plan))
    if plan.promises:
        console.print(_promises(plan))
    if plan.shadow_prices:
        console.print(_prices(plan, with_unit=console.width >= _WIDTH))
    else:
        console.print("Nothing binds: no class asks for anything.")
    for note in plan.notes:
        console.print(f"note: {note}", markup=False)


def _show_conflict(console: Console, plan: Plan) -> None:
    conflict = plan.conflict
    if conflict is None:
        return
    console.print(f"[bold]These promises cannot hold together:[/bold] {escape(', '.join(conflict.promises))}")
    for other in conflict.others:
        console.print(f"[bold]Nor can these:[/bold] {escape(other)}")
    for remedy in conflict.remedies:
        console.print(f"  {remedy}", markup=False)
    console.print(f"  planned meanwhile: {escape('; '.join(conflict.relaxed))}")
    console.print(f"  the promises as applied cost {conflict.cost_per_second:.4g}/s")


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    return table


def _show_classes(console: Console, plan: Plan) -> None:
    """One table where there is room; else the sentences below it, and what can be spared left out."""
    cells = _class_cells(plan)
    if console.width >= _WIDTH:
        console.print(_columns(cells))
        return
    del cells["standing", "left"]
    for spared in (None, ("index", "right"), ("tpot ms", "right"), ("ttft s", "right"), ("share", "right")):
        if spared is not None:
            del cells[spared]
        table = _columns(cells)
        if console.measure(table, options=console.options.update(width=_ENDLESS)).maximum <= console.width:
            break
    console.print(table)
    for entry in plan.classes:
        console.print(f"  {entry.name}: {entry.standing}", markup=False)


def _class_cells(plan: Plan) -> dict[tuple[str, str], list[str]]:
    """Demand, what is admitted, limit, weights, and the distance to the cut-off: cells by column."""
    left, right = "left", "right"
    classes = plan.classes
    return {
        ("class", left): [entry.name for entry in classes],
        ("offered/s", right): [f"{entry.arrival_rate:.4g}" for entry in classes],
        ("admitted/s", right): [f"{entry.admitted_rate:.4g}" for entry in classes],
        ("share", right): [f"{_share(entry):.0%}" for entry in classes],
        ("planned", left): [_BANDS[entry.band] for entry in classes],
        ("limit", right): [
            "none" if entry.in_flight_limit is None else f"{entry.in_flight_limit} in flight" for entry in classes
        ],
        ("weights", left): [
            " ".join(f"{part.pool}={part.weight_permille}" for part in entry.pools) for entry in classes
        ],
        ("index", right): [f"{entry.index:.4g}" for entry in classes],
        ("ttft s", right): [
            "" if entry.ttft_seconds is None or entry.admitted_rate == 0 else f"{entry.ttft_seconds:.3g}"
            for entry in classes
        ],
        ("tpot ms", right): ["" if not entry.tpot_seconds else f"{entry.tpot_seconds * 1000:.3g}" for entry in classes],
        ("standing", left): [entry.standing for entry in classes],
    }


def _columns(cells: dict[tuple[str, str], list[str]]) -> Table:
    table = _table(*cells)
    for row in zip(*cells.values(), strict=True):
        table.add_row(*row)
    return table


def _share(entry: ClassPlan) -> float:
    return entry.admitted_rate / entry.arrival_rate if entry.arrival_rate > 0 else 1.0


def _pools(plan: Plan) -> Table:
    """Replicas, how they spend their time, and what one more would earn."""
    table = _table(
        ("pool", "left"), ("replicas", "right"), ("mixed", "right"), ("solo", "right"), ("in use", "right"),
        ("best chunk", "right"), ("batch cap", "right"), ("one more earns/h", "right"),
    )  # fmt: skip
    for pool in plan.pools:
        table.add_row(
            pool.name,
            str(pool.replicas),
            f"{pool.mixed:.2f}",
            f"{pool.solo:.2f}",
            "" if pool.in_use is None else f"{pool.in_use:.2f}",
            "" if pool.chunk_tokens is None else f"{pool.chunk_tokens:.0f}",
            "" if pool.batch_cap is None else f"{pool.batch_cap:.0f}",
            "" if pool.value_per_replica_hour is None else f"{pool.value_per_replica_hour + 0.0:.4g}",
        )
    return table


def _promises(plan: Plan) -> Table:
    """What was promised, what is planned, and what it costs at the margin."""
    table = _table(("promise", "left"), ("target", "right"), ("planned", "right"), ("in words", "left"))
    for promise in plan.promises:
        table.add_row(promise.name, f"{promise.target:.4g}", f"{promise.planned:.4g}", promise.meaning)
    return table


def _prices(plan: Plan, *, with_unit: bool) -> Table:
    """The rows that bind, and what they cost; the words tell the unit too."""
    unit = [("unit", "left")] if with_unit else []
    table = _table(("binding row", "left"), ("price", "right"), *unit, ("in words", "left"))
    for price in plan.shadow_prices:
        shown = [price.unit] if with_unit else []
        table.add_row(escape(price.constraint), f"{price.value:.4g}", *shown, price.meaning)
    return table


def show_changes(console: Console, before: Plan, found: tuple[Change, ...]) -> None:
    """Print what differs from an earlier plan."""
    if not found:
        console.print(f"no difference from plan {before.plan_id} of {before.time}")
        return
    table = _table(("changed", "left"), ("field", "left"), (f"plan {before.plan_id}", "right"), ("now", "right"))
    for change in found:
        table.add_row(change.subject, change.field, change.before, change.after)
    console.print(table)


def show_sensitivities(console: Console, found: Iterable[Sensitivity]) -> None:
    """Print how the plan leans on each estimate."""
    table = _table(
        ("class", "left"), ("1 % more arrivals", "right"), ("1 % longer prompts", "right"),
        ("1 % longer answers", "right"), ("same classes served for offered/s", "left"),
    )  # fmt: skip
    for entry in found:
        high = "any more" if math.isinf(entry.rate_high) else f"{entry.rate_high:.4g}"
        table.add_row(
            entry.class_name,
            f"{entry.rate_percent:+.4g}/s",
            f"{entry.prompt_percent:+.4g}/s",
            f"{entry.output_percent:+.4g}/s",
            f"{entry.rate_low:.4g} to {high}",
        )
    console.print(table)
