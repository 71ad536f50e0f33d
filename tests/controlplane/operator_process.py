"""The operator as people run it: a process of its own, asked through its own probes and metrics."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.controlplane.cluster import ProcessGroup, end, wait_until

START_SECONDS = 60.0


class OperatorProcess:
    """``sluice run`` with given arguments; ``start`` and ``stop`` as often as a test likes."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self._processes = ProcessGroup(folder)
        self._name = name
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self.url = ""

    @property
    def is_started(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until its probes answer."""
        self._starts += 1
        command = [sys.executable, "-m", "sluice", "run", *self._arguments]
        self._process = self._processes.start(
            self._log, [*command, "--http-address=127.0.0.1", "--http-port=0"], PYTHONUNBUFFERED="1"
        )
        wait_until(self._has_address, "the operator listens", timeout_seconds=START_SECONDS)
        wait_until(lambda: self.get("/readyz")[0] == 200, "the operator is ready", timeout_seconds=START_SECONDS)

    def stop(self) -> int:
        """End it as the kubelet does; its exit status."""
        assert self._process is not None
        status = end(self._process)
        self._process = None
        return status

    def kill(self) -> None:
        """End it however it stands."""
        self._processes.stop()
        self._process = None

    def log(self) -> str:
        """Everything it said since its last start."""
        return self._processes.log(self._log)

    def get(self, path: str) -> tuple[int, str]:
        """Ask it over HTTP: status and text; (0, why) where it does not answer."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:  # noqa: S310 - loopback
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def passes(self, fleet: str, namespace: str = "default") -> float:
        """How many passes the fleet has had, whatever their outcome."""
        pattern = rf'^sluice_passes_total{{fleet="{fleet}",namespace="{namespace}",outcome="\w+"}} (\S+)$'
        return sum(float(found) for found in re.findall(pattern, self.get("/metrics")[1], re.MULTILINE))

    def wait_for_passes(self, count: int, fleet: str, namespace: str = "default") -> None:
        """Wait until the fleet has had ``count`` more passes from start to end."""
        wanted = self.passes(fleet, namespace) + count + 1  # the one under way may be older than the question
        wait_until(lambda: self.passes(fleet, namespace) >= wanted, f"{count} more passes of {fleet}")

    @property
    def _log(self) -> str:
        return f"{self._name}-{self._starts}"

    def _has_address(self) -> bool:
        assert self._process is not None
        found = re.search(r"probes and metrics at (http://\S+)", self.log())
        if found is None and self._process.poll() is not None:
            raise RuntimeError(f"the operator ended:\n{self.log()}")
        self.url = found[1] if found else ""
        return found is not None
