"""What is computed apart from everything else, so that it can run in any process and be written down.

A job's result follows from its fields and from the code: it is known by both (``key_of``),
and what was written down is found again only while neither has changed.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

R = TypeVar("R")
PACKAGE = Path(__file__).parents[1]
BELOW = ("numpy",)
"""Packages whose version may change a result: draws come from there. Compiled or not, kernels give the same bytes."""


class Job(Protocol[R]):
    """A frozen dataclass that says all that its result depends on."""

    @property
    def cost_seconds(self) -> float:
        """Processor time by rule of thumb."""

    def run(self) -> R:
        """Compute it."""

    def written(self, result: R) -> object:
        """The result as JSON may hold it."""

    def read(self, written: Any) -> R:
        """The result back from ``written``."""


class Runner(Protocol):
    """How jobs are run: here or in several processes."""

    def __call__(self, jobs: Sequence[Job[R]], /) -> list[R]:
        """The results, in order."""


def run_here(jobs: Sequence[Job[R]]) -> list[R]:
    """One after the other in this process."""
    return [job.run() for job in jobs]


def key_of(job: Job[R]) -> str:
    """Digest of the job's fields and of the code that it runs."""
    text = json.dumps([sources_digest(type(job).__module__), type(job).__qualname__, _plain(job)], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(value: object) -> object:
    """A value in the same words in every process: sets have no order, and enums no address."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, (set, frozenset)):
        return sorted(json.dumps(_plain(entry)) for entry in value)
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"a job may not depend on a {type(value).__name__}: it has no digest")


@cache
def sources_digest(*modules: str) -> str:
    """Of these modules, of all of Sluice that they import, however far away, and of what computes below them."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(_reached(modules)):
        digest.update(path.read_bytes())
    digest.update(repr([(name, version(name)) for name in BELOW]).encode())
    return digest.hexdigest()


def _reached(modules: Sequence[str]) -> set[Path]:
    """The files of the modules and of what they import."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        path = _file_of(waiting.pop())
        if path is not None and path not in found:
            found.add(path)
            waiting += _imports(path)
    return found


def _file_of(module: str) -> Path | None:
    """The file of one of our modules; None for others' and for what a module only defines."""
    first, *rest = module.split(".")
    if first != PACKAGE.name:
        return None
    place = PACKAGE.joinpath(*rest)
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file may import; of ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (entry.name for entry in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{entry.name}" for entry in node.names)
