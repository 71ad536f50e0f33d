"""A real Envoy, a real gate process and simulated replicas, for the gate's contract tests and benchmarks.

Envoy dies with the thread that starts it, so everything is started from the test's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from sluice.actuate.envoy_files import EnvoyFiles
from sluice.actuate.port import Order
from sluice.demo.programs import envoy
from sluice.gate.feed import read_world
from sluice.model.decision import ClassTarget, Targets
from sluice.model.gate import REQUEST_ID_HEADER

DEADLINE_SECONDS = 30.0
SOLO_SECONDS, PER_TOKEN_SECONDS = 0.004, 4e-6


async def until(what: str, probe: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> Any:
    """Poll ``probe`` until it gives something true."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def replica_settings(replicas: int, **fields: Any) -> dict[str, Any]:
    given = {
        "replicas": replicas,
        "models": ["model"],
        "solo_seconds": SOLO_SECONDS,
        "mixed_base_seconds": SOLO_SECONDS,
        "per_token_seconds": PER_TOKEN_SECONDS,
        "per_sequence_seconds": 0.0,
        "slots": 64,
        "batched_token_budget": 2048,
        "kv_token_capacity": 1_000_000,
    }
    return {**given, **fields}


def manifests(
    ports: Sequence[int],
    listener: int,
    admin: int,
    gate: int | None,
    classes: dict[str, dict[str, Any]],
    use: str,
    replica: dict[str, Any],
) -> str:
    slots, budget = replica["slots"], replica["batched_token_budget"]
    data_plane: dict[str, Any] = {
        "kind": "EnvoyFiles",
        "listenerPort": listener,
        "adminAddress": f"127.0.0.1:{admin}",
        "limit": "None",
    }
    if gate is not None:
        data_plane |= {"gate": use, "gateAddress": f"127.0.0.1:{gate}"}
    law = {
        "soloNanoseconds": round(replica["solo_seconds"] * 1e9),
        "mixedBaseNanoseconds": round(replica["mixed_base_seconds"] * 1e9),
        "perTokenNanoseconds": round(replica["per_token_seconds"] * 1e9),
    }
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "sluice.dev/v1alpha1",
            "kind": "IterationProfile",
            "metadata": {"name": "law"},
            "spec": {"model": "model", "accelerator": "simulated", "engine": "simulated", **law},
        },
        {
            "apiVersion": "sluice.dev/v1alpha1",
            "kind": "InferenceFleet",
            "metadata": {"name": "fleet"},
            "spec": {
                "mode": "Enforce",
                "dataPlane": data_plane,
                "pools": [
                    {
                        "name": "pool",
                        "slots": slots,
                        "chunkTokens": budget - slots,
                        "batchedTokenBudget": budget,
                        "profileRef": {"name": "law"},
                        "endpoints": [{"address": "127.0.0.1", "port": port} for port in ports],
                    }
                ],
            },
        },
    ]
    for name, fields in classes.items():
        spec = {
            "fleetRef": {"name": "fleet"},
            "match": {"headers": [{"name": "x-class", "value": name}]},
            "priors": {"promptTokens": 500, "outputTokens": 20, "milliRequestsPerSecond": 1000},
            **fields,
        }
        documents.append(
            {"apiVersion": "sluice.dev/v1alpha1", "kind": "WorkloadClass", "metadata": {"name": name}, "spec": spec}
        )
    return "---\n".join(json.dumps(document) + "\n" for document in documents)


def start(command: Sequence[str], log: Path, **more: Any) -> subprocess.Popen[str]:
    with log.open("w") as errors:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, **more)


def first_line(process: subprocess.Popen[str], log: Path) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(f"it ended at once: {log.read_text()[-2000:]}")
    return dict(json.loads(line))


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@dataclass
class Reply:
    """What a client saw."""

    status: int
    headers: dict[str, str]
    first: float
    """Seconds from sending to the first byte of the body."""
    body: bytes

    @property
    def request_id(self) -> str:
        return self.headers[REQUEST_ID_HEADER]


@dataclass
class World:
    """Everything that runs, and how to talk to it."""

    folder: Path
    listener: int
    admin: int
    gate_port: int
    gate_http: int
    replica_ports: list[int]
    gate: subprocess.Popen[str] | None
    session: aiohttp.ClientSession
    gate_options: list[str] = field(default_factory=list)
    gate_environment: dict[str, str] = field(default_factory=dict)

    async def ask(
        self,
        name: str = "chat",
        tokens: int = 100,
        output: int = 2,
        stream: bool = True,
        headers: dict[str, str] | None = None,
        path: str = "/v1/completions",
    ) -> Reply:
        document = {"model": "model", "prompt": "word" * tokens, "max_tokens": output, "stream": stream}
        body = io.BytesIO(json.dumps(document).encode())
        began = time.monotonic()
        sent = {"x-class": name, "content-type": "application/json", **(headers or {})}
        async with self.session.post(f"http://127.0.0.1:{self.listener}{path}", data=body, headers=sent) as answer:
            chunk = await answer.content.readany()
            first = time.monotonic() - began
            return Reply(
                answer.status,
                {k.lower(): v for k, v in answer.headers.items()},
                first,
                chunk + await answer.content.read(),
            )

    async def gate_metrics(self) -> dict[str, float]:
        async with self.session.get(f"http://127.0.0.1:{self.gate_http}/metrics") as answer:
            text = await answer.text()
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    async def value(self, name: str) -> float:
        return (await self.gate_metrics()).get(name, 0.0)

    def start_gate(self, *options: str) -> None:
        """Start the gate and wait until it serves."""
        self.spawn_gate(*options)
        self.await_gate()

    def await_gate(self) -> None:
        assert self.gate is not None
        self.gate_http = first_line(self.gate, self.folder / "gate.log")["httpPort"]

    def spawn_gate(self, *options: str) -> None:
        self.gate = start(
            [
                sys.executable,
                "-m",
                "sluice",
                "gate",
                "--manifests",
                str(self.folder / "manifests"),
                "--plan",
                str(self.folder / "plan.json"),
                "--listen",
                f"127.0.0.1:{self.gate_port}",
                "--http-port",
                "0",
                "--decisions",
                str(self.folder / "decisions"),
                "--kill-file",
                str(self.folder / "kill"),
                *self.gate_options,
                *options,
            ],
            self.folder / "gate.log",
            env={**os.environ, **self.gate_environment},
        )

    def stop_gate(self) -> None:
        if self.gate is not None:
            end(self.gate)
            self.gate = None


@contextlib.asynccontextmanager
async def world(
    folder: Path,
    classes: dict[str, dict[str, Any]],
    *,
    replicas: int = 1,
    gate: bool = True,
    use: str = "Enabled",
    options: Sequence[str] = (),
    settings: dict[str, Any] | None = None,
    ports: Sequence[int] = (),
    environment: dict[str, str] | None = None,
) -> AsyncIterator[World]:
    """Replicas (or ``ports`` of others), Envoy and, with ``gate``, the gate; all ended at the end.

    ``environment`` is set for the gate's process, beside our own.
    """
    (folder / "manifests").mkdir(parents=True)
    chosen = replica_settings(replicas, **(settings or {}))
    processes: list[subprocess.Popen[str]] = []
    log = folder / "replicas.log"
    connector = aiohttp.TCPConnector(limit=0, force_close=False)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as session:
        try:
            if not ports:
                serving = start([sys.executable, "-m", "sluice.demo.replica", json.dumps(chosen)], log)
                processes.append(serving)
                ports = first_line(serving, log)["ports"]
            listener, admin, gate_port = free_port(), free_port(), free_port()
            text = manifests(ports, listener, admin, gate_port if gate else None, classes, use, chosen)
            (folder / "manifests" / "fleet.yaml").write_text(text)
            one = World(
                folder, listener, admin, gate_port, 0, list(ports), None, session, list(options), environment or {}
            )
            bootstrap = write_envoy_files(folder)
            if gate:
                one.spawn_gate()
            log = folder / "envoy.log"
            processes.append(
                start(
                    [
                        str(envoy()),
                        "-c",
                        str(bootstrap),
                        "--concurrency",
                        "1",
                        "-l",
                        "warning",
                        "--use-dynamic-base-id",
                    ],
                    log,
                )
            )
            if gate:
                one.await_gate()
            await until("Envoy is ready", lambda: _ready(session, admin))
            yield one
        finally:
            if "one" in locals():
                one.stop_gate()
            for process in reversed(processes):
                end(process)


def write_envoy_files(folder: Path) -> Path:
    """What the operator would have written for these manifests; returns the bootstrap."""
    declared = read_world(folder / "manifests", None)
    targets = Targets(
        plan_id="test",
        classes=tuple(
            ClassTarget(
                name=workload.name, rate_limit=None, in_flight_limit=None, fence=None, weights=(("pool", 1000),)
            )
            for workload in declared.classes
        ),
    )
    files = EnvoyFiles(folder)
    receipt = files.act(Order(fleet=declared.fleet, classes=declared.classes, targets=targets))
    assert not receipt.problems, receipt.problems
    return files.bootstrap


async def _ready(session: aiohttp.ClientSession, admin: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{admin}/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
