"""What can be said about the operator's image without building it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
STAGES = re.split(r"(?m)^FROM ", (ROOT / "operator" / "Dockerfile").read_text(encoding="utf-8"))[1:]
LOCK = (ROOT / "operator" / "requirements.txt").read_text(encoding="utf-8")


def test_nothing_of_the_building_stage_ships_but_the_environment() -> None:
    assert len(STAGES) == 2
    copies = re.findall(r"(?m)^COPY (.*)$", STAGES[1])
    assert copies == ["--from=build /opt/sluice /opt/sluice"]
    assert "RUN" not in STAGES[1]


def test_the_image_does_not_run_as_root() -> None:
    (user,) = re.findall(r"(?m)^USER (\d+):(\d+)$", STAGES[1])
    assert all(int(number) > 0 for number in user), "Kubernetes checks runAsNonRoot against a number, not a name"


def test_the_working_directory_stays_off_the_module_path() -> None:
    assert "PYTHONSAFEPATH=1" in STAGES[1]
    assert 'ENTRYPOINT ["sluice"]' in STAGES[1]


def test_the_image_installs_no_extra_and_what_is_locked_alone() -> None:
    """``profiling`` would bring torch, five gigabytes of it."""
    assert re.findall(r"pip install (.*?)(?: \\)?\n", STAGES[0]) == [
        "--require-hashes --requirement operator/requirements.txt",
        "--no-deps .",
    ]


def test_the_lock_holds_what_the_project_asks_for() -> None:
    """A dependency that was added or raised without a new lock would be missing in the image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked: dict[str, set[str]] = {}
    for name, version in re.findall(r"(?m)^(\S+)==([^\s;]+)", LOCK):
        locked.setdefault(canonicalize_name(name), set()).add(version)
    asked = [Requirement(line) for line in project["dependencies"]]
    unmet = [
        str(entry)
        for entry in asked
        if not (found := locked.get(canonicalize_name(entry.name)))
        or not all(entry.specifier.contains(version) for version in found)
    ]
    assert unmet == []
    assert "torch" not in locked


def test_every_locked_package_is_held_by_hashes() -> None:
    entries = re.split(r"(?m)^(?=\S+==)", LOCK)[1:]
    assert entries != []
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_what_the_building_stage_copies_exists_and_is_let_through() -> None:
    allowed = (ROOT / "operator" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    sources = [name for line in re.findall(r"(?m)^COPY (.*) \S+$", STAGES[0]) for name in line.split()]
    assert sources != []
    assert [name for name in sources if not (ROOT / name).exists()] == []
    assert [name for name in sources if f"!{name}" not in allowed] == []
