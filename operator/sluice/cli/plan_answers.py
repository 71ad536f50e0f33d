"""From manifest files to plans, with every complaint on standard error."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import typer
import yaml
from rich.console import Console

from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.manifests import Manifests
from sluice.api.resolve import resolve
from sluice.api.supply import count
from sluice.cli.manifest_files import read
from sluice.cli.plan_tables import show
from sluice.model.fleet import Fleet
from sluice.model.plan import Plan
from sluice.model.reasons import Finding
from sluice.planning import Outcome, Problem
from sluice.planning import plan as solve
from sluice.planning.declared import declared_demand


@dataclass(frozen=True, slots=True)
class Answer:
    """One fleet's plan and what it was made of."""

    fleet: Fleet
    problem: Problem
    outcome: Outcome
    plan: Plan


def answer(files: list[Path], wanted: str | None) -> tuple[list[Answer], bool]:
    """The plans of the fleets in ``files``, and whether nothing was wrong."""
    manifests = read(files)
    for error in manifests.errors:
        typer.echo(f"error: {error}", err=True)
    fleets = [entry for entry in manifests.fleets if wanted in {None, entry.metadata.name}]
    if not fleets:
        missing = "no InferenceFleet" if wanted is None else f"no InferenceFleet named {wanted}"
        typer.echo(f"error: {missing} in {', '.join(map(str, files))}", err=True)
    answers = [found for entry in fleets if (found := _solve(entry, manifests)) is not None]
    return answers, bool(fleets) and not manifests.errors and len(answers) == len(fleets)


def _solve(resource: InferenceFleetResource, manifests: Manifests) -> Answer | None:
    """Resolve, count and plan one fleet."""
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
    outcome = solve(problem, now=time.time())
    if outcome.plan is None:
        typer.echo(f"error: {name}: {outcome.reason}: {outcome.message}", err=True)
        return None
    return Answer(resolved.fleet, problem, outcome, outcome.plan)


def _complain(name: str, findings: Iterable[Finding], level: str | None = None) -> None:
    for finding in findings:
        word = level or ("error" if finding.blocking else "warning")
        typer.echo(f"{word}: {finding.subject or name}: {finding.reason}: {finding.message}", err=True)


def print_answers(answers: list[Answer], output: str) -> None:
    """As tables; or as one document for one fleet, a list for several."""
    if output == "table":
        for entry in answers:
            show(Console(), entry.fleet, entry.plan, entry.outcome.notes)
        return
    documents = [entry.plan.model_dump(mode="json", by_alias=True) for entry in answers]
    if not documents:
        return
    content = documents[0] if len(documents) == 1 else documents
    text = json.dumps(content, indent=2) + "\n" if output == "json" else yaml.safe_dump(content, sort_keys=False)
    typer.echo(text, nl=False)
