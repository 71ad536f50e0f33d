"""One real control plane and one operator for the whole session; every test has a namespace of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.crds import gateway_definitions, install
from tests.controlplane.operator_process import OperatorProcess
from tests.controlplane.programs import find
from typer.testing import CliRunner

from sluice.cli.app import application

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager")
OPERATOR_USER = "system:serviceaccount:sluice:sluice"


def absent(message: str) -> NoReturn:
    """Skip with one line, or fail where the suite is required to run."""
    if os.environ.get("SLUICE_REQUIRE_CONTROLPLANE"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd, API server and controller manager, with our definitions and those of Gateway API and Envoy Gateway."""
    if missing := [name for name in NEEDED if find(name) is None]:
        absent(f"{', '.join(missing)} not built: run make controlplane")
    definitions = list(gateway_definitions())
    if not definitions:
        absent("Envoy Gateway's module is not here: install Go and run make controlplane")
    plane = ControlPlane(tmp_path_factory.mktemp("control"))
    plane.operator_token = plane.add_user(OPERATOR_USER, "system:serviceaccounts:sluice")
    try:
        plane.start()
        admin = Admin(plane)
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            admin.apply_file(path)
        install(admin, definitions)
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="session")
def _running(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    kubeconfig = control_plane.kubeconfig()
    process = OperatorProcess(
        tmp_path_factory.mktemp("operator"), "operator", f"--kubeconfig={kubeconfig}", "--all-namespaces"
    )
    yield process
    assert not process.is_started or process.stop() == 0, process.log()


@pytest.fixture
def operator(_running: OperatorProcess) -> OperatorProcess:
    """The operator, with all rights, watching every namespace; started unless it runs."""
    if not _running.is_started:
        _running.start()
    return _running


@pytest.fixture
def admin(control_plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[Admin]:
    """A namespace of the test's own; what was declared in it goes afterwards."""
    name = f"t{abs(hash(request.node.nodeid)) % 10**10}"
    person = Admin(control_plane).within(name)
    yield person
    for kind in ("WorkloadClass", "InferenceFleet", "IterationProfile"):
        for item in person.all(kind):
            person.delete(kind, item["metadata"]["name"])


@pytest.fixture
def refused() -> Iterator[Callable[..., str]]:
    """``sluice run`` where it cannot start, here and now: what it says when it ends with status 1."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(application, ["run", *arguments])
        assert result.exit_code == 1, result.output
        assert isinstance(result.exception, SystemExit), "an error of ours, not a traceback"
        return result.output

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def other_operator(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Callable[..., OperatorProcess]]:
    """Make further operators; each is ended with the test."""
    made: list[OperatorProcess] = []

    def make(*arguments: str) -> OperatorProcess:
        process = OperatorProcess(tmp_path, f"other{len(made)}", *arguments)
        made.append(process)
        return process

    yield make
    for process in made:
        process.kill()
