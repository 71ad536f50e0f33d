"""What the panel of gates has run so far, one line per run, so that a panel that was stopped goes on where it was.

A line counts only while the rooms that a run's result depends on are byte for byte those it was
written with: an edited policy starts afresh.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

_ROOMS = ("model", "planning", "policy", "simulation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One gate in one cell under one seed."""

    gate: str
    cell: str
    seed: int
    horizon_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """What came of it."""

    bound: float
    """R* of the seed's plan."""
    value: float
    good: float
    floor: float
    """As ``Outcome.floor``."""


class Ledger:
    """Runs and what they earned; kept in ``path`` as they come, or in memory where there is none."""

    def __init__(self, path: Path | None = None, tell: Callable[[str], None] = lambda _: None) -> None:
        self._path = path
        self._tell = tell
        text = path.read_text(encoding="utf-8") if path is not None and path.exists() else ""
        self._known: dict[Run, Earned] = dict(_read(text))
        self._begin = "" if text.endswith("\n") or not text else "\n"
        if self._known:
            tell(f"{len(self._known)} of the panel's runs are known already")

    def of(self, run: Run, work: Callable[[], Earned]) -> Earned:
        """What ``run`` earned: as written down, else by ``work``."""
        if run not in self._known:
            self._known[run] = work()
            if self._path is not None:
                entry = {"source": source_digest(), "run": asdict(run), "earned": asdict(self._known[run])}
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(self._begin + json.dumps(entry) + "\n")
                self._begin = ""
        return self._known[run]

    def tell(self, words: str) -> None:
        """Say how far the panel is."""
        self._tell(words)


def _read(text: str) -> list[tuple[Run, Earned]]:
    """The lines of this version; the last one may have been cut off."""
    found = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if entry["source"] == source_digest():
            found.append((Run(**entry["run"]), Earned(**entry["earned"])))
    return found


@cache
def source_digest() -> str:
    """Of every module that a run's result may depend on."""
    digest = hashlib.blake2b(digest_size=8)
    package = Path(__file__).parent.parent
    for room in _ROOMS:
        for source in sorted((package / room).rglob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()
