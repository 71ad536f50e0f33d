"""Reads manifests from files and directories, as ``kubectl apply -f`` would, and says what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import typer

from sluice.api.domain import prices
from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.manifests import Manifests, parse
from sluice.api.resolve import orphans
from sluice.model.reasons import Finding

SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def read(paths: Iterable[Path]) -> Manifests:
    """Everything the files declare; a directory stands for all manifests below it, in name order."""
    result = Manifests()
    for path in paths:
        files = _files(path)
        if not files:
            kinds = ", ".join(f"*{suffix}" for suffix in sorted(SUFFIXES))
            result = result.merge(Manifests(errors=(f"{path}: the folder holds no manifest ({kinds})",)))
        for file in files:
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                result = result.merge(Manifests(errors=(f"{file}: cannot be read: {why}",)))
                continue
            result = result.merge(parse(text, str(file)))
    return result


def no_fleet(manifests: Manifests, paths: Iterable[Path], asked: str | None) -> str:
    """What was looked for, and what is there instead; nothing where what cannot be read says why."""
    where = ", ".join(map(str, paths))
    if manifests.fleets:
        return f"--fleet {asked}: no InferenceFleet of that name in {where}; there is {names(manifests)}"
    found = len(manifests.classes) + len(manifests.profiles) + len(manifests.others)
    if manifests.errors and not found:
        return ""
    return f"no InferenceFleet among the {found} objects in {where}: name its file, or the folder that holds it, too"


def orphaned(manifests: Manifests) -> tuple[Finding, ...]:
    """Classes whose fleet is not among the files, which no plan would mention; what is refused is told first."""
    if manifests.errors or not manifests.fleets:
        return ()
    found = orphans(manifests.fleets, manifests.classes)
    return tuple(replace(entry, message=f"{entry.message}; there is {names(manifests)}") for entry in found)


def priceless(fleet: InferenceFleetResource, manifests: Manifests) -> str:
    """A note about classes whose tier's value stands in for a price, so that nobody reads the value as money."""
    key = (fleet.metadata.namespace, fleet.metadata.name)
    found = [
        entry.metadata.name
        for entry in manifests.classes
        if (entry.metadata.namespace, entry.spec.fleet_ref.name) == key and prices(entry, fleet.spec) is None
    ]
    return f"no prices for {', '.join(sorted(found))}: tiers count instead, and value is no money" if found else ""


def names(manifests: Manifests) -> str:
    """The fleets, in words."""
    return ", ".join(sorted(entry.metadata.name for entry in manifests.fleets))


def complain(name: str, findings: Iterable[Finding], level: str | None = None) -> None:
    """Findings about the object ``name`` on standard error."""
    for finding in findings:
        word = level or ("error" if finding.blocking else "warning")
        typer.echo(f"{word}: {finding.subject or name}: {finding.reason}: {finding.message}", err=True)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    return [path]
