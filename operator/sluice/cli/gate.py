"""``sluice gate``: the external processor that holds requests until their class may start a prefill."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

LARGEST_PORT = 65535
CANNOT_BIND = "Failed to bind to address"
"""How gRPC begins when it cannot have its address; it raises nothing narrower than RuntimeError."""


class GateOrder(StrEnum):
    """Orders of admission that never hold anything back while an engine idles."""

    TIMELY = "timely"
    BANDS = "bands"
    PRIORITY = "priority"
    DEADLINE = "earliest-deadline"
    OCCUPANCY = "gate"
    ARRIVAL = "first-come"


def gate(  # noqa: PLR0913, PLR0917 - each parameter is one option of the command
    manifests: Annotated[
        Path | None,
        typer.Option(help="Directory of manifests to use instead of an API server.", exists=True, file_okay=False),
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="The fleet's namespace; absent: the one we run in.")] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Absent: in-cluster, else the default one.", exists=True, dir_okay=False)
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="The plan's file; it may appear later.")] = None,
    fleet: Annotated[
        str | None, typer.Option(help="Name of the fleet; may be absent where manifests declare just one.")
    ] = None,
    listen: Annotated[str, typer.Option(help="host:port that the proxy calls; port 0 takes a free one.")] = (
        "127.0.0.1:9002"
    ),
    http_address: Annotated[str, typer.Option(help="Address of probes and metrics.")] = "127.0.0.1",
    http_port: Annotated[
        int, typer.Option(help="Port of probes and metrics; 0 takes a free one.", min=0, max=LARGEST_PORT)
    ] = 9003,
    order: Annotated[GateOrder, typer.Option(help="Order of admission.")] = GateOrder.TIMELY,
    shadow: Annotated[bool, typer.Option("--shadow", help="Count what would be held, and hold nothing.")] = False,
    placement: Annotated[
        bool, typer.Option("--placement", help="Name the replica for every request, whatever the fleet says.")
    ] = False,
    ramp_seconds: Annotated[
        float, typer.Option(help="Seconds until a new replica gets its whole part of placed requests.", min=0.0)
    ] = 30.0,
    enforce_class: Annotated[
        list[str] | None, typer.Option(help="Gate this class only; may be repeated. The others are counted.")
    ] = None,
    enforce_permille: Annotated[int, typer.Option(help="Share of requests that are gated.", min=0, max=1000)] = 1000,
    ungated_path: Annotated[
        list[str] | None, typer.Option(help="Path that passes without a decision, such as a probe's; may be repeated.")
    ] = None,
    max_waiting: Annotated[int, typer.Option(help="Requests of one class that may wait.", min=1)] = 2000,
    max_wait: Annotated[float, typer.Option(help="Seconds that a request may wait.", min=0.0, max=60.0)] = 60.0,
    refuse_late: Annotated[
        bool, typer.Option("--refuse-late", help="Refuse at once what can no longer keep its promise.")
    ] = False,
    bytes_per_token: Annotated[float, typer.Option(help="Bytes of a request's body per prompt token.", min=0.1)] = 4.0,
    decisions: Annotated[Path | None, typer.Option(help="Folder of the bounded log for sluice explain.")] = None,
    kill_file: Annotated[Path | None, typer.Option(help="While this file exists nothing is held.")] = None,
    drain_seconds: Annotated[float, typer.Option(help="Grace after SIGTERM for what waits.", min=0.0)] = 20.0,
) -> None:
    """Admit prefills at the proxy, exactly and in the plan's order.

    The proxy asks about every request (Envoy's external processor); what is
    asked waits in its class's queue until an engine has room for one more
    prefill. A gate that is not there lets everything pass. Orders:

    timely (by worth per second of what is scarce, promises first as far as they cost nothing) ·
    bands (the plan's bands, its index inside) · priority (the plan's index alone) ·
    earliest-deadline (by TTFT promise) · gate (the class furthest below its planned prefills) · first-come.

    sluice gate --fleet llama-8b --shadow: count what would be held, in the namespace we run in; hold nothing.

    sluice gate --manifests FOLDER --plan out/plan.default.llama-8b.json --decisions log: without an API server.

    kill -USR1 PID lets everything pass, kill -USR2 PID holds again; sluice explain reads the log.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > LARGEST_PORT:
        raise typer.BadParameter(f"{listen!r} is no host:port, such as 127.0.0.1:9002", param_hint="--listen")
    if manifests is None and fleet is None:
        raise typer.BadParameter("without --manifests the fleet must be named", param_hint="--fleet")
    import asyncio  # noqa: PLC0415 - sluice --help stays quick
    import os  # noqa: PLC0415 - as above

    os.environ["SLUICE_KERNELS"] = "plain"  # one decision at a time needs no compiler, and its memory is for requests
    from sluice.control import logs  # noqa: PLC0415 - after the setting above
    from sluice.gate.assembly import Choices  # noqa: PLC0415 - as above
    from sluice.gate.feed import FeedError  # noqa: PLC0415 - as above
    from sluice.gate.process import GateSettings, run_until_stopped  # noqa: PLC0415 - as above
    from sluice.policy import orders  # noqa: PLC0415 - as above

    logs.configure("info")
    known = (orders.TIMELY, orders.BANDS, orders.PRIORITY, orders.EARLIEST_DEADLINE, orders.GATE, orders.FIRST_COME)
    settings = GateSettings(
        manifests=manifests,
        namespace=namespace,
        kubeconfig=kubeconfig,
        plan_file=plan,
        fleet=fleet,
        listen=listen,
        http_address=http_address,
        http_port=http_port,
        shadow=shadow,
        ungated_paths=frozenset(ungated_path or ()),
        choices=Choices(
            policy=next(policy for policy in known if policy.name == order.value),
            max_waiting=max_waiting,
            max_wait_seconds=max_wait,
            enforced_permille=enforce_permille,
            enforced_classes=frozenset(enforce_class or ()),
            refuse_late=refuse_late,
            bytes_per_token=bytes_per_token,
            places=placement,
            ramp_seconds=ramp_seconds,
        ),
        decisions=decisions,
        kill_file=kill_file,
        drain_seconds=drain_seconds,
    )
    try:
        asyncio.run(run_until_stopped(settings))
    except (FeedError, OSError) as error:
        typer.echo(f"sluice: {error}", err=True)
        raise typer.Exit(code=1) from error
    except RuntimeError as error:
        if CANNOT_BIND not in str(error):
            raise
        typer.echo(f"sluice: --listen {listen}: cannot be bound: taken, or no address of this machine", err=True)
        raise typer.Exit(code=1) from error
