"""``sluice demo``: the closed loop on this machine, without and with Sluice on the same load."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

FAST_SECONDS = 6.0
FAST_DRAIN_SECONDS = 3.0


class Limit(StrEnum):
    """``dataPlane.limit`` of the demo's fleet."""

    RATE = "Rate"
    IN_FLIGHT = "InFlight"


def demo(
    seconds: Annotated[float, typer.Option(help="Length of each of the two runs, seconds.", min=5.0, max=90.0)] = 70.0,
    seed: Annotated[int, typer.Option(help="Chooses the requests of the real traces, and patience.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the picture, plans and logs.")] = Path("out"),
    limit: Annotated[Limit, typer.Option(help="What carries the plan's admission.")] = Limit.RATE,
    live: Annotated[bool, typer.Option(help="Redraw a table in place; else print lines.")] = True,
    fast: Annotated[bool, typer.Option("--fast", help="Some seconds only, to see that everything starts.")] = False,
) -> None:
    """Run simulated replicas, a real Envoy and Prometheus, and a real load: first without, then with Sluice."""
    import sys  # noqa: PLC0415 - sluice --help stays quick
    from dataclasses import replace  # noqa: PLC0415 - as above

    from sluice.demo.scene import SCENE  # noqa: PLC0415 - as above
    from sluice.demo.show import DemoSettings, run  # noqa: PLC0415 - as above
    from sluice.model.fleet import LimitKind  # noqa: PLC0415 - as above

    settings = DemoSettings(
        seconds=seconds,
        seed=seed,
        out=out,
        live=live and sys.stdout.isatty(),
        scene=replace(SCENE, limit=LimitKind(limit.value)),
    )
    if fast:
        settings = replace(settings, seconds=FAST_SECONDS, drain_seconds=FAST_DRAIN_SECONDS)
    raise typer.Exit(run(settings))
