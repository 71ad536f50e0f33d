"""The parts of one run, started in order and wired together: replicas, the gate, Envoy, Prometheus, then Sluice.

    load -> Envoy -> simulated replicas
            ^   ^         |
            |   |         v
    [gate] -+  Sluice <- Prometheus     (scrapes the replicas, Envoy and the gate every second)
       ^         |
       +- plan --+

Every run has programs of its own, so that none inherits another's queues, counters or plan.
Everything below ``folder`` is the run's own: ``manifests/`` is what a team would apply,
``sluice/`` what ``sluice run --standalone`` writes, ``logs/`` what the programs say, and
``decisions/`` what the gate keeps for ``sluice explain``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from sluice.actuate.envoy_files import EnvoyFiles
from sluice.actuate.port import Order
from sluice.demo import manifests, programs
from sluice.demo.manifests import Ports
from sluice.demo.processes import Child, DemoError, free_ports, running, until
from sluice.demo.scene import FLEET, NAMESPACE, Control, Scene
from sluice.model.fleet import Fleet, WorkloadClass
from sluice.policy.memory import Memory
from sluice.policy.targets import open_targets

DECISIONS = "decisions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What runs and where."""

    control: Control
    folder: Path
    ports: Ports
    fleet: Fleet
    classes: tuple[WorkloadClass, ...]
    unit_rate: float
    children: tuple[Child, ...]

    @property
    def proxy_url(self) -> str:
        """Where clients send their requests."""
        return f"http://127.0.0.1:{self.ports.proxy}"

    @property
    def out(self) -> Path:
        """What Sluice writes."""
        return self.folder / "sluice"

    @property
    def plan_file(self) -> Path:
        """The plan, where Sluice writes it and the gate reads it."""
        return plan_file(self.folder)

    @property
    def decisions(self) -> Path:
        """What the gate keeps about single requests."""
        return self.folder / DECISIONS

    @property
    def gate_url(self) -> str | None:
        """Where the gate tells its metrics; None where there is no gate."""
        return None if self.ports.gate_http is None else f"http://127.0.0.1:{self.ports.gate_http}"


def plan_file(folder: Path) -> Path:
    """Where the operator of the run in ``folder`` writes its plan."""
    return folder / "sluice" / f"plan.{NAMESPACE}.{FLEET}.json"


@contextlib.asynccontextmanager
async def staged(
    scene: Scene, folder: Path, control: Control = Control.LIMITS, unit_rate: float | None = None
) -> AsyncIterator[Stage]:
    """Everything but Sluice, running and ready: Envoy routes to the replicas and limits nothing.

    With the control ``GATE`` the gate is there as well, in the static order as long as there is
    no plan. ``unit_rate`` is asked of the planner where it is not given.
    """
    for name in ("logs", "manifests", "prometheus"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    prometheus = await asyncio.to_thread(programs.prometheus)
    unit = manifests.unit_rate(scene) if unit_rate is None else unit_rate
    async with AsyncExitStack() as stack:
        replicas, replica_ports = await _replicas(scene, folder, stack)
        ports = _ports(replica_ports, control)
        text = manifests.text(scene, ports, unit)
        (folder / "manifests" / "demo.yaml").write_text(text, encoding="utf-8")
        fleet, classes = manifests.resolved(text)
        # The gate first: Envoy asks a cluster that it does not use yet only now and then whether it lives.
        gates = (await _gate(folder, ports, stack),) if control is Control.GATE else ()
        children = (
            replicas,
            *gates,
            await _envoy(fleet, classes, folder, ports, stack),
            await _prometheus(prometheus, folder, ports, stack),
        )
        yield Stage(
            control=control,
            folder=folder,
            ports=ports,
            fleet=fleet,
            classes=classes,
            unit_rate=unit,
            children=children,
        )
    shutil.rmtree(folder / "prometheus", ignore_errors=True)  # its samples are of no use without it


@contextlib.asynccontextmanager
async def steered(stage: Stage) -> AsyncIterator[Child]:
    """``sluice run --standalone`` beside the stage; ready when the first plan is written."""
    command = [sys.executable, "-m", "sluice", "run", "--standalone", str(stage.folder / "manifests")]
    command += ["--out", str(stage.out), "--http-port", "0"]
    stage.plan_file.unlink(missing_ok=True)

    async def planned() -> bool:
        return stage.plan_file.exists()

    async with running("sluice", command, stage.folder / "logs" / "sluice.log") as child:
        await until(planned, child, "the first plan", seconds=30.0)
        yield child


def _ports(replicas: tuple[int, ...], control: Control) -> Ports:
    """Free ports for everything that is still to be started."""
    gated = control is Control.GATE
    proxy, admin, prometheus, *gate = free_ports(5 if gated else 3)
    return Ports(
        replicas=replicas,
        proxy=proxy,
        admin=admin,
        prometheus=prometheus,
        gate=gate[0] if gated else None,
        gate_http=gate[1] if gated else None,
    )


async def _gate(folder: Path, ports: Ports, stack: AsyncExitStack) -> Child:
    """A real gate on the manifests and on the plan that the operator will write, with its own defaults otherwise."""
    command = [sys.executable, "-m", "sluice", "gate", "--manifests", str(folder / "manifests")]
    command += ["--plan", str(plan_file(folder)), "--listen", f"127.0.0.1:{ports.gate}"]
    command += ["--http-port", str(ports.gate_http), "--decisions", str(folder / DECISIONS), "--drain-seconds", "0"]
    child = await stack.enter_async_context(running("gate", command, folder / "logs" / "gate.log"))
    await until(_answers(f"http://127.0.0.1:{ports.gate_http}/readyz"), child, "readiness")
    return child


async def _replicas(scene: Scene, folder: Path, stack: AsyncExitStack) -> tuple[Child, tuple[int, ...]]:
    """All simulated replicas in one process; its first line says where they listen."""
    command = [sys.executable, "-m", "sluice.demo.replica", scene.replicas_settings.model_dump_json()]
    log = folder / "logs" / "replicas.log"
    child = await stack.enter_async_context(running("replicas", command, log, read_stdout=True))
    assert child.process.stdout is not None  # noqa: S101 - it was asked for above
    line = await asyncio.wait_for(child.process.stdout.readline(), 20.0)
    if not line:
        raise DemoError(f"the simulated replicas did not start:\n{child.last_words()}")
    return child, tuple(json.loads(line)["ports"])


async def _envoy(
    fleet: Fleet, classes: tuple[WorkloadClass, ...], folder: Path, ports: Ports, stack: AsyncExitStack
) -> Child:
    """A real Envoy on the files that Sluice will take over, without any limit so far."""
    counts = {pool.name: len(pool.endpoints) for pool in fleet.pools}
    targets, _ = open_targets(fleet, classes, counts, Memory.empty())
    files = EnvoyFiles(folder / "sluice")
    receipt = files.act(Order(fleet=fleet, classes=classes, targets=targets))
    if receipt.problems:
        raise DemoError("; ".join(problem.message for problem in receipt.problems))
    command = [str(programs.envoy()), "-c", str(files.bootstrap), "--concurrency", "1", "--disable-hot-restart"]
    command += ["--log-level", "warning"]
    child = await stack.enter_async_context(running("envoy", command, folder / "logs" / "envoy.log"))
    await until(_answers(f"http://127.0.0.1:{ports.admin}/ready"), child, "readiness")
    return child


async def _prometheus(program: Path, folder: Path, ports: Ports, stack: AsyncExitStack) -> Child:
    """A real Prometheus that scrapes the replicas and Envoy every second."""
    jobs: list[dict[str, Any]] = [
        {"job_name": "replicas", "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports.replicas]}]},
        {
            "job_name": "envoy",
            "metrics_path": "/stats/prometheus",
            "static_configs": [{"targets": [f"127.0.0.1:{ports.admin}"]}],
        },
    ]
    if ports.gate_http is not None:
        jobs.append({"job_name": "gate", "static_configs": [{"targets": [f"127.0.0.1:{ports.gate_http}"]}]})
    every = f"{manifests.SCRAPE_SECONDS}s"
    settings = {"global": {"scrape_interval": every, "scrape_timeout": every}, "scrape_configs": jobs}
    config = folder / "prometheus" / "prometheus.yml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [
        str(program),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus' / 'data'}",
        f"--web.listen-address=127.0.0.1:{ports.prometheus}",
        "--log.level=warn",
    ]
    child = await stack.enter_async_context(running("prometheus", command, folder / "logs" / "prometheus.log"))
    await until(_answers(f"http://127.0.0.1:{ports.prometheus}/-/ready"), child, "readiness")
    return child


class _answers:  # noqa: N801 - reads as a verb where it is used
    """Whether a URL answers 200."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __call__(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(self._url) as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False
