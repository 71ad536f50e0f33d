"""A panel that was stopped goes on where it was, and never with what another version found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sluice.simulation.ledger import Earned, Ledger, Run

RUN = Run(gate="timely", cell="prompts 1.2", seed=1, horizon_seconds=300.0)
OTHER = Run(gate="timely", cell="prompts 1.2", seed=2, horizon_seconds=300.0)
EARNED = Earned(bound=100.0, value=99.0, good=98.0, floor=float("inf"))


def never() -> Earned:
    raise AssertionError("this was run before")


def written(tmp_path: Path) -> Path:
    path = tmp_path / "gates.jsonl"
    Ledger(path).of(RUN, lambda: EARNED)
    return path


def test_what_was_run_is_not_run_again(tmp_path: Path) -> None:
    path = written(tmp_path)
    told: list[str] = []
    assert Ledger(path, told.append).of(RUN, never) == EARNED
    assert told == ["1 of the panel's runs are known already"]
    with pytest.raises(AssertionError, match="run before"):
        Ledger(path).of(OTHER, never)


def test_another_version_starts_afresh(tmp_path: Path) -> None:
    path = written(tmp_path)
    entry = json.loads(path.read_text())
    path.write_text(json.dumps({**entry, "source": "another"}) + "\n")
    with pytest.raises(AssertionError, match="run before"):
        Ledger(path).of(RUN, never)


def test_a_line_that_was_cut_off_is_run_again(tmp_path: Path) -> None:
    path = written(tmp_path)
    Ledger(path).of(OTHER, lambda: EARNED)
    path.write_text(path.read_text()[:-20])
    ledger = Ledger(path)
    assert ledger.of(RUN, never) == EARNED
    assert ledger.of(OTHER, lambda: EARNED) == EARNED
    assert Ledger(path).of(OTHER, never) == EARNED


def test_without_a_file_a_run_is_remembered_all_the_same() -> None:
    ledger = Ledger()
    ledger.of(RUN, lambda: EARNED)
    assert ledger.of(RUN, never) == EARNED
