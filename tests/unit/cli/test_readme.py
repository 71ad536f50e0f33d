"""What the README shows of a first plan is what the command prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sluice.cli import plan_tables
from sluice.cli.app import application

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = re.search(r"```\n(default/llama-8b .*?)```", README, re.DOTALL)


def words(line: str) -> list[str]:
    return re.findall(r"[\w%=:./-]+", line)


def is_part_of(few: list[str], many: list[str]) -> bool:
    """Whether ``few`` are among ``many`` in this order."""
    rest = iter(many)
    return all(word in rest for word in few)


def test_the_first_plan_in_the_readme_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_tables, "_WIDTH", 1000)
    printed = CliRunner().invoke(application, ["plan", "-f", str(ROOT / "crds" / "samples" / "fleet")]).stdout
    lines = [words(line) for line in printed.splitlines()]
    assert SHOWN is not None
    shown = [words(line) for line in SHOWN[1].splitlines()]
    assert len(shown) == 9
    assert [" ".join(few) for few in shown if not any(is_part_of(few, line) for line in lines)] == []


def test_the_readme_names_every_command() -> None:
    told = set(re.findall(r"(?m)^\| `sluice (\w+)` \|", README))
    there = {command.name for command in application.registered_commands}
    assert told == there | {group.name for group in application.registered_groups}


def test_every_path_that_the_readme_links_to_exists() -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert linked != []
    assert [path for path in linked if not (ROOT / path).exists()] == []
