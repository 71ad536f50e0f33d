"""A control plane with operator and Envoy Gateway in namespaces of their own, and how a test runs a scenario there.

Envoy Gateway takes fixed ports, so a scenario is a process of its own behind ``unshare``; it
prints what it saw as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.control.conftest import NEEDED, absent
from tests.controlplane import envoy_gateway
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.crds import gateway_definitions, install
from tests.controlplane.envoy_gateway import EnvoyGateway, enter
from tests.controlplane.operator_process import OperatorProcess
from tests.controlplane.programs import find

ROOT = Path(__file__).resolve().parents[2]
SCENARIO_SECONDS = 570
"""Less than the tests' own time-out, so that the scenario's words are seen; some 100 s where nothing else runs."""
TOLD = 12_000
"""Characters of a failed scenario's words."""
TAIL = 5_000


def seen_by(scenario: str, folder: Path) -> dict[str, Any]:
    """Run ``tests.control.<scenario>`` in namespaces of its own; what it saw."""
    if missing := [name for name in (*NEEDED, "envoy-gateway") if find(name) is None]:
        absent(f"{', '.join(missing)} not built: run make controlplane")
    if next(iter(gateway_definitions()), None) is None:
        absent("Envoy Gateway's module is not here: install Go and run make controlplane")
    if not envoy_gateway.can_be_isolated():
        pytest.skip("this machine allows no namespaces (unshare): Envoy Gateway's fixed ports cannot be isolated")
    command = [*envoy_gateway.UNSHARE, sys.executable, "-m", f"tests.control.{scenario}", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SCENARIO_SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-TOLD:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a scenario plays on."""

    plane: ControlPlane
    admin: Admin
    operator: OperatorProcess
    """Not started yet: a scenario says when."""


@contextmanager
def stage(folder: Path, *others: str) -> Iterator[Stage]:
    """Inside the namespaces: API server, definitions and Envoy Gateway run; logs are told where the scenario fails.

    ``others``: processes of the scenario's own whose logs are told too.
    """
    enter(folder, EnvoyGateway.certificates(folder))
    plane = ControlPlane(folder)
    operator = OperatorProcess(folder, "operator", f"--kubeconfig={folder / 'kubeconfig-admin'}", "--namespace=default")
    gateway = EnvoyGateway(folder, plane)
    try:
        plane.start()
        admin = Admin(plane)
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            admin.apply_file(path)
        install(admin, gateway_definitions())
        gateway.start(admin)
        yield Stage(plane=plane, admin=admin, operator=operator)
    except Exception:
        sys.stderr.write(f"--- operator\n{_tail(operator.log)}\n--- envoy gateway\n{_tail(gateway.log)}\n")
        for name in others:
            sys.stderr.write(f"--- {name}\n{_tail(lambda name=name: plane.processes.log(name))}\n")
        raise
    finally:
        operator.kill()
        plane.stop()


def _tail(log: Any) -> str:
    try:
        return str(log())[-TAIL:]
    except OSError as error:
        return str(error)
