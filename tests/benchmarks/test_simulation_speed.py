"""Requests simulated per second on one core, iteration level, and memory.

Workload of the data README: mean 1127 tokens in, 165 out, about 4.5 concurrent per
instance. Fidelity: whole iterations, prompts packed into one chunk of 2048 tokens,
decode time growing with batch and with resident tokens, join-shortest-queue placement;
exponential lengths. Every token's iteration counts, but a run of equal iterations is one
event.
"""

from __future__ import annotations

import resource
import sys
import time

import pytest

from sluice.model.fleet import Pool
from sluice.model.law import IterationLaw
from sluice.policy.compiled import IS_COMPILED
from sluice.simulation.catalogue import TODAY
from sluice.simulation.regime import Fidelity, Guidance
from sluice.simulation.run import Record, Replicas, Setup, simulate
from sluice.simulation.workload import ClassLoad, Exponential, generate

LAW = IterationLaw(
    solo_seconds=6.29e-3, mixed_base_seconds=6.29e-3 - 67 * 18e-6, per_token_seconds=18e-6, per_sequence_seconds=5.7e-5
)
"""Llama-3.1-8B on H100, fitted to NVIDIA's operator tables (aiconfigurator-core 0.12.0)."""
POOL = Pool(name="h100", law=LAW, slots=256, chunk_tokens=2048, batched_token_budget=2048)
RATE = 3.85
"""Requests per second and instance that keep about 4.5 in flight."""
BARS = {10: 24_000, 100: 14_000, 1000: 5_000, 10_000: 2_500}
"""Twice the best peer of the data README; none of them was measured at 10,000."""
REQUESTS = {10: 300_000, 100: 300_000, 1000: 500_000, 10_000: 1_000_000}


def _run(replicas: int, requests: int) -> tuple[Record, float]:
    """The run, and its processor seconds: a busy machine stretches the clock's."""
    horizon = requests / (RATE * replicas)
    load = ClassLoad(name="all", rate=RATE * replicas, prompt=Exponential(1127), output=Exponential(165))
    setup = Setup(
        workload=generate((load,), horizon_seconds=horizon, seed=1, whole_tokens=True),
        replicas=(Replicas(pool=POOL, count=replicas, context_seconds=1e-8),),
        fidelity=Fidelity.ITERATION,
        warmup_seconds=0.0,
    )
    started = time.process_time()
    record = simulate(setup, TODAY["chunked"], Guidance.blank(("all",)))
    return record, time.process_time() - started


@pytest.mark.benchmark
@pytest.mark.timeout(600)
def test_requests_simulated_per_second(capsys: pytest.CaptureFixture[str]) -> None:
    assert IS_COMPILED, "the figures are for the compiled engine"
    _run(2, 1000)
    rates: dict[int, float] = {}
    lines: list[str] = []
    for replicas, requests in REQUESTS.items():
        record, spent = _run(replicas, requests)
        done = record.requests["ended"] > 0
        seconds = float((record.requests["ended"] - record.requests["arrival"])[done].sum())
        concurrent = seconds / record.setup.workload.horizon_seconds / replicas
        rates[replicas] = len(record.requests) / spent
        mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        lines.append(
            f"{replicas} replicas: {rates[replicas]:,.0f} requests/s ({concurrent:.1f} concurrent, "
            f"{record.iterations / len(record.requests):.0f} iterations per request; bar {BARS[replicas]:,}; "
            f"peak memory {mebibytes} MiB)"
        )
    lines.append(f"1000 over 10 replicas: {rates[1000] / rates[10]:.2f} (bar 0.5)")
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
