"""``sluice demo``: the same load in acts, without control, with limits and with the gate, on this machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

QUICK_SECONDS = 20.0
LONGEST_SECONDS = 120.0
"""The excerpts of real traffic hold no more requests at these rates."""


class DemoControl(StrEnum):
    """What stands between the load and the replicas."""

    NONE = "none"
    LIMITS = "limits"
    GATE = "gate"


class DemoAct(StrEnum):
    """Parts of the load."""

    CALM = "calm"
    RAMP = "ramp"
    BURST = "burst"
    BACK = "back"


class DemoLimit(StrEnum):
    """``dataPlane.limit`` of the demo's fleet."""

    RATE = "Rate"
    IN_FLIGHT = "InFlight"
    BOTH = "Both"


class DemoOutput(StrEnum):
    """What standard output gets."""

    TABLE = "table"
    JSON = "json"


def demo(  # noqa: PLR0913, PLR0917 - each parameter is one option of the command
    control: Annotated[
        list[DemoControl] | None,
        typer.Option(
            help="Runs to make, side by side: none (the proxy alone), limits (the operator limits classes at the "
            "proxy), gate (sluice gate holds single prefills at the proxy). May be repeated; absent: all three."
        ),
    ] = None,
    act: Annotated[
        list[DemoAct] | None,
        typer.Option(
            help="Acts to play: calm (load 0.7: control must do no harm), ramp (to 1.2: more than can be served), "
            "burst (code comes twice as often), back (0.7 again). May be repeated; absent: all four."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="Length of one run of all acts; absent: 64.", min=5.0, max=LONGEST_SECONDS),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Acts of a third the length: a look, not a measurement.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Chooses the requests of the real traces, and their patience.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for picture, figures, manifests, plans and logs.")] = Path("out"),
    limit: Annotated[
        DemoLimit | None, typer.Option(help="What the limits count; absent: the product's default.")
    ] = None,
    placement: Annotated[
        bool, typer.Option(help="Whether the gate names the replica of every request, or the proxy chooses.")
    ] = True,
    output: Annotated[
        DemoOutput, typer.Option("--output", "-o", help="table, or json (as in OUT/demo.json; the rest on stderr).")
    ] = DemoOutput.TABLE,
    live: Annotated[bool, typer.Option(help="Redraw a table in place; else print lines.")] = True,
) -> None:
    """Play the same load without control, with limits and with the gate, and compare.

    Everything runs on this machine, without GPU and Docker: simulated
    replicas that keep an iteration-time law in real time, a real Envoy, a
    real Prometheus, the operator, the gate, and a load from real traces.
    Load 1 is what the plan just serves in full.

    Look at "held" and "TTFT" while it runs, and then at the table: the gate
    holds code back in the burst and chat keeps its first tokens; without
    control both queue in the engines. OUT/demo.png shows the runs over time.

    sluice demo: all of it, four to five minutes.

    sluice demo --quick: to see that everything starts.

    sluice demo --control none --control gate --act calm: does the gate harm?
    """
    import sys  # noqa: PLC0415 - sluice --help stays quick
    from dataclasses import replace  # noqa: PLC0415 - as above

    from sluice.demo.scene import SCENE, Control  # noqa: PLC0415 - as above
    from sluice.demo.show import DemoSettings, run  # noqa: PLC0415 - as above
    from sluice.model.fleet import LimitKind  # noqa: PLC0415 - as above

    if quick and seconds is not None:
        raise typer.BadParameter("--quick sets the length; give one of the two", param_hint="--seconds")
    scene = replace(SCENE, limit=None if limit is None else LimitKind(limit.value), placement=placement)
    length = QUICK_SECONDS if quick else seconds
    if length is not None:
        scene = scene.lasting(length)
    if act:
        scene = scene.playing([one.value for one in act])
    stream = sys.stderr if output is DemoOutput.JSON else sys.stdout
    settings = DemoSettings(
        scene=scene,
        controls=tuple(one for one in Control if not control or one.value in {chosen.value for chosen in control}),
        seed=seed,
        out=out,
        live=live and stream.isatty(),
        prints_json=output is DemoOutput.JSON,
    )
    raise typer.Exit(run(settings))
