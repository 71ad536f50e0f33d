"""Envoy without Kubernetes: its configuration as files that are replaced by atomic rename.

Envoy watches the folders and takes a changed file within milliseconds. A file whose bytes
would not change is not touched. Nothing here raises for what the file system does: a folder
that is missing, read-only or replaced by a file becomes a finding with path and cause.
"""

from __future__ import annotations

import difflib
import errno
import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from sluice.actuate import envoy_config
from sluice.actuate.atomic_file import replace_text, text_at
from sluice.actuate.envoy_opening import has_breakers, opened_routes, opened_runtime
from sluice.actuate.envoy_terms import Response
from sluice.actuate.objects import Document
from sluice.actuate.order import has_limits, steps, without_limits
from sluice.actuate.port import Order, targets_from_json, targets_to_json
from sluice.model.decision import Receipt, Targets
from sluice.model.fleet import Fleet
from sluice.model.reasons import ConditionType, Finding, Reason

FOLDER = "envoy"
LIMITS = "runtime/limits.json"
KEPT_TARGETS = "targets.json"
"""What was ordered last: a restarted operator goes on from it."""


class EnvoyFiles:
    """The data plane of one fleet: the files below ``out/envoy``."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._root = (out / FOLDER).absolute()
        self._rendered: tuple[Order, dict[str, str]] | None = None
        """What was rendered last, and of what: most passes order the same again."""

    @property
    def bootstrap(self) -> Path:
        """What to start Envoy with (``envoy -c``)."""
        return self._root / "bootstrap.json"

    def act(self, order: Order) -> Receipt:
        """Make the files say ``order``, in an order that may stop anywhere."""
        written: list[str] = []
        removed: list[str] = []
        unchanged = 0
        problems = list(_unservable(order))
        try:
            if self._root.exists() and not self._root.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "it is a file, not a directory", str(self._root))
            for folder in ("", "eds", "runtime"):
                (self._root / folder).mkdir(parents=True, exist_ok=True)
            contents: dict[str, str] = {}
            for targets in steps(self.standing(order.fleet), order.targets):
                contents = self._contents(order, targets)
                for name, text in contents.items():
                    if _replace(self._root / name, text):
                        written.append(self._label(name))
            unchanged = len(contents) - len(set(written))
            removed = [self._label(name) for name in self._remove_others(contents)]
        except OSError as error:
            problems.append(_write_failed(self._root, error))
        return Receipt(
            written=tuple(dict.fromkeys(written)),
            unchanged=unchanged,
            removed=tuple(removed),
            problems=tuple(problems),
        )

    def preview(self, order: Order) -> str:
        """A unified diff between the files and what ``order`` would make of them."""
        lines: list[str] = []
        for name, text in self._contents(order, order.targets).items():
            before = text_at(self._root / name) or ""
            label = self._label(name)
            lines.extend(difflib.unified_diff(before.splitlines(), text.splitlines(), label, label, lineterm=""))
        return "\n".join(lines)

    def standing(self, fleet: Fleet) -> Targets | None:
        """The targets that were written last; None where none can be read."""
        del fleet
        return self._kept()

    def open_unless(self, living: frozenset[str]) -> Receipt:
        """Lift every limit where the fleet that these files were made for is none of ``living`` (``namespace/name``).

        Nobody is left to declare it, so the files themselves are all there is to go by.
        """
        try:
            if self._fleet() in living or (targets := self._kept()) is None:
                return Receipt()
            runtime = json.loads(text_at(self._root / LIMITS) or "")
            if not has_limits(targets) and not has_breakers(runtime):
                return Receipt()
            opened = {
                "rds.json": _text(opened_routes(json.loads(text_at(self._root / "rds.json") or ""))),
                LIMITS: _text(opened_runtime(runtime)),
                KEPT_TARGETS: targets_to_json(without_limits(targets)),
            }
            return Receipt(
                written=tuple(self._label(name) for name in opened if _replace(self._root / name, opened[name]))
            )
        except OSError as error:
            return Receipt(problems=(_write_failed(self._root, error),))
        except (ValueError, KeyError, TypeError, AttributeError):
            message = f"the files below {self._root} are not ours any longer: nothing was lifted there"
            finding = Finding(condition=ConditionType.PROGRAMMED, reason=Reason.WRITE_FAILED, message=message)
            return Receipt(problems=(finding,))

    def _fleet(self) -> str:
        """``namespace/name`` of the fleet that the files were made for; empty where there are none."""
        return str(json.loads(text_at(self.bootstrap) or "{}").get("node", {}).get("id", ""))

    def _kept(self) -> Targets | None:
        text = text_at(self._root / KEPT_TARGETS)
        return None if text is None else targets_from_json(text)

    def _contents(self, order: Order, targets: Targets) -> dict[str, str]:
        """Name below the folder -> text, in order of writing; what was ordered comes last."""
        asked = replace(order, targets=targets, plan=None)  # the files do not tell the plan
        if self._rendered is not None and self._rendered[0] == asked:
            return self._rendered[1]
        contents = {name: _text(document) for name, document in envoy_config.render(asked, str(self._root)).items()}
        contents[KEPT_TARGETS] = targets_to_json(targets)
        self._rendered = asked, contents
        return contents

    def _remove_others(self, contents: Iterable[str]) -> Iterable[str]:
        """Take away the endpoints of classes that are gone: their clusters went before."""
        found = {f"eds/{name}" for name in os.listdir(self._root / "eds") if name.endswith(".json")}  # noqa: PTH208 - no Path for each of thousands
        for name in sorted(found.difference(contents)):
            (self._root / name).unlink(missing_ok=True)
            yield name

    def _label(self, name: str) -> str:
        """A file as receipts and diffs call it: relative to the output folder."""
        return f"{FOLDER}/{name}"


def _text(document: Document) -> str:
    """JSON: YAML would read better and takes a hundred times as long to write, in which the plan grows old."""
    return document.text if isinstance(document, Response) else json.dumps(document, indent=1) + "\n"


def _replace(path: Path, text: str) -> bool:
    """Put ``text`` at ``path`` by rename; False where it is there already."""
    if text_at(path) == text:
        return False
    replace_text(path, text)
    return True


def _write_failed(root: Path, error: OSError) -> Finding:
    """What the file system said, with the path it said it about."""
    place = error.filename2 or error.filename or root
    return Finding(
        condition=ConditionType.PROGRAMMED,
        reason=Reason.WRITE_FAILED,
        message=f"cannot write {place}: {error.strerror or type(error).__name__}",
    )


def _unservable(order: Order) -> Iterable[Finding]:
    """What this data plane cannot do, said instead of left out in silence."""
    for workload in order.classes:
        if workload.match is None:
            yield Finding(
                condition=ConditionType.RESOLVED_REFS,
                reason=Reason.ROUTE_NOT_FOUND,
                message="Envoy files know no HTTPRoute to refer to: give the class a match",
                subject=f"WorkloadClass/{workload.name}",
            )
    if names := envoy_config.names_as_addresses(order):
        yield Finding(
            condition=ConditionType.PROGRAMMED,
            reason=Reason.WRITE_FAILED,
            message=f"Envoy files need IP addresses as endpoints, not names: {', '.join(names)}",
        )
