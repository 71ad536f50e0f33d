"""What the gate costs, beside the same Envoy without it and beside a processor that only says yes; all in one run."""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
from contextlib import AsyncExitStack
from functools import partial
from operator import itemgetter
from pathlib import Path

import pytest
from tests.benchmarks.gate_load import load
from tests.contract import gate_replay as replay
from tests.contract.gate_world import World, end, first_line, start, until, world
from tests.contract.test_gate import gated, storm

from sluice.simulation.replay import compare, table

pytestmark = pytest.mark.benchmark
ROUNDS = 3
REPLAY_SECONDS = 660.0
"""The first minute is left out."""


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def measure(port: int, pid: int | None) -> tuple[float, float, float]:
    """Median latency at concurrency 1 (ms), requests per second at 16, and per CPU second of the processor."""
    await load(port, "chat", 4, 200)
    _, alone = await load(port, "chat", 1, 400)
    before = cpu_seconds(pid) if pid else 0.0
    rate, _ = await load(port, "chat", 16, 3200)
    spent = cpu_seconds(pid) - before if pid else 0.0
    return statistics.median(alone) * 1e3, rate, 3200 / spent if spent else 0.0


async def test_cost_beside_no_gate_and_beside_a_processor_that_only_says_yes(tmp_path: Path) -> None:
    log = tmp_path / "backend.log"
    async with AsyncExitStack() as stack:
        backend = start([sys.executable, "-m", "tests.benchmarks.gate_load", "backend"], log)
        stack.callback(end, backend)
        ports = [first_line(backend, log)["port"]]
        bare = await stack.enter_async_context(world(tmp_path / "bare", {"chat": {}}, gate=False, ports=ports))
        classes: dict[str, dict[str, object]] = {"chat": {}, "code": {}, "batch": {}}
        gated = await stack.enter_async_context(world(tmp_path / "gated", classes, ports=ports))
        assert gated.gate is not None
        cases = {"bare": (bare, None), "gate": (gated, gated.gate.pid)}
        for kind in ("noop", "lean"):
            other = await stack.enter_async_context(world(tmp_path / kind, {"chat": {}}, ports=ports))
            other.stop_gate()
            log = tmp_path / f"{kind}.log"
            processor = start([sys.executable, "-m", "tests.benchmarks.gate_load", kind, str(other.gate_port)], log)
            stack.callback(end, processor)
            first_line(processor, log)
            cases[kind] = (other, processor.pid)
        await asyncio.sleep(2.0)  # Envoy comes back to a cluster that was away
        seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, (one, pid) in cases.items():
                seen[name].append(await measure(one.listener, pid))
    best = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in seen.items()}
    for name, (latency, rate, per_core) in best.items():
        say(f"{name:6} {latency:6.2f} ms at 1   {rate:7.0f} requests/s at 16   {per_core:7.0f} per CPU second")
    for kind in ("noop", "lean"):
        added = (best["gate"][0] - best["bare"][0]) / (best[kind][0] - best["bare"][0])
        say(
            f"gate / {kind}: added latency {added:.2f}, rate {best['gate'][1] / best[kind][1]:.2f}, "
            f"per CPU second {best['gate'][2] / best[kind][2]:.2f}"
        )
    say(spent(1e6 / best["gate"][2], 1e6 / best["noop"][2]))


def spent(gate: float, noop: float) -> str:
    """Where a request's CPU goes, microseconds: the gate's own parts alone, and what is left of the whole."""
    command = [sys.executable, "-m", "tests.benchmarks.gate_profile"]
    parts: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rows = [*sorted(parts.items(), key=itemgetter(1), reverse=True), ("gRPC and all else", gate - sum(parts.values()))]
    lines = [f"  {name:20} {value:6.1f}  {value / gate:5.1%}" for name, value in rows]
    return f"{gate:.0f} microseconds of CPU for a request, no-op {noop:.0f}:\n" + "\n".join(lines)


async def test_memory_of_ten_thousand_waiting_requests(tmp_path: Path) -> None:
    from tests.contract.gate_engine import Engine  # noqa: PLC0415 - the only one that needs it

    engine = Engine()
    async with engine.serving():
        classes: dict[str, dict[str, object]] = {"chat": {}, "code": {}}
        options = ["--max-waiting", "20000"]
        # Two huge prompts hold the engine for minutes by the law; those that wait behind them are tiny.
        slow = {"per_token_seconds": 1e-3}
        async with world(tmp_path / "world", classes, ports=[engine.port], options=options, settings=slow) as one:
            large = [asyncio.create_task(one.ask("chat", 100_000)) for _ in range(2)]
            await until("the engine is busy", lambda: engine.most == 2)
            assert one.gate is not None
            before = resident_bytes(one.gate.pid)
            tasks = []
            for count in range(500, 10_001, 500):  # a listener's backlog is no place for ten thousand
                tasks += [asyncio.create_task(hold(one)) for _ in range(500)]
                await asyncio.sleep(0.5)
                await until(f"{count} wait", partial(waiting, one, count), 30.0)
            after = resident_bytes(one.gate.pid)
            say(f"resident: {before / 2**20:.0f} MiB idle, {after / 2**20:.0f} MiB with 10,000 waiting")
            for task in (*tasks, *large):
                task.cancel()
            await asyncio.gather(*tasks, *large, return_exceptions=True)


@pytest.mark.parametrize("tokens", [100, 500, 2000])
async def test_prefill_throughput_beside_no_gate(tmp_path: Path, tokens: int) -> None:
    """Replicas that pack prompts as engines do; the gate first learns how many tokens a body has."""
    slow = {"solo_seconds": 0.05, "mixed_base_seconds": 0.05, "per_token_seconds": 5e-5, "write_interval_seconds": 0.01}
    rates = {}
    for name in ("bare", "gate"):
        classes: dict[str, dict[str, object]] = {"chat": {}}
        async with world(tmp_path / name, classes, gate=name == "gate", settings=slow) as one:
            await prefill(one, tokens, 40_000)  # two calibrations
            rates[name] = await prefill(one, tokens, 120_000)
    say(
        f"prompts of {tokens}: {rates['bare']:.0f} tokens/s bare, {rates['gate']:.0f} gated, "
        f"{rates['gate'] / rates['bare']:.3f}"
    )


async def prefill(one: World, tokens: int, total: int) -> float:
    """Prompt tokens per second with a queue that never empties."""
    places = asyncio.Semaphore(128)

    async def client() -> None:
        async with places:
            assert (await one.ask("chat", tokens, output=1)).status == 200

    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(client() for _ in range(total // tokens)))
    return total / (asyncio.get_running_loop().time() - began)


async def hold(one: World) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", one.listener)
    try:
        body = b"{}"
        head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nx-class: chat\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await asyncio.Event().wait()
    finally:
        writer.close()


async def waiting(one: World, count: int) -> bool:
    return await one.value('sluice_gate_waiting_requests{class="chat"}') >= count - 10


async def test_ten_thousand_requests_through_envoy(tmp_path: Path) -> None:
    """The contract test's storm of disconnects, resets, errors and long prompts, for long."""
    async with gated(tmp_path, engines=2, speed=2e-6) as (one, engines):
        await storm(one, engines, 10_000)
        metrics = await one.gate_metrics()
        freed = {name: value for name, value in metrics.items() if name.startswith("sluice_gate_freed_total")}
        say(
            f"10,000 requests: at most {max(engine.worst for engine in engines):.0f} unfinished tokens beside one "
            f"request, budget 1024; {freed}"
        )


async def test_agreement_with_the_simulator_over_ten_minutes(tmp_path: Path) -> None:
    """The same arrivals and lengths through Envoy, gate and replicas, and through the simulator."""
    async with world(
        tmp_path / "world",
        replay.CLASSES,
        replicas=replay.REPLICAS,
        settings=replay.ENGINE,
        options=replay.GATE_OPTIONS,
    ) as one:
        recording = await replay.record(one, replay.offered(1.0, REPLAY_SECONDS, seed=1))
        replayed = replay.simulated(one, recording)
    rows = compare(recording.passages, replayed, replay.NAMES, start=60.0, end=REPLAY_SECONDS)
    counts = replay.refused(recording.passages), replay.refused(replayed)
    say(
        f"{len(recording.passages)} requests in {REPLAY_SECONDS:.0f} s; refused {counts[0]} and simulated {counts[1]}; "
        f"gate to engine and back {recording.round_trip_seconds * 1e3:.1f} ms, client to gate and back "
        f"{recording.outside_seconds * 1e3:.1f} ms; load generator late by {recording.lag_seconds * 1e3:.1f} ms "
        f"(99th percentile); load average {os.getloadavg()[1]:.1f}\n{table(rows)}"
    )


def test_a_million_random_events() -> None:
    """The property test's driver, once, for long: budgets, leaks and the invariant after every event."""
    seed = random.randint(0, 10**6)
    command = [sys.executable, "-m", "tests.benchmarks.gate_events", "1000000", str(seed)]
    done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    say(
        f"1,000,000 events, {done['requests']} requests, seed {seed}: exact; {done['cpuSeconds']:.0f} CPU seconds, "
        "the checks included"
    )
