"""What prefix caches are worth by placement, on Mooncake's conversations: value, good value and hit rate by load.

Set-up of ``trace_panel`` but for the fleet: eight replicas with KV memory for 400,000 tokens
each, which batch and cache share. The hour is squeezed to the load, which is prefill seconds
asked for per replica-second before anything is found in a cache. The live gate does not see
caches: it counts prompts in full and places by unfinished tokens. The last gate is no live
one: its placement knows every cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from sluice.model.fleet import WorkloadClass
from sluice.policy.orders import FIRST_COME, timely
from sluice.simulation.catalogue import TODAY, live_gate
from sluice.simulation.claims import Table
from sluice.simulation.gate_cells import POOL, Cell, World, promised_class, world_with
from sluice.simulation.layout import Placement, Sight
from sluice.simulation.measure import interval_of, measure
from sluice.simulation.prefix_blocks import hit_rate
from sluice.simulation.regime import Regime
from sluice.simulation.run import simulate
from sluice.simulation.traces import merge, read_trace
from sluice.simulation.workload import Workload

FILE = "mooncake/conversation_trace.jsonl"
LOADS = (0.7, 0.95, 1.2, 1.5)
REPLICAS = 8
KV_TOKENS = 400_000
"""Our choice: about what 80 GB leave beside an 8B model's weights at 128 KiB a token."""
REMEMBERING = replace(POOL, kv_token_capacity=KV_TOKENS)
PROMISE_SECONDS = 5.0
PATIENCE_SECONDS = 20.0
FORGETFUL = "gate, timely, no caches"

Found = tuple[float, float, float]
"""Value and good value per second, and the share of prompt tokens found in caches."""


def workload_of(folder: Path, load: float, seed: int) -> Workload:
    """The trace on a clock that gives the load; patience is drawn by the seed."""
    trace = read_trace(folder / FILE)
    whole = merge([trace], patience_seconds={trace.name: PATIENCE_SECONDS}, seed=seed)
    seconds = POOL.law.mixed(POOL.chunk_tokens, 20) / POOL.chunk_tokens  # as in ``trace_panel.offered_load``
    asked = float(whole.requests["prompt"].sum()) * seconds / whole.horizon_seconds / REPLICAS
    return whole.stretched(asked / load)


def world(load: Workload, seed: int) -> World:
    """The trace before the fleet; the plan is told what scattered prompts would find in caches."""
    name = load.classes[0]
    told = load.foreseen([KV_TOKENS / 2] * REPLICAS)
    rate, prompt, output = (float(values[0]) for values in (load.rates(), load.means("prompt"), load.means("output")))
    classes: tuple[WorkloadClass, ...] = (promised_class(name, rate, prompt, output, PROMISE_SECONDS, 1.0),)
    cell = Cell(traffic="mooncake", load=1.0, replicas=REPLICAS, pool=REMEMBERING)
    planned = world_with(cell, classes, told, seed, warmup_share=0.0)
    return replace(planned, setup=replace(planned.setup, workload=load))


def regimes(here: World) -> Mapping[str, tuple[Regime, bool]]:
    """Policies by name, and whether they stand at a proxy and cost its round trip."""
    pools = (REMEMBERING,)
    gate = live_gate(timely(here.prefill_seconds_per_token), pools, sees_slots=Sight.ENDS)
    return {
        "chunked, shortest queue": (TODAY["chunked"], False),
        "chunked, least tokens": (TODAY["chunked-least-tokens"], False),
        "chunked, prefix-aware": (TODAY["chunked-prefix-aware"], False),
        FORGETFUL: (gate, True),
        "gate, first come": (live_gate(FIRST_COME, pools, sees_slots=Sight.ENDS), True),
        "gate, timely": (gate, True),
        "gate, timely, prefix-aware": (replace(gate, placement=Placement.PREFIX_AWARE), True),
    }


def prefix_tables(folder: Path, *, loads: tuple[float, ...] = LOADS, seeds: int = 3) -> tuple[Table, ...]:
    """By policy and load, with intervals over the draws of patience."""
    cells = [_cells([workload_of(folder, load, seed) for seed in range(1, seeds + 1)]) for load in loads]
    return (
        Table(
            title="Value / good value per second / hit rate, Mooncake's conversations with a prefix cache per replica",
            columns=("policy", *(f"load {load:g}" for load in loads)),
            rows=tuple((name, *(cell[name] for cell in cells)) for name in cells[0]),
            note=f"load: prefill seconds per replica-second without caches; 95 % over {seeds} draws of patience",
        ),
    )


def _cells(loads: list[Workload]) -> dict[str, str]:
    """What each policy earned and found at one load."""
    found: dict[str, list[Found]] = {}
    for seed, load in enumerate(loads, start=1):
        here = world(load, seed)
        for name, (regime, gated) in regimes(here).items():
            setup = here.setup if gated else here.direct
            if name == FORGETFUL:
                setup = replace(setup, workload=replace(load, blocks=None))
            record = simulate(setup, regime, here.guidance)
            total = measure(record, here.prices).total
            earned = (total.value_per_second.mean, total.good_value_per_second.mean)
            found.setdefault(name, []).append((*earned, hit_rate(record.requests)))
    return {name: _shown(np.array(rows)) for name, rows in found.items()}


def _shown(rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    raw, good = interval_of(rows[:, 0]), interval_of(rows[:, 1])
    return f"{raw.mean:.0f} / {good.mean:.0f} ± {good.half_width:.0f} / {rows[:, 2].mean():.1%}"
