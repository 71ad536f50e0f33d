"""From manifest files to plans, with every complaint on standard error."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
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
from sluice.cli.manifest_files import complain, no_fleet, orphaned, priceless, read
from sluice.cli.plan_documents import diff_document, plan_document, sensitivity_document
from sluice.cli.plan_standing import StandingPlanError, standing_plan
from sluice.cli.plan_sweep import Swept, draw_sweep, show_sweep, sweep_document
from sluice.cli.plan_tables import show, show_changes, show_sensitivities
from sluice.model.fleet import Fleet
from sluice.model.plan import Plan
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One fleet's plan, and what was asked beside it; None: it was not."""

    planned: Planned
    leanings: tuple[Sensitivity, ...] | None
    before: Plan | None
    swept: Swept | None


def run(request: Request) -> bool:
    """Do what was asked; False where something was wrong, which then stands on standard error."""
    manifests = read(request.files)
    for error in manifests.errors:
        _error(error)
    fleets = [entry for entry in manifests.fleets if request.fleet in {None, entry.metadata.name}]
    if not fleets and (told := no_fleet(manifests, request.files, request.fleet)):
        _error(told)
    complain("", orphaned(manifests))
    try:
        planned = [found for entry in fleets if (found := _plan(entry, manifests, request)) is not None]
        answers = [_answer(entry, request) for entry in planned]  # all of them, before anything is printed
    except (QuestionError, StandingPlanError) as error:
        _error(str(error))
        return False
    _print(answers, request)
    return bool(fleets) and not manifests.errors and len(planned) == len(fleets)


def _plan(resource: InferenceFleetResource, manifests: Manifests, request: Request) -> Planned | None:
    """Resolve, count, ask what if, and plan one fleet."""
    name = f"InferenceFleet/{resource.metadata.name}"
    resolved = resolve(resource, manifests.profiles, manifests.classes)
    complain(name, resolved.findings)
    if told := priceless(resource, manifests):
        typer.echo(f"note: {told}", err=True)
    if resolved.fleet is None or resolved.is_blocked:
        return None
    supplies, unknown = count(resolved.fleet, manifests.others)
    complain(name, unknown, level="error")
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


def _error(message: str) -> None:
    typer.echo(f"error: {message}", err=True)


def _answer(entry: Planned, request: Request) -> Answer:
    """Find what was asked beside the plan."""
    before = None if request.diff is None else standing_plan(request.diff, entry.fleet)
    return Answer(
        planned=entry,
        leanings=_sensitivities(entry) if request.sensitivity else None,
        before=before,
        swept=None if request.sweep is None else Swept.of(entry.problem, request.sweep),
    )


def _print(answers: list[Answer], request: Request) -> None:
    """As tables; or as one document for one fleet, a list for several."""
    if request.output == "table":
        console = Console()
        for answer in answers:
            _show(console, answer)
    else:
        _print_documents([_document(answer) for answer in answers], request.output)
    for answer in answers:
        if answer.swept is not None and request.png is not None:
            draw_sweep(answer.swept, request.png)
            typer.echo(f"drawn to {request.png}", err=True)


def _show(console: Console, answer: Answer) -> None:
    plan = answer.planned.plan
    show(console, answer.planned.fleet, plan)
    if answer.leanings is not None:
        show_sensitivities(console, answer.leanings)
    if answer.before is not None:
        show_changes(console, answer.before, changes(answer.before, plan))
    if answer.swept is not None:
        show_sweep(console, answer.swept)


def _document(answer: Answer) -> Mapping[str, Any]:
    """The plan; where a sweep alone is asked for, the sweep; where more is asked, each under its name."""
    parts: dict[str, Any] = {}
    if answer.leanings is not None:
        parts["sensitivity"] = sensitivity_document(answer.leanings)
    if answer.before is not None:
        parts["diff"] = diff_document(answer.before, changes(answer.before, answer.planned.plan))
    if answer.swept is not None:
        swept = sweep_document(answer.swept, answer.planned.fleet.key)
        if not parts:
            return swept
        parts["sweep"] = swept
    plan = plan_document(answer.planned.plan)
    return {"plan": plan, **parts} if parts else plan


def _sensitivities(entry: Planned) -> tuple[Sensitivity, ...]:
    """Of the plan as it is made: where promises had to be relaxed, with those as applied."""
    return () if entry.outcome.applied is None else sensitivities(entry.outcome.applied)


def _print_documents(documents: list[Mapping[str, Any]], output: str) -> None:
    if not documents:
        return
    content = documents[0] if len(documents) == 1 else documents
    text = json.dumps(content, indent=2) + "\n" if output == "json" else yaml.safe_dump(content, sort_keys=False)
    typer.echo(text, nl=False)
