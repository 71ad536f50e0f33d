"""The console script: one file per command, each light to import (heavy rooms load when it runs)."""

from __future__ import annotations

import typer

from sluice.cli import demo, explain, gate, plan, profile, reproduce, run, simulate

application = typer.Typer(
    name="sluice",
    help="Holds a GPU inference fleet at the economic optimum of its workload mix.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@application.callback()
def _sluice() -> None:
    """Keep the command names even while there is only one command."""


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
