"""``sluice plan``: the plan of a fleet from manifests alone, before anything is applied."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sluice.cli import extras, places


class Output(StrEnum):
    """How a plan is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def plan(  # noqa: PLR0913, PLR0917 -- one argument per option of the command
    files: Annotated[list[Path], typer.Option("--files", "-f", help="Manifest files or directories.")],
    more: Annotated[list[Path] | None, typer.Argument(help="More files, so that -f *.yaml works.")] = None,
    output: Annotated[
        Output,
        typer.Option(
            "--output",
            "-o",
            help="How to print it; --diff and --sensitivity stand beside the plan in one document.",
        ),
    ] = Output.TABLE,
    fleet: Annotated[str | None, typer.Option(help="The fleet to plan, where the files hold several.")] = None,
    replicas: Annotated[
        list[str] | None, typer.Option(help="What if a pool had more or other replicas: pool=+4 or pool=12.")
    ] = None,
    demand: Annotated[
        list[str] | None, typer.Option(help="What if a class asked for more: class=x1.5, or class=40 requests/s.")
    ] = None,
    diff: Annotated[
        str | None,
        typer.Option(help="Compare with a plan: a file (-o json, -o yaml or the plan ConfigMap), or 'cluster'."),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            help="Draw a trade-off: sli=ttft:chat:0.2..2.0, demand=chat:0.5..2, replicas=h100:2..8, price=chat:0.5..2. "
            "With -o json or yaml the sweep is printed instead of the plan."
        ),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Where --sweep draws its curve.")] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Also say how the plan leans on each estimate.")
    ] = False,
) -> None:
    """Print the optimal plan of the fleets that manifests declare, for the demand that their classes declare.

    Reads no cluster (but for --diff cluster) and writes nothing. Replicas are
    counted from endpoints, Pods or Deployments among the manifests. Exit
    status 1 where something could not be read or planned.

    sluice plan -f crds/samples/fleet: what each class is admitted, which rows bind, what more would earn.

    sluice plan -f FOLDER --replicas a100=+2 --demand chat=x1.5: what if.

    sluice plan -f FOLDER -o json > before.json, and later --diff before.json: what changed.

    sluice plan -f FOLDER --sweep sli=ttft:chat:0.2..2.0 --png curve.png: what a promise costs, by its target.
    """
    if png is not None and sweep is None:
        raise typer.BadParameter("only --sweep draws a curve; give both", param_hint="--png")
    if png is not None:
        extras.need("matplotlib", "simulation")
        places.picture(png, "--png")
    from sluice.cli.plan_answers import Request, run  # noqa: PLC0415 -- the solver loads only when it is used

    request = Request(
        files=(*files, *(more or ())),
        fleet=fleet,
        output=output.value,
        replicas=tuple(replicas or ()),
        demand=tuple(demand or ()),
        diff=diff,
        sweep=sweep,
        png=png,
        sensitivity=sensitivity,
    )
    if not run(request):
        raise typer.Exit(1)
