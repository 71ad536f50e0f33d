"""A real Envoy obeys the gate's word for the replica, and reports who served."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.contract.gate_world import World, until, world

CLASSES: dict[str, dict[str, Any]] = {"chat": {"affinityKey": {"header": "x-session"}}}
SESSIONS, TURNS = 12, 4


async def talk(one: World) -> None:
    """Several sessions at once, each turn after the other."""

    async def session(name: str) -> None:
        for _ in range(TURNS):
            assert (await one.ask("chat", headers={"x-session": name})).status == 200

    await asyncio.gather(*(session(f"s{number}") for number in range(SESSIONS)))


async def served(one: World, *, placed: bool) -> dict[str, float]:
    """Requests by where they went, relative to the session's last one."""
    labels = f'class="chat",placed="{str(placed).lower()}"'
    names = ("First", "Same", "Other")
    return {name: await one.value(f'sluice_gate_affinity_requests_total{{{labels},served="{name}"}}') for name in names}


@pytest.mark.parametrize("placed", [pytest.param(True, id="by the gate"), pytest.param(False, id="by the proxy")])
async def test_a_session_stays_on_its_replica_when_the_gate_places(tmp_path: Path, placed: bool) -> None:
    options = ["--placement"] if placed else []
    async with world(tmp_path / "world", CLASSES, replicas=4, options=options) as one:
        await talk(one)

        async def told() -> bool:
            return sum((await served(one, placed=placed)).values()) == SESSIONS * TURNS

        await until("every answer's end is reported", told)
        seen = await served(one, placed=placed)
        assert seen["First"] == SESSIONS
        if placed:
            assert seen["Other"] == 0
            assert await one.value("sluice_gate_misplaced_total") == 0
        else:
            assert seen["Other"] > 0, "the load balancer knows nothing of sessions"
