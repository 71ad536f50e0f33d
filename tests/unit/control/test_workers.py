"""Blocking work: bounded, timed, and refused when everything hangs."""

from __future__ import annotations

import asyncio
import threading

import pytest

from sluice.control.workers import Overloaded, Workers


async def test_a_call_returns_its_result_and_raises_its_error() -> None:
    workers = Workers("test", threads=1, timeout_seconds=5)
    assert await workers.run(lambda value: value + 1, 1) == 2
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 // 0)
    workers.close()


async def test_a_call_that_hangs_is_given_up_and_the_others_are_refused_until_it_returns() -> None:
    workers, release = Workers("test", threads=1, timeout_seconds=0.05), threading.Event()
    with pytest.raises(TimeoutError):
        await workers.run(release.wait)
    assert workers.overdue == 1
    with pytest.raises(Overloaded):
        await workers.run(int)
    release.set()
    async with asyncio.timeout(5):
        while workers.overdue:  # noqa: ASYNC110 - the thread's end sets no event
            await asyncio.sleep(0)
    assert await workers.run(lambda: 7) == 7
    workers.close()


async def test_one_call_that_hangs_leaves_the_other_threads() -> None:
    workers, release = Workers("test", threads=2, timeout_seconds=0.05), threading.Event()
    with pytest.raises(TimeoutError):
        await workers.run(release.wait)
    assert await workers.run(lambda: 7) == 7
    release.set()
    workers.close()
