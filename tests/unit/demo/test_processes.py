"""Children end with their block, with their whole group, and with their parent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from sluice.demo.processes import DemoError, free_ports, running, until

FAMILY = "import subprocess, sys; c = subprocess.Popen(['sleep', '60']); print(c.pid, flush=True); c.wait()"
"""A child with a child of its own, whose number it prints."""
STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)
ORPHANED = """
import asyncio, sys
from pathlib import Path
from sluice.demo.processes import running
async def main():
    async with running("sleep", ["sleep", "60"], Path(sys.argv[1])) as child:
        print(child.process.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not collected yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def gone(pid: int) -> bool:
    async with asyncio.timeout(10):
        while alive(pid):
            await asyncio.to_thread(os.sched_yield)
    return True


async def test_the_whole_group_ends_with_the_block(tmp_path: Path) -> None:
    async with running("family", [sys.executable, "-c", FAMILY], tmp_path / "log", read_stdout=True) as child:
        assert child.process.stdout is not None
        grandchild = int(await child.process.stdout.readline())
        assert alive(grandchild)
    assert child.process.returncode is not None
    assert await gone(grandchild)


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.demo.processes._GRACE_SECONDS", 0.1)
    async with running("stubborn", [sys.executable, "-c", STUBBORN], tmp_path / "log", read_stdout=True) as child:
        assert child.process.stdout is not None
        await child.process.stdout.readline()
    assert child.process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ORPHANED, str(tmp_path / "log")]
    parent = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert alive(child)
    parent.kill()
    await parent.wait()
    assert await gone(child)


async def test_a_child_that_ends_early_is_reported_with_its_last_words(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    command = [sys.executable, "-c", "import sys; sys.exit('no such port')"]
    async with running("envoy", command, tmp_path / "log") as child:
        with pytest.raises(DemoError, match=r"envoy ended with status 1:\nno such port"):
            await until(never, child, "readiness")


def test_a_child_of_another_thread_is_refused(tmp_path: Path) -> None:
    problems: list[BaseException] = []

    async def start() -> None:
        async with running("sleep", ["sleep", "1"], tmp_path / "log"):
            pass

    def work() -> None:
        try:
            asyncio.run(start())
        except DemoError as error:
            problems.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "main thread" in str(problems[0])


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(5))) == 5
