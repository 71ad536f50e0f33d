"""From manifests and traces to a comparison of policies, with every complaint on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import typer

from sluice.api.resolve import resolve
from sluice.api.supply import count
from sluice.cli.manifest_files import complain, names, no_fleet, orphaned, read
from sluice.model.fleet import Fleet, WorkloadClass
from sluice.model.signal import Source
from sluice.model.snapshot import PoolSupply
from sluice.simulation.claims import text_of
from sluice.simulation.comparison import (
    DEFAULT_REGIMES,
    Comparison,
    ComparisonError,
    Scenario,
    compare,
    declared_workload,
)
from sluice.simulation.report import as_document, charts, class_table, gap_table, value_table
from sluice.simulation.trace_files import TraceError
from sluice.simulation.traces import Trace, clustered, merge, read_trace
from sluice.simulation.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asked for."""

    files: tuple[Path, ...]
    fleet: str | None = None
    traces: tuple[str, ...] = ()
    class_column: str | None = None
    policies: tuple[str, ...] = ()
    replicas: tuple[str, ...] = ()
    clusters: int | None = None
    """Classes per trace, by clustering its lengths; None: a file is a class."""
    proxies: int = 1
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
        classes, workload = _traffic(request, classes, traces)
        scenario = Scenario(
            fleet=fleet,
            classes=classes,
            supplies=supplies,
            workload=workload,
            seed=request.seed,
            proxies=request.proxies,
        )
        with _progress() as progress:
            comparison = compare(scenario, request.policies or DEFAULT_REGIMES, progress)
    except (RequestError, TraceError, ComparisonError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        return False
    _print(request, comparison, traces)
    return True


def _fleet(request: Request) -> tuple[Fleet, tuple[WorkloadClass, ...], tuple[PoolSupply, ...]]:
    manifests = read(request.files)
    if manifests.errors:
        raise RequestError("\nerror: ".join(manifests.errors))
    fleets = [entry for entry in manifests.fleets if request.fleet in {None, entry.metadata.name}]
    if not fleets:
        raise RequestError(no_fleet(manifests, request.files, request.fleet))
    if len(fleets) > 1:
        raise RequestError(f"one fleet is simulated, and there are {names(manifests)}: choose by --fleet")
    complain("", orphaned(manifests))
    resolved = resolve(fleets[0], manifests.profiles, manifests.classes)
    complain(f"InferenceFleet/{fleets[0].metadata.name}", resolved.findings)
    if resolved.fleet is None or resolved.is_blocked:
        raise RequestError("nothing to simulate")
    supplies, unknown = count(resolved.fleet, manifests.others)
    asked = dict(_asked(text) for text in request.replicas)
    pools = {pool.name for pool in resolved.fleet.pools}
    if wrong := set(asked) - pools:
        raise RequestError(
            f"--replicas: the fleet has no pool {', '.join(sorted(wrong))}; it has {', '.join(sorted(pools))}"
        )
    known = {entry.pool: entry for entry in supplies}
    known |= {name: PoolSupply(pool=name, ready=number, source=Source.OVERRIDE) for name, number in asked.items()}
    if missing := pools - set(known):
        raise RequestError(
            "; ".join([f"{name}: replicas unknown" for name in sorted(missing)] + [str(f.message) for f in unknown])
        )
    return resolved.fleet, resolved.classes, tuple(known[pool.name] for pool in resolved.fleet.pools)


def _asked(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.isdigit() or int(number) < 1:
        raise RequestError(f"--replicas {text}: expected POOL=NUMBER")
    return name, int(number)


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A bar per policy on standard error where that is a terminal; nothing elsewhere."""
    from rich.console import Console  # noqa: PLC0415 -- quick help
    from rich.progress import Progress, TaskID  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, share: float) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=1.0)
            bars.update(tasks[name], completed=share)

        yield show


def _traces(request: Request) -> tuple[Trace, ...]:
    found = []
    for text in request.traces:
        name, _, path = text.rpartition("=")
        try:
            trace = read_trace(Path(path), class_column=request.class_column)
        except OSError as error:
            raise RequestError(f"--trace {text}: {path} cannot be read: {error.strerror}") from error
        trace = replace(trace, name=name) if name else trace
        found.append(trace if request.clusters is None else _clustered(trace, request.clusters))
    return tuple(found)


def _clustered(trace: Trace, clusters: int) -> Trace:
    if trace.label:
        raise RequestError("--clusters and --class-column both say what a class is; give one")
    if not 1 <= clusters <= len(trace.arrival):
        raise RequestError(f"--clusters {clusters}: the trace has {len(trace.arrival)} requests")
    return clustered(trace, clusters)


def _traffic(
    request: Request, declared: tuple[WorkloadClass, ...], traces: tuple[Trace, ...]
) -> tuple[tuple[WorkloadClass, ...], Workload]:
    """The requests, and their classes in the workload's order."""
    if not traces:
        workload = declared_workload(declared, horizon_seconds=request.seconds, seed=request.seed)
        return declared, workload
    by_name = {entry.name: entry for entry in declared}
    names = dict.fromkeys(label for trace in traces for label in (trace.label or (trace.name,)))
    parents = {name: by_name.get(name) or by_name.get(_parent(request, name)) for name in names}
    if unknown := sorted(name for name, parent in parents.items() if parent is None):
        raise RequestError(
            f"the trace has classes {', '.join(unknown)}; the manifests declare {', '.join(sorted(by_name))}: "
            "say whose requests a file holds by --trace CLASS=FILE"
        )
    patience = {name: parent.patience_seconds for name, parent in parents.items() if parent is not None}
    workload = merge(traces, patience_seconds=patience, seed=request.seed)
    found = [_as_found(parents[name], workload, i) for i, name in enumerate(workload.classes)]
    return tuple(entry for entry in found if entry is not None), workload


def _parent(request: Request, name: str) -> str:
    """The declared class that a cluster belongs to: ``chat-0`` is of ``chat``."""
    return name.rpartition("-")[0] if request.clusters is not None else name


def _as_found(parent: WorkloadClass | None, workload: Workload, i: int) -> WorkloadClass | None:
    """A declared class as it is; a cluster of one with its own lengths and rate."""
    if parent is None or parent.name == workload.classes[i]:
        return parent
    return replace(
        parent,
        name=workload.classes[i],
        prior_rate=float(workload.rates()[i]),
        prior_prompt_tokens=float(workload.means("prompt")[i]),
        prior_output_tokens=float(workload.means("output")[i]),
    )


def _print(request: Request, comparison: Comparison, traces: tuple[Trace, ...]) -> None:
    if request.output == "json":
        typer.echo(json.dumps(as_document(comparison), indent=1))
    else:
        tables = (value_table(comparison), class_table(comparison), gap_table(comparison))
        typer.echo("\n\n".join(text_of(table) for table in tables if table is not None))
        _print_prediction(comparison, traces)
    if request.png is not None:
        from sluice.simulation.figures import draw  # noqa: PLC0415 -- matplotlib only where a figure is asked for

        request.png.mkdir(parents=True, exist_ok=True)
        for chart in charts(comparison):
            typer.echo(f"figure: {draw(chart, request.png)}", err=request.output == "json")


def _print_prediction(comparison: Comparison, traces: tuple[Trace, ...]) -> None:
    """Own traffic: the predicted TTFT beside the logged one."""
    logged = [trace.logged_ttft for trace in traces if trace.logged_ttft is not None]
    if not logged:
        return
    seen = np.concatenate(logged)
    seen = seen[~np.isnan(seen)]
    for entry in comparison.entries:
        predicted = entry.measure.total.ttft
        pairs = (
            ("mean", predicted.mean, float(seen.mean())),
            *((f"p{k}", getattr(predicted, f"p{k}"), float(np.quantile(seen, k / 100))) for k in (50, 95, 99)),
        )
        told = "; ".join(f"{name} {p:.3f} s, logged {a:.3f} s, error {p / a - 1.0:+.1%}" for name, p, a in pairs)
        typer.echo(f"{entry.measure.regime}: predicted TTFT {told}")
