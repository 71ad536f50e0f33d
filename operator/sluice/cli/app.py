"""The console script: one file per command, each light to import (heavy rooms load when it runs)."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from sluice.cli import demo, explain, gate, plan, profile, reproduce, run, simulate

application = typer.Typer(
    name="sluice",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"sluice {version('sluice')}")
        raise typer.Exit


@application.callback()
def _sluice(
    told: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Holds a GPU inference fleet at the economic optimum of its workload mix.

    sluice plan -f crds/samples/fleet: a first plan, from files alone.

    sluice demo: the closed loop on this machine.

    sluice COMMAND --help ends with what to type.
    """


application.command("demo")(demo.demo)
application.command("explain")(explain.explain)
application.command("gate")(gate.gate)
application.command("plan")(plan.plan)
application.add_typer(profile.application, name="profile")
application.command("reproduce")(reproduce.reproduce)
application.command("run")(run.run)
application.command("simulate")(simulate.simulate)


def main() -> None:
    """Entry point of the console script."""
    application()
