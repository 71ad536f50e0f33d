"""``sluice reproduce``: the paper's claims, each simulated and judged."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluice.cli import extras, places, reproduce_costs

if TYPE_CHECKING:
    from rich.console import Console

    from sluice.simulation.claims import Claim, Table


def reproduce(
    *,
    out: Annotated[
        Path, typer.Option(help="Folder for figures, claims.json, and what was run: jobs.jsonl, gates.jsonl.")
    ] = Path("out/reproduce"),
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help=f"Large panels: {reproduce_costs.hours(full=True):.1f} hours of processor time instead of "
            f"{60 * reproduce_costs.hours(full=False):.0f} minutes, shared by the workers. Stopped, the same command "
            "goes on from there.",
        ),
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Processes; as many as cores by default.")] = None,
    traces: Annotated[
        Path | None,
        typer.Option(
            help="Folder with azure2023/ and mooncake/: also the panel on real traces.", exists=True, file_okay=False
        ),
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(help="Splitwise's perf_model.csv: also the law's error against it.", exists=True, dir_okay=False),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="Only steps whose name contains this. Minutes of processor time, quick / full: "
            f"{reproduce_costs.told()}."
        ),
    ] = None,
) -> None:
    """Reproduce the paper's results, and say of each claim whether it holds.

    Every finished run is a line in a file under --out, and is not run again while the code
    that it depends on is the same.

    sluice reproduce: every claim at the quick scale.

    sluice reproduce --full --out out/full: the large panels; may be stopped and typed again.

    sluice reproduce --only linear --traces FOLDER: gates on real traces, and prefix caches, by load.
    """
    extras.need("matplotlib", "simulation")
    places.folder(out, "--out")
    from rich.console import Console  # noqa: PLC0415 - quick help

    try:
        claims = _judged(Console(stderr=True), out, full=full, workers=workers or os.cpu_count() or 1, only=only)
    except KeyboardInterrupt:
        typer.echo(f"sluice: stopped; what was run is kept in {out}, and the same command goes on from there", err=True)
        raise typer.Exit(code=130) from None
    _shown(claims, out)
    for table in _measured_tables(traces, measured):
        _print(table)
    width = max(len(claim.name) for claim in claims)
    for claim in claims:
        typer.echo(f"{claim.name.ljust(width)}  {claim.verdict.value:<15} {claim.statement}: {claim.evidence}")


def _judged(console: Console, out: Path, *, full: bool, workers: int, only: str | None) -> list[Claim]:
    """Every claim of the chosen steps; a bar tells what is left."""
    from rich import progress  # noqa: PLC0415

    from sluice.simulation.job_book import JobBook  # noqa: PLC0415
    from sluice.simulation.ledger import Ledger  # noqa: PLC0415
    from sluice.simulation.reproduction import Meter, in_processes, scale_of, steps  # noqa: PLC0415

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("left"),
    )
    claims: list[Claim] = []
    ledger = Ledger(out / "gates.jsonl", lambda words: console.print(f"    {words}"))
    with progress.Progress(*columns, console=console, speed_estimate_period=600.0) as bar:
        task = bar.add_task("reproducing")
        left = reproduce_costs.Remaining(0.0, lambda done, total: bar.update(task, completed=done, total=total))
        meter = Meter(left.job)
        with in_processes(workers, JobBook(out / "jobs.jsonl"), meter) as run:
            every = steps(run, scale_of(full=full), ledger)
            chosen = [step for step in every if only is None or only in step[0]]
            if not chosen:
                names = ", ".join(name for name, _ in every)
                raise typer.BadParameter(f"no step is called {only!r}; there are: {names}", param_hint="--only")
            left.total = sum(reproduce_costs.cost_of(name, full=full) for name, _ in chosen)
            for name, work in chosen:
                bar.update(task, description=name)
                left.begin(reproduce_costs.cost_of(name, full=full))
                before, known = meter.processor_seconds + time.process_time(), meter.known
                claims += work()
                left.end()
                spent = meter.processor_seconds + time.process_time() - before
                words = f", {meter.known - known} runs known already" if meter.known > known else ""
                console.print(f"... {name}: {spent:.0f} s of processor time{words}")
    return claims


def _shown(claims: Sequence[Claim], out: Path) -> None:
    """Tables for print, figures and JSON for the folder."""
    from sluice.simulation.figures import draw  # noqa: PLC0415

    for claim in claims:
        for table in claim.tables:
            _print(table)
        for chart in claim.charts:
            typer.echo(f"figure: {draw(chart, out)}\n")
    (out / "claims.json").write_text(json.dumps([asdict(claim) for claim in claims], indent=1) + "\n")


def _measured_tables(traces: Path | None, measured: Path | None) -> Sequence[Table]:
    """Of what was recorded elsewhere, where the user has it."""
    tables: list[Table] = []
    if traces is not None:
        from sluice.simulation.prefix_panel import prefix_tables  # noqa: PLC0415
        from sluice.simulation.trace_panel import trace_tables  # noqa: PLC0415

        tables += (*trace_tables(traces), *prefix_tables(traces))
    if measured is not None:
        from sluice.simulation.accuracy import law_errors  # noqa: PLC0415

        tables.append(law_errors(measured))
    return tables


def _print(table: Table) -> None:
    from sluice.simulation.claims import text_of  # noqa: PLC0415

    typer.echo(text_of(table) + "\n")
