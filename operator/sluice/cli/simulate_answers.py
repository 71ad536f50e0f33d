"""From manifests and traces to a comparison of policies, with every complaint on standard error."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import typer

from sluice.api.resolve import resolve
from sluice.api.supply import count
from sluice.cli.manifest_files import read
from sluice.model.fleet import Fleet, WorkloadClass
from sluice.model.signal import Source
from sluice.model.snapshot import PoolSupply
from sluice.simulation.claims import text_of
from sluice.simulation.comparison import (
    DEFAULT_REGIMES,
    Comparison,
    ComparisonError,
    Scenario,
    as_document,
    charts,
    class_table,
    compare,
    declared_workload,
    value_table,
)
from sluice.simulation.traces import Trace, TraceError, merge, read_trace
from sluice.simulation.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asked for."""

    files: tuple[Path, ...]
    traces: tuple[str, ...] = ()
    class_column: str | None = None
    policies: tuple[str, ...] = ()
    replicas: tuple[str, ...] = ()
    seconds: float = 600.0
    seed: int = 1
    output: str = "table"
    png: Path | None = None


class RequestError(ValueError):
    """The request cannot be carried out; the message says why."""


def run(request: Request) -> bool:
    """Do what was asked; False where something was wrong, which then stands on standard error."""
    try:
        fleet, classes, supplies = _fleet(request)
        traces = _traces(request)
        workload = _workload(request, classes, traces)
        scenario = Scenario(
            fleet=fleet, classes=_in_order(classes, workload), supplies=supplies, workload=workload, seed=request.seed
        )
        comparison = compare(scenario, request.policies or DEFAULT_REGIMES)
    except (RequestError, TraceError, ComparisonError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        return False
    _print(request, comparison, traces)
    return True


def _fleet(request: Request) -> tuple[Fleet, tuple[WorkloadClass, ...], tuple[PoolSupply, ...]]:
    manifests = read(request.files)
    if manifests.errors:
        raise RequestError("; ".join(manifests.errors))
    if len(manifests.fleets) != 1:
        raise RequestError(f"expected one InferenceFleet, found {len(manifests.fleets)}")
    resolved = resolve(manifests.fleets[0], manifests.profiles, manifests.classes)
    if resolved.fleet is None or resolved.is_blocked:
        raise RequestError("; ".join(finding.message for finding in resolved.findings))
    supplies, unknown = count(resolved.fleet, manifests.others)
    asked = dict(_asked(text) for text in request.replicas)
    names = {pool.name for pool in resolved.fleet.pools}
    if wrong := set(asked) - names:
        raise RequestError(f"--replicas: the fleet has no pool {', '.join(sorted(wrong))}")
    known = {entry.pool: entry for entry in supplies}
    known |= {name: PoolSupply(pool=name, ready=number, source=Source.OVERRIDE) for name, number in asked.items()}
    if missing := names - set(known):
        raise RequestError(
            "; ".join([f"{name}: replicas unknown" for name in sorted(missing)] + [str(f.message) for f in unknown])
        )
    return resolved.fleet, resolved.classes, tuple(known[pool.name] for pool in resolved.fleet.pools)


def _asked(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.isdigit() or int(number) < 1:
        raise RequestError(f"--replicas {text}: expected POOL=NUMBER")
    return name, int(number)


def _traces(request: Request) -> tuple[Trace, ...]:
    found = []
    for text in request.traces:
        name, _, path = text.rpartition("=")
        trace = read_trace(Path(path), class_column=request.class_column)
        found.append(replace(trace, name=name) if name else trace)
    return tuple(found)


def _workload(request: Request, classes: tuple[WorkloadClass, ...], traces: tuple[Trace, ...]) -> Workload:
    if not traces:
        return declared_workload(classes, horizon_seconds=request.seconds, seed=request.seed)
    patience = {entry.patience_seconds for entry in classes}
    workload = merge(
        traces, patience_seconds=max((p for p in patience if p is not None), default=None), seed=request.seed
    )
    declared = {entry.name for entry in classes}
    if unknown := set(workload.classes) - declared:
        raise RequestError(
            f"the trace has classes {', '.join(sorted(unknown))}; the manifests declare {', '.join(sorted(declared))}"
        )
    return workload


def _in_order(classes: tuple[WorkloadClass, ...], workload: Workload) -> tuple[WorkloadClass, ...]:
    by_name = {entry.name: entry for entry in classes}
    return tuple(by_name[name] for name in workload.classes)


def _print(request: Request, comparison: Comparison, traces: tuple[Trace, ...]) -> None:
    if request.output == "json":
        typer.echo(json.dumps(as_document(comparison), indent=1))
    else:
        typer.echo(text_of(value_table(comparison)) + "\n\n" + text_of(class_table(comparison)))
        _print_prediction(comparison, traces)
    if request.png is not None:
        from sluice.simulation.figures import draw  # noqa: PLC0415 -- matplotlib only where a figure is asked for

        request.png.mkdir(parents=True, exist_ok=True)
        for chart in charts(comparison):
            typer.echo(f"figure: {draw(chart, request.png)}")


def _print_prediction(comparison: Comparison, traces: tuple[Trace, ...]) -> None:
    """Own traffic: the predicted TTFT beside the logged one."""
    logged = [trace.logged_ttft for trace in traces if trace.logged_ttft is not None]
    if not logged:
        return
    seen = np.concatenate(logged)
    seen = seen[~np.isnan(seen)]
    for entry in comparison.entries:
        predicted = entry.measure.total.ttft
        actual = float(seen.mean())
        typer.echo(
            f"{entry.measure.regime}: predicted mean TTFT {predicted.mean:.3f} s, "
            f"logged {actual:.3f} s, error {predicted.mean / actual - 1.0:+.1%}"
        )
