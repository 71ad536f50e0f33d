"""The last decisions, as lines of JSON in two files of bounded size: what ``sluice explain`` reads.

The newer file grows until it is half the bound and then takes the older one's place. Lines
are gathered and written a few times a second: a request never waits for a disk, and a disk
that fails costs the log, not the request.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NEWER, OLDER = "decisions.jsonl", "decisions.1.jsonl"
DEFAULT_BYTES = 32 * 2**20


class DecisionLog:
    """Bounded log of decisions in ``folder``; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, bound_bytes: int = DEFAULT_BYTES) -> None:
        self._folder = folder
        self._bound = bound_bytes // 2
        self._lines: list[str] = []
        self._size = 0
        self.failures = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                self._size = (folder / NEWER).stat().st_size

    @property
    def is_kept(self) -> bool:
        """Whether there is anywhere to write."""
        return self._folder is not None

    def add(self, line: str) -> None:
        """Keep one decision, a JSON object; it is written with the next flush."""
        if self._folder is not None:
            self._lines.append(line)

    def flush(self) -> None:
        """Write what was gathered."""
        if self._folder is None or not self._lines:
            return
        data = ("\n".join(self._lines) + "\n").encode()
        self._lines = []
        try:
            if self._size + len(data) > self._bound:
                (self._folder / NEWER).replace(self._folder / OLDER)
                self._size = 0
        except OSError:
            self._size = 0
        try:
            with (self._folder / NEWER).open("ab") as file:
                file.write(data)
            self._size += len(data)
        except OSError:
            self.failures += 1


def wall_clock() -> float:
    """Seconds since the epoch, for people: no decision rests on it."""
    return time.time()


def lines_about(folder: Path, request_id: str) -> Iterator[Mapping[str, Any]]:
    """All kept decisions about one request, oldest first."""
    for name in (OLDER, NEWER):
        with contextlib.suppress(FileNotFoundError), (folder / name).open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if request_id in line:
                    with contextlib.suppress(ValueError):
                        document = json.loads(line)
                        if isinstance(document, dict) and document.get("id") == request_id:
                            yield document
