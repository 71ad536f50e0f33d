"""``sluice simulate``: what each policy would have earned, and what users would have seen."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sluice.cli import extras, places

LONGEST_SECONDS = 604800.0
"""A week: longer traffic says nothing that a week does not, and its requests fill the memory."""


class Shown(StrEnum):
    """Forms of the answer."""

    TABLE = "table"
    JSON = "json"


def simulate(  # noqa: PLR0913, PLR0917 -- one argument per option of the command
    files: Annotated[list[Path], typer.Option("--files", "-f", help="Manifest files or directories.")],
    trace: Annotated[
        list[str] | None,
        typer.Option(
            help="CLASS=FILE, or FILE with --class-column; may be repeated. CSV or JSONL of Azure, Mooncake, ServeGen, "
            "or an access log in JSON. Without: synthetic traffic at the declared rates."
        ),
    ] = None,
    class_column: Annotated[str | None, typer.Option(help="Column of the trace that names a request's class.")] = None,
    clusters: Annotated[
        int | None, typer.Option(help="Part each trace into so many classes by length; they inherit CLASS's terms.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="A policy to compare, such as chunked, sluice or bands+late-last; may be repeated. "
            "Without: a choice of six. An unknown name lists them all."
        ),
    ] = None,
    replicas: Annotated[
        list[str] | None,
        typer.Option(help="POOL=NUMBER: replicas of a pool instead of the manifests'; may be repeated."),
    ] = None,
    fleet: Annotated[str | None, typer.Option(help="The fleet to simulate, where the files hold several.")] = None,
    proxies: Annotated[int, typer.Option(min=1, help="Ready proxies that divide Sluice's limits.")] = 1,
    seconds: Annotated[float, typer.Option(min=1.0, max=LONGEST_SECONDS, help="Length of synthetic traffic.")] = 600.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all draws.")] = 1,
    output: Annotated[Shown, typer.Option("--output", "-o", help="What standard output gets.")] = Shown.TABLE,
    png: Annotated[Path | None, typer.Option(help="Folder for figures.")] = None,
) -> None:
    """Simulate a fleet under several policies, at iteration level, with the same requests for each.

    Prints value and good value (of answers that kept their promise) per second,
    latencies per class, and how far the operator is from its own ideal.

    sluice simulate -f crds/samples/two-class: synthetic traffic at the declared rates.

    sluice simulate -f FOLDER --trace chat=chat.csv --trace code=code.jsonl: your traffic, a file a class.

    sluice simulate -f FOLDER --policy chunked --policy timely --replicas a100=6: two policies on another fleet.
    """
    for option, given in (("--clusters", clusters), ("--class-column", class_column)):
        if given is not None and not trace:
            raise typer.BadParameter("says how to read a trace; give --trace too", param_hint=option)
    if png is not None:
        extras.need("matplotlib", "simulation")
        places.folder(png, "--png")
    if not extras.has("numba"):
        typer.echo("note: without numba this takes several times as long: pip install 'sluice[simulation]'", err=True)
    from sluice.cli.simulate_answers import Request, run  # noqa: PLC0415 -- the engine loads only when it is used

    request = Request(
        files=tuple(files),
        fleet=fleet,
        traces=tuple(trace or ()),
        class_column=class_column,
        clusters=clusters,
        policies=tuple(policy or ()),
        replicas=tuple(replicas or ()),
        proxies=proxies,
        seconds=seconds,
        seed=seed,
        output=output.value,
        png=png,
    )
    if not run(request):
        raise typer.Exit(1)
