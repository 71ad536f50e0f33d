"""What can be said about the operator's image without building it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGES = re.split(r"(?m)^FROM ", (ROOT / "operator" / "Dockerfile").read_text(encoding="utf-8"))[1:]


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


def test_the_image_installs_no_extra() -> None:
    """``profiling`` would bring torch, five gigabytes of it."""
    assert re.findall(r"pip install (\S+)", STAGES[0]) == ["."]


def test_what_the_building_stage_copies_exists_and_is_let_through() -> None:
    allowed = (ROOT / "operator" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    sources = [name for line in re.findall(r"(?m)^COPY (.*) \S+$", STAGES[0]) for name in line.split()]
    assert sources != []
    assert [name for name in sources if not (ROOT / name).exists()] == []
    assert [name for name in sources if f"!{name}" not in allowed] == []
