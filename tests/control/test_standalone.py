"""``sluice run --standalone``: the same loop on a directory of manifests, status and Envoy's files below OUT."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.control.fleets import PROFILE, fleet, two_classes
from tests.control.standalone_thread import OperatorThread
from tests.controlplane.cluster import wait_until
from tests.controlplane.operator_process import OperatorProcess

pytestmark = pytest.mark.timeout(300)

FLEET = "InferenceFleet.default.fleet"
LISTENER = {"kind": "EnvoyFiles", "listenerPort": 18080}


class Standalone:
    """One operator with its two folders: a process, or a thread of ours, which starts much sooner."""

    def __init__(self, folder: Path, *, process: bool = False) -> None:
        self.manifests, self.out = folder / "manifests", folder / "out"
        self.manifests.mkdir()
        flags = (f"--standalone={self.manifests}", f"--out={self.out}")
        self.operator = (
            OperatorProcess(folder, "standalone", *flags) if process else OperatorThread(self.manifests, self.out)
        )

    def declare(self, *documents: Any) -> None:
        draft = self.manifests / ".draft"
        draft.write_text(yaml.safe_dump_all([PROFILE, *documents]))
        draft.rename(self.manifests / "all.yaml")

    def status(self, name: str = FLEET) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.out / "status" / f"{name}.json").read_text())
        except OSError:
            return {}
        return found

    def condition(self, type_: str, name: str = FLEET) -> dict[str, Any]:
        return next((entry for entry in self.status(name).get("conditions", []) if entry["type"] == type_), {})

    def wait_for(self, type_: str, status: str, reason: str = "") -> dict[str, Any]:
        def holds() -> bool:
            found = self.condition(type_)
            return found.get("status") == status and reason in ("", found["reason"])

        wait_until(holds, f"{type_}={status} {reason}")
        return self.condition(type_)

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Every file below OUT: its bytes and when it was written."""
        return {
            str(path.relative_to(self.out)): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in self.out.rglob("*")
            if path.is_file()
        }

    def is_judged(self) -> bool:
        return "just written" not in self.condition("Effective").get("message", "just written")

    def limit(self) -> str:
        return str(self.status("WorkloadClass.default.decode-heavy").get("limit", ""))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Standalone]:
    yield from started(Standalone(tmp_path))


@pytest.fixture
def in_a_process(tmp_path: Path) -> Iterator[Standalone]:
    yield from started(Standalone(tmp_path, process=True))


def started(world: Standalone) -> Iterator[Standalone]:
    world.declare(fleet(dataPlane=LISTENER), *two_classes())
    world.operator.start()
    yield world
    assert "Traceback" not in world.operator.log()
    world.operator.kill()


def test_plan_status_and_files_appear_and_a_restart_leaves_them_alone(in_a_process: Standalone) -> None:
    here = in_a_process
    wait_until(lambda: here.limit() == "4.68/s, 111 in flight", "the plan's limit")
    bootstrap = here.out / "envoy" / "bootstrap.json"
    assert f"start it with envoy -c {bootstrap}" in here.operator.log()
    assert bootstrap.is_file()
    wait_until(here.is_judged, "the time that a proxy is given to follow is over")
    plan = json.loads((here.out / "plan.default.fleet.json").read_text())
    assert plan["valuePerSecond"] == pytest.approx(2977.16190347, rel=1e-6)
    assert (here.out / "envoy" / "bootstrap.json").is_file()
    before = here.files()
    here.operator.wait_for_passes(2, "fleet")
    assert here.files() == before
    assert here.operator.stop() == 0
    here.operator.start()
    here.operator.wait_for_passes(3, "fleet")
    assert here.files() == before


def test_a_refused_edit_is_told_and_the_good_version_stays(here: Standalone) -> None:
    here.wait_for("Ready", "True")
    plan = here.status()["plan"]["planId"]
    here.declare(fleet(dataPlane=LISTENER, mode="Foo"), *two_classes())
    found = here.wait_for("Accepted", "False", "Invalid")
    assert "spec.mode" in found["message"]
    assert here.status()["plan"]["planId"] == plan
    here.declare(fleet(dataPlane=LISTENER), *two_classes())
    here.wait_for("Ready", "True")


@pytest.mark.parametrize("victim", ["envoy", "."])
def test_an_output_folder_that_becomes_a_file_is_told_and_healed(here: Standalone, victim: str) -> None:
    here.wait_for("Programmed", "True")
    place = (here.out / victim).resolve()
    shutil.rmtree(place)
    place.write_text("in the way")
    shown = 'sluice_condition{fleet="fleet",namespace="default",type="Programmed"} 0.0'
    wait_until(lambda: shown in here.operator.get("/metrics")[1], "Programmed=False in the metrics")
    if victim == "envoy":
        assert "envoy" in here.wait_for("Programmed", "False", "WriteFailed")["message"]
    wait_until(lambda: "WriteFailed" in here.operator.log(), "a line in the log")
    place.unlink()
    here.wait_for("Programmed", "True")
    assert (here.out / "envoy" / "bootstrap.json").is_file()


def test_leaving_enforce_opens_limits_and_keeps_the_routes(here: Standalone) -> None:
    wait_until(lambda: here.limit() != "", "a limit")
    clusters = (here.out / "envoy" / "cds.json").read_text()
    here.declare(fleet("Observe", dataPlane=LISTENER), *two_classes())
    wait_until(lambda: here.limit() == "", "no limit")
    assert "local_ratelimit" not in (here.out / "envoy" / "rds.json").read_text()
    assert (here.out / "envoy" / "cds.json").read_text() == clusters
    here.operator.wait_for_passes(2, "fleet")
    before = here.files()
    here.operator.wait_for_passes(2, "fleet")
    assert here.files() == before


def test_a_fleet_that_is_deleted_leaves_open_limits(here: Standalone) -> None:
    wait_until(lambda: here.limit() != "", "a limit")
    here.operator.wait_for_passes(2, "fleet")
    here.declare()
    wait_until(lambda: not (here.out / "status" / f"{FLEET}.json").exists(), "its status is gone")
    wait_until(lambda: "local_ratelimit" not in (here.out / "envoy" / "rds.json").read_text(), "no limit")
