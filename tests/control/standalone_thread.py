"""``sluice run --standalone`` in a thread of the tests, where what a process does is not the question."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from pathlib import Path

from tests.controlplane.cluster import wait_until
from tests.controlplane.operator_process import START_SECONDS, OperatorProcess

from sluice.control.logs import FieldFormatter
from sluice.control.standalone import StandaloneSettings, run_standalone

LOGGER = logging.getLogger("sluice")


class _Lines(logging.Handler):
    """What was logged, tracebacks included."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(FieldFormatter("%(levelname)s %(name)s: %(message)s"))
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += self.format(record) + "\n"


class OperatorThread(OperatorProcess):
    """Asked like the process; starts in no time, for everything is imported."""

    def __init__(self, manifests: Path, out: Path) -> None:
        super().__init__(out.parent, "standalone")
        self._settings = StandaloneSettings(manifests=manifests, out=out, port=0)
        self._lines = _Lines()
        self._thread: threading.Thread | None = None
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        LOGGER.addHandler(self._lines)
        LOGGER.setLevel(logging.INFO)
        self._thread = threading.Thread(target=self._turn, daemon=True)
        self._thread.start()
        wait_until(self._listens, "the operator listens", timeout_seconds=START_SECONDS)
        wait_until(lambda: self.get("/readyz")[0] == 200, "the operator is ready", timeout_seconds=START_SECONDS)

    def kill(self) -> None:
        """End it, in order: a thread knows no other way."""
        if self._thread is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(START_SECONDS)
        LOGGER.removeHandler(self._lines)
        LOGGER.setLevel(logging.NOTSET)

    def log(self) -> str:
        """Everything it said."""
        return self._lines.text

    def _listens(self) -> bool:
        found = re.search(r"probes and metrics at (http://\S+)", self.log())
        self.url = found[1] if found else ""
        return found is not None

    def _turn(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_cancelled())

    async def _until_cancelled(self) -> None:
        self._task = asyncio.create_task(run_standalone(self._settings))
        await asyncio.gather(self._task, return_exceptions=True)
