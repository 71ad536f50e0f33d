"""Ends of answers as a real Envoy reports them to a real gate."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.contract.gate_world import World, until, world

ENDS_REPORTED = "sluice_gate_ends_reported"


async def resident(one: World) -> float:
    """Requests whose answers are not over, on the only engine."""
    return await one.value(f'sluice_gate_engine_resident_requests{{engine="127.0.0.1:{one.replica_ports[0]}"}}')


async def test_the_gate_knows_which_answers_are_under_way_and_when_each_is_over(tmp_path: Path) -> None:
    async with world(tmp_path / "world", {"chat": {}, "code": {}}) as one:
        assert (await one.ask("chat")).status == 200
        await until("ends are reported", lambda: one.value(ENDS_REPORTED))
        long = [asyncio.create_task(one.ask("chat", output=100_000)) for _ in range(5)]
        await asyncio.gather(*(one.ask("code", output=3) for _ in range(20)))

        async def held() -> bool:
            return await resident(one) == 5

        await until("only the long answers are left", held)
        for task in long[:2]:
            task.cancel()

        async def left() -> bool:
            return await resident(one) == 3

        await until("two clients left in the midst of their answers", left)
        for task in long:
            task.cancel()
        await asyncio.gather(*long, return_exceptions=True)


async def test_a_new_gate_hears_of_ends_again(tmp_path: Path) -> None:
    async with world(tmp_path / "world", {"chat": {}}) as one:
        await one.ask()
        await until("ends are reported", lambda: one.value(ENDS_REPORTED))
        one.stop_gate()
        one.start_gate()

        async def again() -> float:
            await one.ask()
            return await one.value(ENDS_REPORTED)

        await until("ends are reported again", again)

        async def none() -> bool:
            return await resident(one) == 0

        await until("and nothing is left over", none)
