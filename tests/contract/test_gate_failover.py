"""Two gate processes with one lease behind a real Envoy, on a real API server: the active one is killed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.contract.gate_world import (
    Reply,
    World,
    end,
    first_line,
    free_port,
    manifests,
    replica_settings,
    start,
    until,
    write_envoy_files,
)
from tests.contract.test_gate_cluster_feed import Server, server

from sluice.actuate.envoy_terms import socket_address
from sluice.demo.programs import envoy
from sluice.gate.lease import LEASE_SECONDS, RENEW_SECONDS
from sluice.model.gate import FILES_GATE_CLUSTER, WAITED_HEADER

pytestmark = pytest.mark.controlplane
__all__ = ["server"]
PROBE_SECONDS = 1.0
"""Period of the chart's readiness probe; one failure is enough."""
BUSY_SECONDS = 3.0
"""What a machine that does other things besides may add."""


def gate(server: Server, folder: Path, name: str) -> tuple[subprocess.Popen[str], int]:
    """A gate's process, and the port at which it listens."""
    port = free_port()
    command = [sys.executable, "-m", "sluice", "gate", "--fleet=fleet", f"--listen=127.0.0.1:{port}", "--http-port=0"]
    command.append(f"--kubeconfig={server.plane.kubeconfig()}")
    return start(command, folder / f"{name}.log", env={**os.environ, "POD_NAME": name}), port


def name_both(bootstrap: Path, gates: list[tuple[int, int]]) -> None:
    """Both gates in Envoy's cluster, and a health check in place of readiness probe and EndpointSlice.

    The same question at the same pace: /readyz every second, one failure is enough.
    """
    document = json.loads(bootstrap.read_text())
    clusters = {one["name"]: one for one in document["static_resources"]["clusters"]}
    endpoints = [
        {"address": socket_address("127.0.0.1", port), "health_check_config": {"port_value": http_port}}
        for port, http_port in gates
    ]
    pace = f"{PROBE_SECONDS:g}s"
    clusters[FILES_GATE_CLUSTER] |= {
        "load_assignment": {
            "cluster_name": FILES_GATE_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint} for endpoint in endpoints]}],
        },
        "common_lb_config": {"healthy_panic_threshold": {"value": 0.0}},  # a Service names no Pod that is not ready
        "health_checks": [
            {
                **dict.fromkeys(("timeout", "interval", "no_traffic_interval"), pace),
                **dict.fromkeys(("unhealthy_threshold", "healthy_threshold"), 1),
                "http_health_check": {"path": "/readyz", "codec_client_type": "HTTP1"},
            }
        ],
    }
    bootstrap.write_text(json.dumps(document))


@contextlib.contextmanager
def ending(*processes: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            end(process)


async def is_ready(session: aiohttp.ClientSession, http_port: int) -> bool:
    async with session.get(f"http://127.0.0.1:{http_port}/readyz") as answer:
        return answer.status == 200


def is_gated(reply: Reply) -> bool:
    return WAITED_HEADER in reply.headers


async def test_requests_go_on_while_the_standby_takes_over(server: Server, tmp_path: Path) -> None:
    chosen: dict[str, Any] = replica_settings(1)
    replica = start([sys.executable, "-m", "sluice.demo.replica", json.dumps(chosen)], tmp_path / "replica.log")
    with contextlib.ExitStack() as stack:
        stack.enter_context(ending(replica))
        ports = first_line(replica, tmp_path / "replica.log")["ports"]
        listener, admin = free_port(), free_port()
        text = manifests(ports, listener, admin, free_port(), {"chat": {}}, "Enabled", chosen)
        for document in map(json.loads, text.split("---\n")):
            await until("our kinds are served", partial(server.apply_resource, document))
        started = [gate(server, tmp_path, name) for name in ("one", "two")]
        stack.enter_context(ending(*(process for process, _ in started)))
        http_ports = [
            first_line(process, tmp_path / f"{name}.log")["httpPort"]
            for (process, _), name in zip(started, ("one", "two"), strict=True)
        ]
        (tmp_path / "manifests").mkdir()
        (tmp_path / "manifests" / "fleet.yaml").write_text(text)
        bootstrap = write_envoy_files(tmp_path)
        name_both(bootstrap, [(port, http) for (_, port), http in zip(started, http_ports, strict=True)])
        command = [str(envoy()), "-c", str(bootstrap), "--concurrency", "1", "-l", "warning", "--use-dynamic-base-id"]
        stack.enter_context(ending(start(command, tmp_path / "envoy.log")))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            here = World(tmp_path, listener, admin, 0, 0, ports, None, session)

            async def gated() -> bool:
                try:
                    return is_gated(await here.ask())
                except aiohttp.ClientError:
                    return False

            await until("requests go through the active gate", gated)
            ready = [await is_ready(session, port) for port in http_ports]
            assert sorted(ready) == [False, True], "one of them at a time"
            active = ready.index(True)
            started[active][0].kill()
            killed = time.monotonic()
            replies = [await here.ask()]
            while not is_gated(replies[-1]):
                replies.append(await here.ask())
                assert time.monotonic() - killed < LEASE_SECONDS + RENEW_SECONDS + PROBE_SECONDS + BUSY_SECONDS
            assert {reply.status for reply in replies} == {200}, "meanwhile they pass"
            assert max(reply.first for reply in replies) < BUSY_SECONDS
            assert await is_ready(session, http_ports[1 - active])
