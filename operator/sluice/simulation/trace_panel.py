"""The three public traces on one clock, under the live gate's view, by load.

Azure's code and conversation services and Mooncake's conversations (no prefix cache), one
hour each. Replicas: Llama-3.1-8B on A100 by the fitted law of the shared tables, 64 slots,
chunks of 512 tokens. Prices .1 and .4 per prompt and output token, patience exponential
with mean 20 s, first tokens promised within 1, 2 and 5 s. Every gate has the live gate's
budget and view (free slots by ends of answers), the same margin, and the plan for the
hour's own rates and means; it sits 3 ms away from the engines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sluice.model.fleet import WorkloadClass
from sluice.policy.kernels import Late
from sluice.policy.orders import BANDS, EARLIEST_DEADLINE, FIRST_COME, PRIORITY, promising, timely, with_reserve
from sluice.simulation.catalogue import TODAY
from sluice.simulation.claims import Table
from sluice.simulation.comparison import Scenario, compare
from sluice.simulation.gate_cells import POOL, Cell, World, fleet_of, promised_class, supplies_of, world_with
from sluice.simulation.gate_panel import Gate
from sluice.simulation.measure import Measure, interval_of, measure
from sluice.simulation.run import simulate
from sluice.simulation.traces import merge, read_trace
from sluice.simulation.workload import Workload

FILES = (
    "azure2023/AzureLLMInferenceTrace_code.csv",
    "azure2023/AzureLLMInferenceTrace_conv.csv",
    "mooncake/conversation_trace.jsonl",
)
PROMISES = (1.0, 2.0, 5.0)
"""Seconds, by file."""
COLUMNS = ((2, 1.2), (2, 1.0), (3, 1.0), (4, 1.0), (5, 1.0), (6, 1.0), (8, 1.0))
"""(replicas, how many times faster the clock goes): loads of 2.5 to .5."""
ENGINES = ("chunked", "chunked-least-tokens", "prefill-first", "decode-first", "disaggregated")
LIMITS = {"limits: the operator": "sluice-both"}
"""What Sluice does without a gate, with estimates and periodic plans: rates and requests in flight at a proxy."""
GATES: Mapping[str, Gate] = {
    "gate, first come": lambda _: FIRST_COME,
    "gate, index, late last": lambda seconds: promising(PRIORITY, seconds),
    "gate, bands, late last": lambda seconds: promising(BANDS, seconds),
    "gate, EDF, late last": lambda seconds: promising(EARLIEST_DEADLINE, seconds),
    "gate, timely": timely,
    "holds back: EDF with a reserve": lambda seconds: with_reserve(promising(EARLIEST_DEADLINE, seconds)),
    "refuses: EDF, late refused": lambda seconds: promising(EARLIEST_DEADLINE, seconds, Late.REFUSE),
}
"""The last two break the gate's promise to do no harm: something waits, or is refused, beside an idle engine."""


def workload_of(folder: Path, seed: int, clock: float = 1.0) -> Workload:
    """The traces merged, so many times faster; patience is drawn by the seed."""
    traces = [read_trace(folder / name, prefixes=False) for name in FILES]
    traces = [replace(trace, arrival=trace.arrival / clock) for trace in traces]
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


def trace_tables(folder: Path, *, columns: Sequence[tuple[int, float]] = COLUMNS, seeds: int = 3) -> tuple[Table, ...]:
    """Value and good value by policy and fleet size, with intervals over the draws of patience."""
    names, cells = ["policy"], []
    for replicas, clock in columns:
        loads = [workload_of(folder, seed, clock) for seed in range(1, seeds + 1)]
        faster = "" if clock == 1.0 else f", clock x{clock:g}"
        names.append(f"n={replicas} (load {offered_load(loads[0], replicas):.2f}{faster})")
        cells.append(_cells(loads, replicas))
    return (
        Table(
            title="Value / good value per second, three traces on one clock",
            columns=tuple(names),
            rows=tuple((name, *(cell[name] for cell in cells)) for name in cells[0]),
            note=f"load: prefill seconds asked for per replica-second; 95 % over {seeds} draws of patience",
        ),
    )


def _cells(loads: Sequence[Workload], replicas: int) -> dict[str, str]:
    """What each policy earned with so many replicas."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seed, load in enumerate(loads, start=1):
        here = world(load, replicas, seed)
        for name in ENGINES:
            earned = measure(simulate(here.direct, TODAY[name], here.guidance), here.prices)
            found.setdefault(name, []).append(_earned(earned))
        for name, earned in _limited(here).items():
            found.setdefault(name, []).append(_earned(earned))
        for name, gate in GATES.items():
            earned = measure(here.run(gate(here.prefill_seconds_per_token)), here.prices)
            found.setdefault(name, []).append(_earned(earned))
    return {name: _shown(np.array(pairs)) for name, pairs in found.items()}


def _limited(here: World) -> dict[str, Measure]:
    """The operator with limits alone, from its first second with the traces' own rates as priors."""
    scenario = Scenario(
        fleet=fleet_of(POOL),
        classes=here.classes,
        supplies=supplies_of(POOL, here.cell.replicas),
        workload=here.setup.workload,
        seed=here.setup.seed,
        warmup_share=0.0,
    )
    found = {entry.measure.regime: entry.measure for entry in compare(scenario, tuple(LIMITS.values())).entries}
    return {label: found[name] for label, name in LIMITS.items()}


def _earned(found: Measure) -> tuple[float, float]:
    return found.total.value_per_second.mean, found.total.good_value_per_second.mean


def _shown(pairs: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    raw, good = interval_of(pairs[:, 0]), interval_of(pairs[:, 1])
    return f"{raw.mean:.0f} / {good.mean:.0f} ± {good.half_width:.0f}"
