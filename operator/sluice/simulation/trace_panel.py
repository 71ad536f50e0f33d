"""The three public traces on one clock, under the live gate's view, by load.

Azure's code and conversation services and Mooncake's conversations (no prefix cache), one
hour each. Replicas: Llama-3.1-8B on A100 by the fitted law of the shared tables, 64 slots,
chunks of 512 tokens. Prices .1 and .4 per prompt and output token, patience exponential
with mean 20 s, first tokens promised within 1, 2 and 5 s. The gate sees no free slots and
sits 3 ms away from the engines.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sluice.model.fleet import Pool
from sluice.model.law import IterationLaw
from sluice.policy.admission import Budget, LaneTerms
from sluice.policy.kernels import Late
from sluice.policy.orders import EARLIEST_DEADLINE, FIRST_COME, PRIORITY, keeping_promises, with_reserve
from sluice.simulation.catalogue import TODAY, gated
from sluice.simulation.claims import Table
from sluice.simulation.measure import Interval, Prices, interval_of, measure
from sluice.simulation.regime import Fidelity, Guidance, Regime
from sluice.simulation.run import Replicas, Setup, simulate
from sluice.simulation.traces import merge, read_trace
from sluice.simulation.workload import Workload

FILES = (
    "azure2023/AzureLLMInferenceTrace_code.csv",
    "azure2023/AzureLLMInferenceTrace_conv.csv",
    "mooncake/conversation_trace.jsonl",
)
LAW = IterationLaw(
    solo_seconds=11.47e-3,
    mixed_base_seconds=11.47e-3 - 32 * 55.5e-6,
    per_token_seconds=55.5e-6,
    per_sequence_seconds=0.117e-3,
)
POOL = Pool(name="a100", law=LAW, slots=64, chunk_tokens=512, batched_token_budget=576)
PRICES = tuple(Prices(prompt_token=0.1, output_token=0.4, promise_seconds=promise) for promise in (1.0, 2.0, 5.0))
SIZES = (3, 4, 5, 6, 8)
PREFILL_SECONDS_PER_TOKEN = LAW.mixed(POOL.chunk_tokens, 20) / POOL.chunk_tokens
"""At about 20 decodes beside the chunk."""
BUDGET = Budget(least_requests=1, tokens=2.0 * POOL.chunk_tokens)
MARGIN_SECONDS = 0.1


def regimes() -> tuple[Regime, ...]:
    """Today's engines, and the gate with each order."""
    index_last, last = (
        keeping_promises(order, prefill_seconds_per_token=PREFILL_SECONDS_PER_TOKEN, margin_seconds=MARGIN_SECONDS)
        for order in (PRIORITY, EARLIEST_DEADLINE)
    )
    refused = keeping_promises(
        EARLIEST_DEADLINE,
        prefill_seconds_per_token=PREFILL_SECONDS_PER_TOKEN,
        margin_seconds=MARGIN_SECONDS,
        late=Late.REFUSE,
    )
    orders = (FIRST_COME, PRIORITY, index_last, EARLIEST_DEADLINE, last, with_reserve(last), refused)
    today = (TODAY["chunked"], TODAY["prefill-first"], TODAY["decode-first"])
    return (*today, *(gated(order, budget=BUDGET) for order in orders))


def workload_of(folder: Path, seed: int) -> Workload:
    """The traces merged; patience is drawn by the seed."""
    traces = [read_trace(folder / name, cache_blocks=0) for name in FILES]
    return merge(traces, patience_seconds={trace.name: 20.0 for trace in traces}, seed=seed)


def _guidance(load: Workload) -> Guidance:
    prompts, outputs = load.means("prompt"), load.means("output")
    lanes = tuple(
        LaneTerms(
            name=name,
            index=(0.1 * prompts[i] + 0.4 * outputs[i]) / prompts[i],
            promise_seconds=PRICES[i].promise_seconds,
            mean_prompt_tokens=float(prompts[i]),
            value=float(0.1 * prompts[i] + 0.4 * outputs[i]),
        )
        for i, name in enumerate(load.classes)
    )
    return Guidance(lanes=lanes)


def offered_load(load: Workload, replicas: int) -> float:
    """Seconds of prefill asked for per replica and second: the binding row on these traces."""
    return float(load.requests["work"].sum() * PREFILL_SECONDS_PER_TOKEN / load.horizon_seconds / replicas)


def trace_tables(folder: Path, *, sizes: tuple[int, ...] = SIZES, seeds: int = 3) -> tuple[Table, ...]:
    """Value and good value by policy and fleet size, with intervals over the draws of patience."""
    loads = [workload_of(folder, seed) for seed in range(1, seeds + 1)]
    rows = []
    for regime in regimes():
        row: list[str | float] = [regime.name]
        for replicas in sizes:
            raw, good = _values(loads, regime, replicas)
            row.append(f"{raw.mean:.0f} / {good.mean:.0f} ± {good.half_width:.0f}")
        rows.append(tuple(row))
    columns = ("policy", *(f"n={n} (load {offered_load(loads[0], n):.2f})" for n in sizes))
    return (
        Table(
            title="Value / good value per second, three traces on one clock",
            columns=columns,
            rows=tuple(rows),
            note=f"load: prefill seconds asked for per replica-second; 95 % over {seeds} draws of patience",
        ),
    )


def _values(loads: list[Workload], regime: Regime, replicas: int) -> tuple[Interval, Interval]:
    raw, good = [], []
    for seed, load in enumerate(loads, start=1):
        setup = Setup(
            workload=load,
            replicas=(Replicas(pool=POOL, count=replicas),),
            fidelity=Fidelity.ITERATION,
            warmup_seconds=0.0,
            seed=seed,
            round_trip_seconds=0.0 if regime.name in TODAY else 0.003,
        )
        total = measure(simulate(setup, regime, _guidance(load)), PRICES).total
        raw.append(total.value_per_second.mean)
        good.append(total.good_value_per_second.mean)
    return interval_of(np.array(raw)), interval_of(np.array(good))
