"""Status and plans as files: what ``kubectl get`` and ``kubectl describe`` would show.

``OUT/status/<kind>.<namespace>.<name>.json`` and ``OUT/plan.<namespace>.<fleet>.json``, each
replaced by atomic rename. Written off the event loop: a file system may hang like any
other server. What cannot be written is kept in memory, logged once, and written as soon
as that is possible again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sluice.actuate.atomic_file import replace_text, text_at
from sluice.actuate.confirming import is_due
from sluice.control.ports import FleetKey, Ref, Status, document
from sluice.control.workers import Overloaded, Workers
from sluice.model.plan import Plan

log = logging.getLogger("sluice.files")

Signature = tuple[int, int, int]
TOGETHER = 100
"""Files that one call into the thread writes."""


class StatusFiles:
    """The files below the output folder."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._workers = Workers("files", threads=1, timeout_seconds=10.0)
        self._known: dict[Ref, Status] = {}
        self._signatures: dict[Path, Signature | None] = {}
        self._plans: dict[FleetKey, Plan] = {}
        self._confirmed: dict[FleetKey, float] = {}
        """When each of them was last told to be right, epoch seconds."""
        self._complaint = ""
        self.revision = 0
        """Moves with every status: who caches what is shown compares it."""

    def status(self, ref: Ref) -> Status:
        """The status an object bears: as written by us, or found on disk at the start."""
        if ref not in self._known:
            self._known[ref] = _read(self._path(ref))
            self._signatures[self._path(ref)] = _signature(self._path(ref))
        return self._known[ref]

    async def write_all(self, statuses: Mapping[Ref, Status]) -> Mapping[Ref, str]:
        """Replace the file of each object; what cannot be written is kept in memory, so nothing fails."""
        self._known.update(statuses)
        self.revision += 1
        pairs = list(statuses.items())
        for start in range(0, len(pairs), TOGETHER):
            await self._put({self._path(ref): status for ref, status in pairs[start : start + TOGETHER]})
        return {}

    def lacks(self, ref: Ref) -> bool:
        """Whether the file is gone or is not the one we wrote."""
        path = self._path(ref)
        return self._signatures.get(path) is None or _signature(path) != self._signatures[path]

    async def keep_plan(self, key: FleetKey, plan: Plan, confirmed_at: float | None) -> None:
        """The whole plan of a fleet, in its own schema; one that stays is put there anew where confirming it is due."""
        path = self._out / f"plan.{key[0]}.{key[1]}.json"
        stands = self._plans.get(key) == plan and _signature(path) == self._signatures.get(path)
        if stands and not is_due(self._confirmed.get(key), confirmed_at):
            return
        text = plan.model_dump_json(by_alias=True, indent=2) + "\n"
        found = _signature(path)
        if not stands and found is not None and self._signatures.get(path) is None and text_at(path) == text:
            # A restart finds the file as it would write it.
            self._plans[key], self._signatures[path], self._confirmed[key] = plan, found, found[1] / 1e9
            await self.keep_plan(key, plan, confirmed_at)
            return
        await self._put({path: text})
        self._plans[key] = plan
        if confirmed_at is not None:
            self._confirmed[key] = confirmed_at

    def kept_plan(self, key: FleetKey) -> Plan | None:
        """The plan in the file."""
        try:
            return Plan.model_validate_json(text_at(self._out / f"plan.{key[0]}.{key[1]}.json") or "")
        except ValidationError:
            return None

    def forget(self, ref: Ref) -> None:
        """The object is gone: its status goes too."""
        self._known.pop(ref, None)
        self._signatures.pop(self._path(ref), None)
        self.revision += 1
        try:
            self._path(ref).unlink(missing_ok=True)
        except OSError as error:
            log.debug("status of %s not removed: %s", ref, error)

    def shown(self) -> tuple[Ref, ...]:
        """The objects whose status lies in the folder."""
        found = []
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() else ():
            kind, _, rest = path.stem.partition(".")
            namespace, _, name = rest.partition(".")
            found.append(Ref(kind=kind, namespace=namespace, name=name))
        return tuple(found)

    def close(self) -> None:
        """Let go of the thread."""
        self._workers.close()

    @property
    def _folder(self) -> Path:
        return self._out / "status"

    def _path(self, ref: Ref) -> Path:
        return self._folder / f"{ref.kind}.{ref.namespace}.{ref.name}.json"

    async def _put(self, files: Mapping[Path, Status | str]) -> None:
        try:
            done, error = await self._workers.run(_replace_all, files)
        except (TimeoutError, Overloaded) as late:
            done, error = {}, str(late)
        for path in files:
            self._signatures[path] = done.get(path)
        if error:
            self._complain(error)
        else:
            self._complaint = ""

    def _complain(self, message: str) -> None:
        if message != self._complaint:
            log.warning("cannot write: %s", message)
            self._complaint = message


def _replace_all(files: Mapping[Path, Status | str]) -> tuple[Mapping[Path, Signature | None], str]:
    """Replace every file; those that were, and why one was not."""
    done: dict[Path, Signature | None] = {}
    complaint = ""
    for path, content in files.items():
        text = content if isinstance(content, str) else _json(content)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, text)
            done[path] = _signature(path)
        except OSError as error:
            complaint = f"{error.strerror or error}: {path}"
    return done, complaint


def _json(status: Status) -> str:
    return json.dumps(document(status), indent=2, ensure_ascii=False) + "\n"


def _signature(path: Path) -> Signature | None:
    """What tells a replaced file from the one we wrote."""
    try:
        found = os.stat(path)  # noqa: PTH116 - one call, no exception hierarchy of its own
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(text_at(path) or "{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
