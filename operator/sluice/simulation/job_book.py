"""Finished jobs on disk, one line each, so that a run that was stopped goes on where it was.

A line is found by the job's key, which holds the code too (``jobs.key_of``): what another
version wrote stays in the file and is never taken for an answer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from sluice.simulation.jobs import Job, key_of

R = TypeVar("R")


class JobBook:
    """Results by job, kept in ``path`` as they come; without a path nothing is kept."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        text = path.read_text(encoding="utf-8") if path is not None and path.exists() else ""
        self._written = dict(_read(text))
        self._begin = "" if text.endswith("\n") or not text else "\n"

    def __len__(self) -> int:
        return len(self._written)

    def find(self, job: Job[R]) -> list[R]:
        """The job's result, if it is known."""
        key = key_of(job)
        return [job.read(self._written[key])] if key in self._written else []

    def keep(self, job: Job[R], result: R, processor_seconds: float) -> None:
        """Write a result down."""
        if self._path is None:
            return
        key, written = key_of(job), job.written(result)
        kind, spent = type(job).__name__, round(processor_seconds, 3)
        entry = {"key": key, "kind": kind, "processor_seconds": spent, "result": written}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(self._begin + json.dumps(entry) + "\n")
        self._begin = ""
        self._written[key] = written


def _read(text: str) -> list[tuple[str, Any]]:
    """Key and result of every line; the last one may have been cut off."""
    found = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        found.append((entry["key"], entry["result"]))
    return found
