"""Tasks that turn for as long as the operator runs, and the end of it all where one of them ends by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

log = logging.getLogger("sluice.turning")


class Turning:
    """Keeps the tasks.

    One that fails by what nobody foresaw would leave an operator that plans but resyncs no more, or
    answers probes but lifts nothing. Half an operator is worse than one that is started anew.
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        """Set once a task ended by itself."""
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: BaseException | None = None

    def start(self, name: str, work: Coroutine[object, object, None]) -> None:
        """Let ``work`` turn until ``stop``."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._hear)
        self._tasks.append(task)

    async def stop(self) -> None:
        """End them all."""
        for task in self._tasks:
            task.remove_done_callback(self._hear)
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def raise_failure(self) -> None:
        """Raise what ended a task, if one ended by itself."""
        if self._failure is not None:
            raise self._failure

    def _hear(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        self._failure = task.exception() or RuntimeError(f"{task.get_name()} ended, and should turn for ever")
        log.critical("%s ended by itself, so the operator ends too", task.get_name())
        self.ended.set()
