"""``sluice run``: the control loop, against an API server or a directory of manifests."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sluice.cli import places

LARGEST_PORT = 65535


class LogLevel(StrEnum):
    """Least severe lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def run(  # noqa: PLR0913, PLR0917 - each parameter is one option of the command
    standalone: Annotated[
        Path | None,
        typer.Option(help="Directory of manifests to use instead of an API server.", exists=True, file_okay=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Standalone: folder for status, plans and Envoy's files.", file_okay=False)
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="Namespace to watch; may be repeated. Absent: the one we run in."),
    ] = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", help="Watch every namespace.")] = False,
    proxy_namespace: Annotated[
        list[str] | None,
        typer.Option(help="Namespace, beside those, in which proxies run and are counted; may be repeated."),
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Absent: in-cluster, else the default one.", exists=True, dir_okay=False)
    ] = None,
    http_address: Annotated[
        str | None, typer.Option(help="Address of probes and metrics. Default: all; standalone: loopback.")
    ] = None,
    http_port: Annotated[
        int, typer.Option(help="Port of probes and metrics; 0 takes a free one.", min=0, max=LARGEST_PORT)
    ] = 8080,
    log_level: Annotated[LogLevel, typer.Option(help="Least severe log lines that are written.")] = LogLevel.INFO,
) -> None:
    """Keep fleets at their optimum until stopped.

    Every fleet's mode says how far it goes: Observe plans and writes nothing
    but status, Advise shows what it would write, Enforce writes. Stopping it
    leaves limits and weights as they are.

    sluice run --standalone crds/samples/two-class --out out: try it, without an API server and in mode Observe.

    sluice run --namespace inference: the operator, with the kubeconfig at hand or in a pod.

    With kind EnvoyFiles and mode Enforce, start envoy -c out/envoy/bootstrap.json beside it. Status and plan
    are files below out too.
    """
    import asyncio  # noqa: PLC0415 - sluice --help stays quick

    from sluice.control import logs  # noqa: PLC0415 - as above

    logs.configure(log_level.value)
    if standalone is not None:
        if out is None:
            raise typer.BadParameter("--standalone needs --out", param_hint="--out")
        if namespace or all_namespaces or proxy_namespace or kubeconfig:
            raise typer.BadParameter("--standalone takes no API server's options", param_hint="--standalone")
        places.folder(out, "--out")
        from sluice.control.standalone import StandaloneSettings, run_until_stopped  # noqa: PLC0415 - as above

        settings = StandaloneSettings(
            manifests=standalone, out=out, address=http_address or "127.0.0.1", port=http_port
        )
        try:
            asyncio.run(run_until_stopped(settings))
        except OSError as error:
            typer.echo(f"sluice: {error} (--http-address, --http-port)", err=True)
            raise typer.Exit(code=1) from error
        return
    if out is not None:
        raise typer.BadParameter("--out belongs to --standalone", param_hint="--out")
    if namespace and all_namespaces:
        raise typer.BadParameter("give --namespace or --all-namespaces", param_hint="--namespace")
    from sluice.control.cluster.running import CannotStart, OperatorSettings, run_operator  # noqa: PLC0415 - as above

    watched = None if all_namespaces else tuple(namespace or ())
    operator = OperatorSettings(
        namespaces=watched,
        proxy_namespaces=tuple(proxy_namespace or ()),
        kubeconfig=kubeconfig,
        address=http_address or "0.0.0.0",  # noqa: S104 - the kubelet asks from outside the pod
        port=http_port,
    )
    try:
        asyncio.run(run_operator(operator))
    except CannotStart as error:
        typer.echo(f"sluice: {error}", err=True)
        raise typer.Exit(code=1) from error
