"""The cost of one whole pass: gather, estimate, decide, act, verify, report.

Everything is the operator's own code on one fleet: resolving the resources, the demand, the
program with duals, limits and weights, Envoy's files and the status documents on disk. Only
the measuring is replaced by ready samples (its cost is Prometheus's). Printed per size: the
first pass, a pass where nothing changed, and a pass where every rate moved by a fifth; and how
long the event loop, which answers the probes, was held up at the longest.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sluice.actuate.envoy_files import EnvoyFiles
from sluice.control.directory import DirectoryWorld
from sluice.control.files import StatusFiles
from sluice.control.garbage import settle_down
from sluice.control.metrics import Metrics
from sluice.control.observing import Haste, Observations
from sluice.control.passes import Passes
from sluice.control.ports import SystemClock
from sluice.control.standalone import LogRecorder
from sluice.control.telling import Telling
from sluice.control.workers import Crews
from sluice.model.fleet import Fleet, WorkloadClass
from sluice.model.signal import Sample, Signal, Source
from sluice.model.snapshot import ClassSamples, Observation
from sluice.observe.proxies import Proxies

pytestmark = pytest.mark.benchmark
ROUNDS = 5
REPLICAS = 24
TICK_SECONDS = 0.001
KEY = ("default", "bench")


def manifests(classes: int, pools: int) -> str:
    """One fleet of 24 replicas a pool, as a user would declare it."""
    documents = [
        """
apiVersion: sluice.dev/v1alpha1
kind: IterationProfile
metadata: {name: a100, namespace: default}
spec:
  model: 8B
  accelerator: A100
  soloNanoseconds: 22000000
  mixedBaseNanoseconds: 17400000
  perTokenNanoseconds: 62000
"""
    ]
    pool_entries = "".join(
        f"""
    - name: pool-{pool}
      profileRef: {{name: a100}}
      slots: 16
      chunkTokens: 256
      endpoints: [{endpoints(pool)}]"""
        for pool in range(pools)
    )
    documents.append(
        f"""
apiVersion: sluice.dev/v1alpha1
kind: InferenceFleet
metadata: {{name: bench, namespace: default}}
spec:
  mode: Enforce
  dataPlane: {{kind: EnvoyFiles, limit: InFlight, listenerPort: 10000, adminAddress: "127.0.0.1:9901"}}
  metrics: {{prometheusUrl: "http://127.0.0.1:9090"}}
  pools:{pool_entries}
"""
    )
    documents += [
        f"""
apiVersion: sluice.dev/v1alpha1
kind: WorkloadClass
metadata: {{name: class-{index}, namespace: default}}
spec:
  fleetRef: {{name: bench}}
  match: {{headers: [{{name: x-model, value: class-{index}}}]}}
  patienceMilliseconds: 10000
  priors:
    promptTokens: {300 + 37 * (index % 70)}
    outputTokens: {100 + 13 * (index % 50)}
    milliRequestsPerSecond: 1000
  prices:
    promptPerMillionTokens: "{0.1 + 0.01 * (index % 17):.2f}"
    outputPerMillionTokens: "{0.4 + 0.02 * (index % 13):.2f}"
"""
        for index in range(classes)
    ]
    return "---".join(documents)


def endpoints(pool: int) -> str:
    """Addresses of one pool, as a YAML flow list's inside."""
    return ", ".join(f"{{address: 127.0.{pool}.{1 + replica}, port: 8000}}" for replica in range(REPLICAS))


class ReadySamples:
    """Offered rates at once; ``factor`` moves them all."""

    factor = 1.0

    def __init__(self, rate: float) -> None:
        self._rate = rate

    async def observe(
        self, fleet: Fleet, classes: Sequence[WorkloadClass], now: float, around: Proxies | None = None
    ) -> Observation:
        del fleet, around
        value = self._rate * self.factor
        offered = Sample(value=value, at_seconds=now, source=Source.ENVOY)
        return Observation(
            classes={entry.name: ClassSamples(samples={Signal.OFFERED_RATE: offered}) for entry in classes}
        )

    async def close(self) -> None:
        return None


@contextmanager
def assembled(classes: int, pools: int, out: Path) -> Iterator[tuple[Passes, ReadySamples]]:
    """The passes of one fleet, wired as standalone wires them."""
    folder = out / "manifests"
    folder.mkdir(parents=True)
    (folder / "bench.yaml").write_text(manifests(classes, pools))
    statuses, files = StatusFiles(out), EnvoyFiles(out)
    world = DirectoryWorld(folder, statuses)
    world.load()
    assert len(world.view().classes) == classes
    samples, clock, metrics, crews = ReadySamples(REPLICAS * pools / classes), SystemClock(), Metrics("bench"), Crews()
    passes = Passes(
        world=world,
        observations=Observations(lambda fleet, credentials: samples, world, clock),
        actuator_of=lambda fleet: files,
        telling=Telling(sink=statuses, recorder=LogRecorder(), metrics=metrics),
        clock=clock,
        metrics=metrics,
        crews=crews,
    )
    try:
        yield passes, samples
    finally:
        crews.close()
        statuses.close()


class Stall:
    """The longest time that the event loop took to come back to a task that only yields."""

    longest_seconds = 0.0

    async def __aenter__(self) -> Stall:
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK_SECONDS)
            self.longest_seconds = max(self.longest_seconds, time.perf_counter() - before - TICK_SECONDS)


@dataclass(frozen=True)
class Cost:
    """Of one pass: by the clock, and of the processor (all threads)."""

    seconds: float
    processor_seconds: float

    def __str__(self) -> str:
        return f"{1e3 * self.seconds:.0f} ms ({1e3 * self.processor_seconds:.0f} of the processor)"


async def cost_of(passes: Passes) -> Cost:
    started, used = time.perf_counter(), time.process_time()
    await passes.run(KEY, Haste(prompt=False, change=asyncio.Event()))
    return Cost(time.perf_counter() - started, time.process_time() - used)


def median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.seconds for cost in costs), statistics.median(cost.processor_seconds for cost in costs)
    )


@pytest.mark.parametrize(("classes", "pools"), [(10, 1), (10, 3), (100, 1), (100, 3), (1000, 1), (1000, 3)])
async def test_whole_pass(classes: int, pools: int, tmp_path: Path) -> None:
    with assembled(classes, pools, tmp_path) as (passes, samples):
        async with Stall() as stall:
            first = await cost_of(passes)
        settle_down()
        async with Stall() as later:
            still = [await cost_of(passes) for _ in range(ROUNDS)]
            moved = []
            for turn in range(ROUNDS):
                samples.factor = 1.2 if turn % 2 == 0 else 1.0
                moved.append(await cost_of(passes))
    print(  # noqa: T201 - printing is what a benchmark is for
        f"\nwhole pass, {classes} classes x {pools} pools: first {first}, "
        f"unchanged {median(still)}, moved {median(moved)}, "
        f"longest stall of the event loop {1e3 * stall.longest_seconds:.0f} ms at first, "
        f"{1e3 * later.longest_seconds:.0f} ms later"
    )
