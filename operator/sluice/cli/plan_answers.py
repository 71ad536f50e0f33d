"""From manifest files to plans, with every complaint on standard error."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console

from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.manifests import Manifests
from sluice.api.resolve import resolve
from sluice.api.supply import count
from sluice.cli.manifest_files import read
from sluice.cli.plan_documents import diff_document, plan_document, sensitivity_document
from sluice.cli.plan_standing import StandingPlanError, standing_plan
from sluice.cli.plan_sweep import Swept, draw_sweep, show_sweep, sweep_document
from sluice.cli.plan_tables import show, show_changes, show_sensitivities
from sluice.model.fleet import Fleet
from sluice.model.plan import Plan
from sluice.model.reasons import Finding
from sluice.planning import Outcome, Problem
from sluice.planning import plan as solve
from sluice.planning.declared import declared_demand
from sluice.planning.diff import changes
from sluice.planning.sensitivity import Sensitivity, sensitivities
from sluice.planning.whatif import QuestionError, with_demand, with_replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asked for."""

    files: tuple[Path, ...]
    fleet: str | None = None
    output: str = "table"
    replicas: tuple[str, ...] = ()
    demand: tuple[str, ...] = ()
    diff: str | None = None
    sweep: str | None = None
    png: Path | None = None
    sensitivity: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """One fleet's plan and what it was made of."""

    fleet: Fleet
    problem: Problem
    outcome: Outcome
    plan: Plan


def run(request: Request) -> bool:
    """Do what was asked; False where something was wrong, which then stands on standard error."""
    manifests = read(request.files)
    for error in manifests.errors:
        _error(error)
    fleets = [entry for entry in manifests.fleets if request.fleet in {None, entry.metadata.name}]
    if not fleets:
        missing = "no InferenceFleet" if request.fleet is None else f"no InferenceFleet named {request.fleet}"
        _error(f"{missing} in {', '.join(map(str, request.files))}")
    try:
        planned = [found for entry in fleets if (found := _plan(entry, manifests, request)) is not None]
        _print(planned, request)
    except (QuestionError, StandingPlanError) as error:
        _error(str(error))
        return False
    return bool(fleets) and not manifests.errors and len(planned) == len(fleets)


def _plan(resource: InferenceFleetResource, manifests: Manifests, request: Request) -> Planned | None:
    """Resolve, count, ask what if, and plan one fleet."""
    name = f"InferenceFleet/{resource.metadata.name}"
    resolved = resolve(resource, manifests.profiles, manifests.classes)
    _complain(name, resolved.findings)
    if resolved.fleet is None or resolved.is_blocked:
        return None
    supplies, unknown = count(resolved.fleet, manifests.others)
    _complain(name, unknown, level="error")
    if unknown:
        return None
    problem = Problem.of(resolved.fleet, resolved.classes, declared_demand(resolved.classes), supplies)
    for question in request.replicas:
        problem = with_replicas(problem, question)
    for question in request.demand:
        problem = with_demand(problem, question)
    outcome = solve(problem, now=time.time())
    if outcome.plan is None:
        _error(f"{name}: {outcome.reason}: {outcome.message}")
        return None
    return Planned(resolved.fleet, problem, outcome, outcome.plan)


def _complain(name: str, findings: Iterable[Finding], level: str | None = None) -> None:
    for finding in findings:
        word = level or ("error" if finding.blocking else "warning")
        typer.echo(f"{word}: {finding.subject or name}: {finding.reason}: {finding.message}", err=True)


def _error(message: str) -> None:
    typer.echo(f"error: {message}", err=True)


def _print(planned: list[Planned], request: Request) -> None:
    """As tables; or as one document for one fleet, a list for several."""
    if request.output != "table":
        _print_documents([_document(entry, request) for entry in planned], request.output)
        return
    console = Console()
    for entry in planned:
        show(console, entry.fleet, entry.plan)
        if request.sensitivity:
            show_sensitivities(console, _sensitivities(entry))
        if request.diff is not None:
            before = standing_plan(request.diff, entry.fleet)
            show_changes(console, before, changes(before, entry.plan))
        if request.sweep is not None:
            swept = Swept.of(entry.problem, request.sweep)
            show_sweep(console, swept)
            _draw(swept, request)


def _document(entry: Planned, request: Request) -> Mapping[str, Any]:
    """The plan; where a sweep alone is asked for, the sweep; where more is asked, each under its name."""
    parts: dict[str, Any] = {}
    if request.sensitivity:
        parts["sensitivity"] = sensitivity_document(_sensitivities(entry))
    if request.diff is not None:
        before = standing_plan(request.diff, entry.fleet)
        parts["diff"] = diff_document(before, changes(before, entry.plan))
    if request.sweep is not None:
        swept = Swept.of(entry.problem, request.sweep)
        _draw(swept, request)
        if not parts:
            return sweep_document(swept, entry.fleet.key)
        parts["sweep"] = sweep_document(swept, entry.fleet.key)
    plan = plan_document(entry.plan)
    return {"plan": plan, **parts} if parts else plan


def _sensitivities(entry: Planned) -> tuple[Sensitivity, ...]:
    """Of the plan as it is made: where promises had to be relaxed, with those as applied."""
    return () if entry.outcome.applied is None else sensitivities(entry.outcome.applied)


def _draw(swept: Swept, request: Request) -> None:
    if request.png is not None:
        draw_sweep(swept, request.png)
        typer.echo(f"drawn to {request.png}", err=True)


def _print_documents(documents: list[Mapping[str, Any]], output: str) -> None:
    if not documents:
        return
    content = documents[0] if len(documents) == 1 else documents
    text = json.dumps(content, indent=2) + "\n" if output == "json" else yaml.safe_dump(content, sort_keys=False)
    typer.echo(text, nl=False)
