"""``sluice plan``: the plan of a fleet from manifests alone, before anything is applied."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Output(StrEnum):
    """How a plan is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def plan(
    files: Annotated[list[Path], typer.Option("--files", "-f", help="Manifest files or directories.")],
    more: Annotated[list[Path] | None, typer.Argument(help="More files, so that -f *.yaml works.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print it.")] = Output.TABLE,
    fleet: Annotated[str | None, typer.Option(help="The fleet to plan, where the files hold several.")] = None,
) -> None:
    """Print the optimal plan of the fleets that manifests declare, for the demand that their classes declare."""
    from sluice.cli.plan_answers import answer, print_answers  # noqa: PLC0415 -- the solver loads only when it is used

    answers, complete = answer([*files, *(more or ())], fleet)
    print_answers(answers, output.value)
    if not complete:
        raise typer.Exit(1)
