"""A directory of manifests as the world: read anew when a file changes, with the API server's manners.

An edit that the server would refuse is refused here too: the last good version of that
object stays in force and the refusal is told. A file that cannot be read at all keeps all
its objects. Only a file (or a document in it) that is gone takes its objects with it.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sluice.actuate.atomic_file import text_at
from sluice.api.base import SUBDOMAIN_PATTERN
from sluice.api.manifests import DEFAULT_NAMESPACE, Manifests, parse
from sluice.api.resources import KINDS
from sluice.control.files import StatusFiles
from sluice.control.ports import Ref, Refusal, Resource, Status, WorldView, document
from sluice.control.pulse import Pulse

log = logging.getLogger("sluice.directory")

POLL_SECONDS = 0.25
SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_ERROR = re.compile(
    r"^(?P<origin>.*?): (?P<kind>\w+) (?P<namespace>[^/\s]*)/(?P<name>\S+): (?P<problem>.*)$", re.DOTALL
)
"""One entry of ``Manifests.errors``."""

Signature = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class _File:
    """One file as it was read last."""

    state: list[int]
    good: Manifests
    errors: tuple[str, ...]


class DirectoryWorld:
    """The manifests of one directory and everything below it; a ``World`` and a reader of ``Secrets``."""

    def __init__(self, folder: Path, statuses: StatusFiles) -> None:
        self._folder = folder
        self._statuses = statuses
        self._files: dict[str, _File] = {}
        self._signature: Signature | None = None
        self._pulse = Pulse()
        self._bare = WorldView()
        self._view = WorldView()
        self._shown = -1
        self._told = ""
        self._worn: dict[Ref, tuple[object, Status, Any]] = {}
        """Resource, status, and the resource with it: most of them are the same at the next look."""

    def load(self) -> None:
        """Read everything, before the loop starts; later ``watch`` does it."""
        if found := self._read_changed():
            self._adopt(*found)

    async def watch(self) -> None:
        """Look for changes until cancelled. Files are read and validated off the event loop."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if found := await asyncio.to_thread(self._read_changed):
                self._adopt(*found)

    def _read_changed(self) -> tuple[Manifests, list[str]] | None:
        """All manifests and what is wrong with them, or None where no file changed."""
        signature = _signature(self._folder)
        if signature == self._signature:
            return None
        before, after = self._files, {}
        for name, *state in signature:
            known = before.get(name)
            after[name] = known if known is not None and known.state == state else self._file(name, state, known)
        self._signature, self._files = signature, after
        merged = Manifests()
        for entry in after.values():
            merged = merged.merge(entry.good)
        errors = [line for entry in after.values() for line in entry.errors]
        return merged, [*errors, *merged.errors]

    def _file(self, name: str, state: list[int], known: _File | None) -> _File:
        """One file as it is now, with the last good version of what it refuses."""
        shown = str(Path(name).relative_to(self._folder))
        text = text_at(Path(name))
        fresh = parse(text, shown) if text is not None else Manifests(errors=(f"{shown}: cannot be read",))
        good = _with_last_good(fresh, known.good if known is not None else None) if fresh.errors else fresh
        return _File(state=state, good=good, errors=fresh.errors)

    def _adopt(self, merged: Manifests, errors: Iterable[str]) -> None:
        told = tuple(dict.fromkeys(errors))
        for line in told:
            log.warning("%s", line)
        self._tell_found(merged)
        fresh = WorldView(
            fleets=merged.fleets,
            classes=merged.classes,
            profiles=merged.profiles,
            objects=merged.others,
            refusals=_refusals(told, self._statuses),
        )
        old, self._bare, self._shown = self._bare, fresh, -1
        self._forget_statuses()
        namespaces = {resource.metadata.namespace for view in (old, fresh) for resource in _resources(view)}
        self._pulse.beat(namespaces | {DEFAULT_NAMESPACE})

    def _tell_found(self, merged: Manifests) -> None:
        """How much there is, when it is no longer as told; who is waited for, where there is no fleet."""
        kinds = {"InferenceFleet": merged.fleets, "WorkloadClass": merged.classes, "IterationProfile": merged.profiles}
        counts = ", ".join(f"{len(found)} {kind}" for kind, found in kinds.items())
        told = f"{self._folder}: {counts} in {len(self._files)} files"
        if told == self._told:
            return
        self._told = told
        if merged.fleets:
            log.info("%s", told)
        else:
            kinds_of_files = ", ".join(f"*{suffix}" for suffix in sorted(SUFFIXES))
            log.warning("%s (%s): waiting for an InferenceFleet", told, kinds_of_files)

    def _forget_statuses(self) -> None:
        """Objects that are gone bear no status any longer."""
        known = {_ref(resource) for resource in _resources(self._bare)} | {entry.ref for entry in self._bare.refusals}
        self._worn = {ref: entry for ref, entry in self._worn.items() if ref in known}
        for ref in self._statuses.shown():
            if ref not in known:
                self._statuses.forget(ref)

    def view(self) -> WorldView:
        """The manifests with the status that each object bears."""
        if self._shown != self._statuses.revision:
            self._shown = self._statuses.revision
            self._view = replace(
                self._bare,
                fleets=tuple(self._dressed(entry) for entry in self._bare.fleets),
                classes=tuple(self._dressed(entry) for entry in self._bare.classes),
                profiles=tuple(self._dressed(entry) for entry in self._bare.profiles),
                refusals=tuple(
                    replace(entry, status=document(self._statuses.status(entry.ref))) for entry in self._bare.refusals
                ),
            )
        return self._view

    def _dressed(self, resource: Any) -> Any:
        ref = _ref(resource)
        found = self._statuses.status(ref)
        known = self._worn.get(ref)
        if known is not None and known[0] is resource and known[1] is found:
            return known[2]
        dressed = self._dressed_anew(resource, found)
        self._worn[ref] = resource, found, dressed
        return dressed

    def _dressed_anew(self, resource: Any, found: Status) -> Any:
        try:
            # What we told ourselves is at hand as it was made; only what lay on disk has to be read.
            status = found if isinstance(found, BaseModel) else type(resource.status).model_validate(found)
        except ValidationError:
            log.warning("status of %s is not ours; it is written anew", _ref(resource))
            return resource
        return resource.model_copy(update={"status": status})

    async def changed(self) -> frozenset[str]:
        """Wait for a change; see ``World``."""
        return await self._pulse.taken()

    async def read(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """A Secret among the manifests."""
        for entry in self._bare.objects:
            metadata = entry.get("metadata") or {}
            if (entry.get("kind"), metadata.get("namespace"), metadata.get("name")) == ("Secret", namespace, name):
                return secret_values(entry)
        return None


def secret_values(document: Mapping[str, Any]) -> Mapping[str, str]:
    """The decoded values of a Secret."""
    encoded: Mapping[str, str] = document.get("data") or {}
    values = {key: base64.b64decode(value).decode(errors="replace") for key, value in encoded.items()}
    return {**values, **(document.get("stringData") or {})}


def _signature(folder: Path) -> Signature:
    """What tells whether to read again: names, times and sizes of all manifests."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in SUFFIXES and not path.name.startswith("."):
            try:
                state = path.stat()
            except OSError:
                continue  # it went between listing and looking
            found.append((str(path), state.st_mtime_ns, state.st_size))
    return tuple(found)


def _with_last_good(fresh: Manifests, before: Manifests | None) -> Manifests:
    """``fresh`` plus the objects of ``before`` that it refuses or that a broken file hides."""
    if before is None:
        return replace(fresh, errors=())
    present = {_ref(resource) for resource in _resources(fresh)}

    def kept(resources: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(resource for resource in resources if _ref(resource) not in present)

    return Manifests(
        fleets=fresh.fleets + kept(before.fleets),
        classes=fresh.classes + kept(before.classes),
        profiles=fresh.profiles + kept(before.profiles),
        others=fresh.others or before.others,
    )


def _refusals(errors: Iterable[str], statuses: StatusFiles) -> tuple[Refusal, ...]:
    """The errors by object; those about a file as a whole, or about what has no proper name, are in the log alone."""
    problems: dict[Ref, list[str]] = {}
    origins: dict[Ref, str] = {}
    for line in errors:
        found = _ERROR.match(line)
        if found is None or found["kind"] not in KINDS or not _is_a_name(found["namespace"], found["name"]):
            continue
        ref = Ref(kind=found["kind"], namespace=found["namespace"], name=found["name"])
        problems.setdefault(ref, []).append(found["problem"])
        origins[ref] = found["origin"]
    return tuple(
        Refusal(ref=ref, problems=tuple(found), origin=origins[ref], status=document(statuses.status(ref)))
        for ref, found in problems.items()
    )


def _is_a_name(*parts: str) -> bool:
    """Whether these can name an object: they become the name of a file, which must not lead elsewhere."""
    return all(re.fullmatch(SUBDOMAIN_PATTERN, part) for part in parts)


def _resources(source: Manifests | WorldView) -> tuple[Resource, ...]:
    return (*source.fleets, *source.classes, *source.profiles)


def _ref(resource: Resource) -> Ref:
    return Ref(kind=resource.kind, namespace=resource.metadata.namespace, name=resource.metadata.name)
