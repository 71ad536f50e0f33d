"""The gate frozen, and the gate killed while thousands wait, behind a real Envoy Gateway."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.control.gate_client import Replica, ask, gated, metrics, send
from tests.controlplane.cluster import wait_until
from tests.controlplane.envoy_gateway import LISTENER_PORT

WAITING = 40
CROWD = 2000
LARGE_PROMPT = b"word" * 100_000
"""Its prefill takes so long by the law that its budget is not freed by estimate meanwhile."""
ANSWER_SECONDS = 100.0


def freeze(replica: Replica, gate: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Stop the gate's process while requests wait, seconds after it began to serve; nobody ends it."""
    replica.let_go()
    wait_until(gated, "requests are gated again", timeout_seconds=60)
    replica.hold()
    pool = ThreadPoolExecutor(WAITING + 40)
    sent = [pool.submit(ask, "full", f"large{number}", LARGE_PROMPT) for number in range(2)]
    wait_until(lambda: replica.held == 2, "the engine is busy")
    sent += send(pool, [("full", f"w{number}") for number in range(WAITING)])
    held = replica.most
    gate.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    wait_until(lambda: replica.held > held, "what waited is let through")
    passed = time.monotonic() - began
    sent.append(pool.submit(ask, "full", "fresh"))
    replica.let_go()
    answers = [one.result(ANSWER_SECONDS) for one in sent]
    gate.kill()
    return {
        "answers": Counter(answers),
        "heldBefore": held,
        "heldAtMost": replica.most,
        "passedAfterSeconds": passed,
        "allAfterSeconds": time.monotonic() - began,
    }


def kill(replica: Replica, gate: subprocess.Popen[bytes]) -> dict[str, Any]:
    """End the gate's process while a crowd waits."""
    replica.hold()
    pool = ThreadPoolExecutor(2)
    large = [pool.submit(ask, "full", f"large{number}", LARGE_PROMPT) for number in range(2)]
    wait_until(lambda: replica.held == 2, "the engine is busy")
    crowd = Crowd(CROWD)
    wait_until(lambda: waiting() >= CROWD, f"{CROWD} wait", timeout_seconds=60)
    held = replica.most
    gate.kill()
    began = time.monotonic()
    wait_until(lambda: replica.held > held, "what waited is let through")
    passed = time.monotonic() - began
    replica.let_go()
    answers = crowd.answers()
    for one in large:
        answers[one.result(ANSWER_SECONDS)] += 1
    return {"answers": answers, "heldBefore": held, "heldAtMost": replica.most, "passedAfterSeconds": passed}


def waiting() -> float:
    """Requests that wait at the gate."""
    return sum(value for name, value in metrics().items() if name.startswith("sluice_gate_waiting_requests"))


class Crowd:
    """Many clients in one thread, each with a connection of its own and one small prompt."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._answers: Counter[int] = Counter()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._thread.start()

    def answers(self) -> Counter[int]:
        """How many got which status; 0 is no answer."""
        self._thread.join(ANSWER_SECONDS)
        return self._answers

    async def _all(self) -> None:
        places = asyncio.Semaphore(100)  # connections in the making: a listener's backlog is short
        await asyncio.gather(*(self._one(places) for _ in range(self._count)))

    async def _one(self, places: asyncio.Semaphore) -> None:
        body = b"word" * 10
        head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nx-model: full\r\ncontent-length: {len(body)}\r\n\r\n"
        status = 0
        try:
            async with places:
                reader, writer = await asyncio.open_connection("127.0.0.1", LISTENER_PORT)
                writer.write(head.encode() + body)
                await writer.drain()
            line = await reader.readline()
            status = int(line.split()[1]) if line else 0
            writer.close()
        except OSError:
            pass
        self._answers[status] += 1
