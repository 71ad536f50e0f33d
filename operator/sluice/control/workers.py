"""Blocking work beside the event loop: bounded threads with time-outs.

The LP solve, the Prometheus client and the Kubernetes client block; resolving and reporting
hundreds of classes is long enough to hold up a probe. Each kind of work has
its own small set of threads, so that one kind cannot starve another. A thread cannot be
killed: a call that ran past its time-out keeps its thread until it returns, and when all
threads of a kind hang, further calls are refused at once instead of queueing behind them.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Overloaded(RuntimeError):  # noqa: N818 - a state of the workers, not a programming error
    """Every thread is busy with calls that ran past their time-out."""


class StillRunning(TimeoutError):  # noqa: N818 - a state of the call
    """A call ran past its time-out and goes on: ``future`` tells when it ends, and how."""

    def __init__(self, message: str, future: Future[Any]) -> None:
        super().__init__(message)
        self.future = future


async def ended(future: Future[Any]) -> None:
    """Wait until a call that was left to itself returns, however it ends."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def tell(_: Future[Any]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(over.set)

    future.add_done_callback(tell)
    await over.wait()


class Workers:
    """A bounded set of threads for one kind of blocking work."""

    def __init__(self, kind: str, *, threads: int, timeout_seconds: float) -> None:
        self._kind = kind
        self._threads = threads
        self._timeout_seconds = timeout_seconds
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=f"sluice-{kind}")
        self._overdue = 0

    @property
    def overdue(self) -> int:
        """Calls that ran past their time-out and still hold a thread."""
        return self._overdue

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """``call`` in a thread.

        Raises TimeoutError when it takes too long (StillRunning where it had begun), Overloaded when all threads hang.
        """
        if self._overdue >= self._threads:
            raise Overloaded(f"all {self._threads} threads for {self._kind} hang")
        future = self._executor.submit(functools.partial(call, *args, **kwargs))
        waiter = asyncio.wrap_future(future)
        done, _ = await asyncio.wait({waiter}, timeout=self._timeout_seconds)
        if done:
            return waiter.result()
        late = f"{self._kind} took longer than {self._timeout_seconds:g} s"
        if future.cancel():  # it never started: nothing holds a thread
            raise TimeoutError(late)
        self._abandon(future)
        raise StillRunning(late, future)

    def _abandon(self, future: Future[R]) -> None:
        self._overdue += 1
        loop = asyncio.get_running_loop()

        def settled(_: Future[R]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._returned)

        future.add_done_callback(settled)

    def _returned(self) -> None:
        self._overdue -= 1

    def close(self) -> None:
        """Let running calls end by themselves and take no new ones."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class Crews:
    """The kinds of blocking work that a pass does, each with threads of its own."""

    def __init__(self, *, thinking_seconds: float = 30.0, writing_seconds: float = 20.0) -> None:
        self.paperwork = Workers("resolving and reporting", threads=2, timeout_seconds=thinking_seconds)
        """Apart from thinking: a solver that hangs must not keep a pass from saying so."""
        self.thinking = Workers("solving", threads=2, timeout_seconds=thinking_seconds)
        self.writing = Workers("writing", threads=4, timeout_seconds=writing_seconds)

    def close(self) -> None:
        """Let running calls end by themselves."""
        self.paperwork.close()
        self.thinking.close()
        self.writing.close()
