"""Tasks that should turn for ever: what happens when one does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from sluice.control.turning import Turning


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _fail() -> None:
    raise KeyError("what nobody foresaw")


async def _return() -> None:
    return


@pytest.mark.parametrize(
    ("work", "raised"),
    [
        pytest.param(_fail, KeyError, id="one that fails ends the operator, which tells why"),
        pytest.param(_return, RuntimeError, id="one that just ends does too"),
    ],
)
async def test_a_task_that_ends_by_itself_is_the_end(
    work: Callable[[], Coroutine[object, object, None]], raised: type[Exception]
) -> None:
    turning = Turning()
    turning.start("another", _for_ever())
    turning.start("this", work())
    await asyncio.wait_for(turning.ended.wait(), 5)
    await turning.stop()
    with pytest.raises(raised):
        turning.raise_failure()


async def test_tasks_that_are_stopped_did_not_fail() -> None:
    turning = Turning()
    turning.start("one", _for_ever())
    await turning.stop()
    assert not turning.ended.is_set()
    turning.raise_failure()
