"""``sluice reproduce``: the paper's claims, each simulated and judged."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sluice.cli import extras


def reproduce(
    *,
    out: Annotated[Path, typer.Option(help="Folder for figures, claims.json and gates.jsonl.")] = Path("out/reproduce"),
    full: Annotated[bool, typer.Option("--full", help="Large panels: hours, not minutes.")] = False,
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
    only: Annotated[str | None, typer.Option(help="Only steps whose name contains this.")] = None,
) -> None:
    """Reproduce the paper's results, and say of each claim whether it holds."""
    extras.need("matplotlib", "simulation")
    from rich.console import Console  # noqa: PLC0415 - quick help
    from rich.progress import track  # noqa: PLC0415

    from sluice.simulation.claims import Claim, text_of  # noqa: PLC0415
    from sluice.simulation.figures import draw  # noqa: PLC0415
    from sluice.simulation.ledger import Ledger  # noqa: PLC0415
    from sluice.simulation.reproduction import in_processes, scale_of, steps  # noqa: PLC0415

    console = Console(stderr=True)
    out.mkdir(parents=True, exist_ok=True)
    claims: list[Claim] = []
    ledger = Ledger(out / "gates.jsonl", lambda words: console.print(f"    {words}"))
    with in_processes(workers or os.cpu_count() or 1) as run:
        chosen = [step for step in steps(run, scale_of(full=full), ledger) if only is None or only in step[0]]
        if not chosen:
            raise typer.BadParameter(f"no step is called {only!r}", param_hint="--only")
        for name, work in track(chosen, description="reproducing", console=console):
            console.print(f"... {name}")
            claims += work()
    for claim in claims:
        for table in claim.tables:
            typer.echo(text_of(table) + "\n")
        for chart in claim.charts:
            typer.echo(f"figure: {draw(chart, out)}\n")
    (out / "claims.json").write_text(json.dumps([asdict(claim) for claim in claims], indent=1) + "\n")
    if traces is not None:
        from sluice.simulation.trace_panel import trace_tables  # noqa: PLC0415

        for table in trace_tables(traces):
            typer.echo(text_of(table) + "\n")
    if measured is not None:
        from sluice.simulation.accuracy import law_errors  # noqa: PLC0415

        typer.echo(text_of(law_errors(measured)) + "\n")
    width = max(len(claim.name) for claim in claims)
    for claim in claims:
        typer.echo(f"{claim.name.ljust(width)}  {claim.verdict.value:<15} {claim.statement}: {claim.evidence}")
