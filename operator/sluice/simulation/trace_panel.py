"""The three public traces on one clock, under the live gate's view, by load.

Azure's code and conversation services and Mooncake's conversations (no prefix cache), one
hour each. Replicas: Llama-3.1-8B on A100 by the fitted law of the shared tables, 64 slots,
chunks of 512 tokens. Prices .1 and .4 per prompt and output token, patience exponential
with mean 20 s, first tokens promised within 1, 2 and 5 s. Every gate has the live gate's
budget and view (free slots by ends of answers), the same margin, and the plan for the
hour's own rates and means; it sits 3 ms away from the engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sluice.model.fleet import WorkloadClass
from sluice.policy.kernels import Late
from sluice.policy.orders import EARLIEST_DEADLINE, FIRST_COME, PRIORITY, promising, timely, with_reserve
from sluice.simulation.catalogue import TODAY
from sluice.simulation.claims import Table
from sluice.simulation.gate_cells import POOL, Cell, World, promised_class, world_with
from sluice.simulation.gate_panel import Gate
from sluice.simulation.measure import interval_of, measure
from sluice.simulation.run import Record, simulate
from sluice.simulation.traces import merge, read_trace
from sluice.simulation.workload import Workload

FILES = (
    "azure2023/AzureLLMInferenceTrace_code.csv",
    "azure2023/AzureLLMInferenceTrace_conv.csv",
    "mooncake/conversation_trace.jsonl",
)
PROMISES = (1.0, 2.0, 5.0)
"""Seconds, by file."""
SIZES = (3, 4, 5, 6, 8)
ENGINES = ("chunked", "prefill-first", "decode-first")
GATES: Mapping[str, Gate] = {
    "gate, first come": lambda _: FIRST_COME,
    "gate, index, late last": lambda seconds: promising(PRIORITY, seconds),
    "gate, EDF, late last": lambda seconds: promising(EARLIEST_DEADLINE, seconds),
    "gate, timely": timely,
    "holds back: EDF with a reserve": lambda seconds: with_reserve(promising(EARLIEST_DEADLINE, seconds)),
    "refuses: EDF, late refused": lambda seconds: promising(EARLIEST_DEADLINE, seconds, Late.REFUSE),
}
"""The last two break the gate's promise to do no harm: something waits, or is refused, beside an idle engine."""


def workload_of(folder: Path, seed: int) -> Workload:
    """The traces merged; patience is drawn by the seed."""
    traces = [read_trace(folder / name, cache_blocks=0) for name in FILES]
    return merge(traces, patience_seconds={trace.name: 20.0 for trace in traces}, seed=seed)


def world(load: Workload, replicas: int, seed: int) -> World:
    """The traces before a fleet of so many replicas."""
    prompts, outputs = load.means("prompt"), load.means("output")
    classes: tuple[WorkloadClass, ...] = tuple(
        promised_class(name, float(load.rates()[i]), float(prompts[i]), float(outputs[i]), PROMISES[i], 1.0)
        for i, name in enumerate(load.classes)
    )
    return world_with(Cell(traffic="traces", load=1.0, replicas=replicas), classes, load, seed, warmup_share=0.0)


def offered_load(load: Workload, replicas: int) -> float:
    """Seconds of prefill asked for per replica and second: the binding row on these traces."""
    seconds = POOL.law.mixed(POOL.chunk_tokens, 20) / POOL.chunk_tokens  # at about 20 decodes beside the chunk
    return float(load.requests["work"].sum() * seconds / load.horizon_seconds / replicas)


def trace_tables(folder: Path, *, sizes: tuple[int, ...] = SIZES, seeds: int = 3) -> tuple[Table, ...]:
    """Value and good value by policy and fleet size, with intervals over the draws of patience."""
    loads = [workload_of(folder, seed) for seed in range(1, seeds + 1)]
    columns = ("policy", *(f"n={n} (load {offered_load(loads[0], n):.2f})" for n in sizes))
    cells = [_cells(loads, replicas) for replicas in sizes]
    return (
        Table(
            title="Value / good value per second, three traces on one clock",
            columns=columns,
            rows=tuple((name, *(cell[name] for cell in cells)) for name in cells[0]),
            note=f"load: prefill seconds asked for per replica-second; 95 % over {seeds} draws of patience",
        ),
    )


def _cells(loads: list[Workload], replicas: int) -> dict[str, str]:
    """What each policy earned with so many replicas."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seed, load in enumerate(loads, start=1):
        here = world(load, replicas, seed)
        for name in ENGINES:
            found.setdefault(name, []).append(_earned(here, simulate(here.direct, TODAY[name], here.guidance)))
        for name, gate in GATES.items():
            found.setdefault(name, []).append(_earned(here, here.run(gate(here.prefill_seconds_per_token))))
    return {name: _shown(np.array(pairs)) for name, pairs in found.items()}


def _earned(here: World, record: Record) -> tuple[float, float]:
    total = measure(record, here.prices).total
    return total.value_per_second.mean, total.good_value_per_second.mean


def _shown(pairs: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    raw, good = interval_of(pairs[:, 0]), interval_of(pairs[:, 1])
    return f"{raw.mean:.0f} / {good.mean:.0f} ± {good.half_width:.0f}"
