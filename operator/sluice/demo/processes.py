"""Child processes that never outlive the demo.

Each child leads a process group of its own, so that Ctrl-C at the terminal reaches the demo
alone and the demo ends its children in order: SIGTERM to the group, then SIGKILL. Should the
demo itself be killed, Linux sends each child SIGTERM (``PR_SET_PDEATHSIG``). That signal is
bound to the *thread* that started the child, so children are started from the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_GRACE_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class DemoError(RuntimeError):
    """The demo cannot go on; the message is for its user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A running program."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    def last_words(self) -> str:
        """The end of its log, for an error message."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").strip().splitlines()[-5:])
        return ""

    def processor_seconds(self) -> float | None:
        """Processor time used so far; None where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.asynccontextmanager
async def running(
    name: str, command: Sequence[str], log: Path, *, stdin: bytes | None = None, read_stdout: bool = False
) -> AsyncIterator[Child]:
    """Run ``command`` for the length of the block; standard error goes to ``log``, and standard output unless read."""
    if threading.current_thread() is not threading.main_thread():
        raise DemoError(f"{name} must be started from the main thread, or it ends with the thread that started it")
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if read_stdout else sink,
            stderr=sink,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    try:
        if stdin is not None and process.stdin is not None:
            process.stdin.write(stdin)
            process.stdin.close()
        yield Child(name=name, process=process, log=log)
    finally:
        await _end(process)


async def until(
    check: Callable[[], Awaitable[bool]], child: Child, what: str, *, seconds: float = 20.0, pause: float = 0.05
) -> None:
    """Wait until ``check`` holds; DemoError where the child ends before, or time runs out."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await check():
        if child.process.returncode is not None:
            raise DemoError(f"{child.name} ended with status {child.process.returncode}:\n{child.last_words()}")
        if asyncio.get_running_loop().time() > deadline:
            raise DemoError(f"{child.name}: {what} did not come within {seconds:.0f} s:\n{child.last_words()}")
        await asyncio.sleep(pause)


def free_ports(number: int) -> list[int]:
    """Ports on 127.0.0.1 that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM to the group, SIGKILL to what is left of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        await asyncio.shield(asyncio.wait_for(process.wait(), _GRACE_SECONDS))
    except (TimeoutError, asyncio.CancelledError):
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _die_with_parent() -> None:
    """Between fork and exec: ask for SIGTERM when the parent's thread ends."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
