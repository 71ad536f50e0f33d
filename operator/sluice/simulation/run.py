"""Assemble a simulation, run it, and hand back what happened."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sluice.model.fleet import Pool
from sluice.policy.admission import lanes_of
from sluice.policy.costs import KV_SHARE
from sluice.policy.kernels import Order
from sluice.simulation.agenda import empty_sets, leaves_for, seeds_of
from sluice.simulation.engine import NEEDS_ROOM, refresh_all, run_until, settle_all
from sluice.simulation.layout import (
    BUFFER,
    CACHED,
    CLASS,
    CORE,
    NONE,
    POOL,
    REPLICA,
    SLOT,
    TIMER,
    Decode,
    Role,
    Sight,
    Sim,
    State,
)
from sluice.simulation.prefix_blocks import Blocks
from sluice.simulation.regime import Fidelity, Guidance, Regime
from sluice.simulation.tables import IterationTable, flatten
from sluice.simulation.workload import Workload

FIRST_TIMERS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """One pool to simulate."""

    pool: Pool
    count: int
    context_seconds: float = 0.0
    """Growth of an iteration per resident token, seconds."""
    transfer_seconds: float = 0.0
    transfer_seconds_per_token: float = 0.0
    """Per prompt token; 0: as the pool declares."""
    table: IterationTable | None = None
    """Measured iteration times; they replace the law."""
    kept_prefix_tokens: float = math.inf
    """Tokens that the prefix cache keeps beside the batch at most; it never keeps more than the memory left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything but the policy."""

    workload: Workload
    replicas: tuple[Replicas, ...]
    fidelity: Fidelity
    warmup_seconds: float
    seed: int = 1
    round_trip_seconds: float = 0.0
    packing: bool = True

    @property
    def count(self) -> int:
        """Replicas of all pools."""
        return sum(entry.count for entry in self.replicas)

    @property
    def blocks(self) -> Blocks | None:
        """What prefix caches may find; the network has none."""
        return self.workload.blocks if self.fidelity is Fidelity.ITERATION else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one run left behind."""

    regime: str
    setup: Setup
    requests: Any
    """Record array of ``REQUEST`` with times and states filled in."""
    busy_seconds: float
    events: int
    iterations: float
    preemptions: int
    wall_seconds: float


Tick = Callable[[Sim, float], None]
"""Called at every tick with the simulation and the time; may change lanes, limits and roles."""
Start = Callable[[Sim], None]
"""Called once, before the first arrival."""


def simulate(
    setup: Setup,
    regime: Regime,
    guidance: Guidance,
    *,
    tick_seconds: float = math.inf,
    on_tick: Tick | None = None,
    on_start: Start | None = None,
    on_end: Tick | None = None,
) -> Record:
    """Run one policy over one workload to its horizon; ``on_end`` is called there."""
    sim = assemble(setup, regime, guidance)
    if on_start is not None:
        on_start(sim)
    horizon = setup.workload.horizon_seconds
    started = clock.perf_counter()
    at = 0.0
    while at < horizon:
        at = min(horizon, at + tick_seconds)
        while run_until(sim, at) == NEEDS_ROOM:
            sim = _with_more_timers(sim)
        if on_tick is not None and at < horizon:
            on_tick(sim, at)
    settle_all(sim, horizon)
    if on_end is not None:
        on_end(sim, horizon)
    wall = clock.perf_counter() - started
    run = sim.core[0]
    return Record(
        regime=regime.name,
        setup=setup,
        requests=sim.requests,
        busy_seconds=float(sim.replicas["busy"].sum()),
        events=int(run.events),
        iterations=float(run.iterations),
        preemptions=int(run.preemptions),
        wall_seconds=wall,
    )


def _with_more_timers(sim: Sim) -> Sim:
    return sim._replace(timers=np.concatenate([sim.timers, np.zeros_like(sim.timers)]).view(np.recarray))


def assemble(setup: Setup, regime: Regime, guidance: Guidance) -> Sim:
    """The initial state: an empty fleet before the first arrival."""
    count, classes = setup.count, len(setup.workload.classes)
    table, starts = flatten([entry.table for entry in setup.replicas])
    buffers = _records((2, classes), BUFFER)
    buffers["head"] = buffers["tail"] = NONE
    sim = Sim(
        core=_core(setup, regime),
        rule=regime.admission.rule(),
        lanes=_lanes(setup, regime, guidance),
        classes=_classes(regime, guidance, classes),
        pools=_pools(setup, starts),
        replicas=_replicas(setup, regime, guidance),
        requests=_admissible(setup),
        slots=_records((count, max(entry.pool.slots for entry in setup.replicas) + 1), SLOT),
        buffers=buffers,
        trees=np.full((2, 2 * leaves_for(count)), np.inf),
        sets=empty_sets(3, count),
        timers=_records((max(FIRST_TIMERS, 4 * count),), TIMER),
        weights=np.tile([entry.count / entry.pool.solo_seconds for entry in setup.replicas], (classes, 1)),
        table=table,
        cache=_cache(setup, regime),
        blocks=np.empty(0, dtype=np.int32) if setup.blocks is None else setup.blocks.flat(),
    )
    sim.rule["engines"] = float(count)
    refresh_all(sim)
    return sim


def _records(shape: tuple[int, ...], dtype: Any) -> Any:
    return np.zeros(shape, dtype=dtype).view(np.recarray)


def _cache(setup: Setup, regime: Regime) -> Any:
    """Empty prefix caches: an entry for every block that could ever be cached at one time, all unused."""
    size = 1
    if setup.blocks is not None:
        named = len(setup.blocks.ids) * (1 if regime.decode is Decode.IN_PLACE else 2)  # again after a preemption
        tokens = [entry.count * (entry.pool.kv_token_capacity or math.inf) for entry in setup.replicas]
        size = int(max(1, min(named, sum(tokens) / setup.blocks.tokens, setup.count * setup.blocks.distinct)))
    cache = _records((size,), CACHED)
    cache["bucket"], cache["following"] = NONE, np.arange(1, size + 1)
    return cache


def _admissible(setup: Setup) -> Any:
    """The requests; those that no replica's memory could ever hold are refused on arrival."""
    requests = setup.workload.fresh()
    memory = min((entry.pool.kv_token_capacity or math.inf) for entry in setup.replicas)
    requests["state"][requests["prompt"] + requests["output"] > memory] = int(State.REFUSED)
    requests["todo"] = requests["output"] - (0.0 if setup.fidelity is Fidelity.NETWORK else 1.0)
    return requests


def _lanes(setup: Setup, regime: Regime, guidance: Guidance) -> Any:
    names = tuple(terms.name for terms in guidance.lanes)
    if names != setup.workload.classes:
        raise ValueError(f"guidance is for classes {names}, the workload has {setup.workload.classes}")
    lanes = lanes_of(guidance.lanes)
    if regime.admission.order in {Order.BANDS, Order.TIMELY}:
        lanes["credit"] = 1.0
    return lanes


def _classes(regime: Regime, guidance: Guidance, count: int) -> Any:
    classes = _records((count,), CLASS)
    for field in ("live_head", "live_tail", "late_head", "late_tail"):
        classes[field] = NONE
    for field in ("split", "pull_solo", "pull_mixed"):
        classes[field] = getattr(guidance, field) or 1.0
    classes["limit_rate"] = classes["limit_inside"] = math.inf
    for entry, (rate, burst) in zip(classes, regime.limits, strict=False):
        entry.limit_rate, entry.limit_depth, entry.limit_tokens = rate, burst, burst
    return classes


def _core(setup: Setup, regime: Regime) -> Any:
    core = _records((1,), CORE)
    values: dict[str, float] = {
        "fluid": setup.fidelity is Fidelity.NETWORK,
        "batching": int(regime.batching),
        "packing": setup.packing,
        "decode": int(regime.decode),
        "placement": int(regime.placement),
        "eager": regime.eager,
        "guard": regime.guard,
        "sees_slots": int(regime.sees_slots),
        "read_at": 0.0 if regime.sees_slots is Sight.GAUGES else math.inf,
        "kv_share": KV_SHARE,
        "whole_prompts": regime.whole_prompts,
        "least_requests": regime.budget.least_requests,
        "budget": regime.budget.tokens,
        "trip": setup.round_trip_seconds,
        "queue_limit": math.inf if regime.queue_limit is None else regime.queue_limit,
        "block_tokens": 0.0 if setup.blocks is None else setup.blocks.tokens,
        "dirty": NONE,
        "prefilled": NONE,
    }
    for name, value in values.items():
        core[name] = value
    core["seed"], core["second_seed"] = seeds_of(setup.seed)
    return core


def _pools(setup: Setup, tables: list[int]) -> Any:
    pools = _records((len(setup.replicas),), POOL)
    for k, entry in enumerate(setup.replicas):
        law, pool = entry.pool.law, pools[k]
        pool.solo, pool.mixed = law.solo_seconds, law.mixed_base_seconds
        pool.per_token, pool.per_sequence = law.per_token_seconds, law.per_sequence_seconds
        pool.per_context = entry.context_seconds
        pool.chunk, pool.slots = entry.pool.chunk_tokens, entry.pool.slots
        pool.budget = math.inf if setup.fidelity is Fidelity.NETWORK else entry.pool.batched_token_budget
        pool.kv = entry.pool.kv_token_capacity or math.inf
        pool.kept = entry.kept_prefix_tokens
        per_token = entry.transfer_seconds_per_token or entry.pool.transfer_seconds_per_token
        pool.transfer, pool.transfer_token = entry.transfer_seconds, per_token
        pool.table = tables[k]
    return pools


def _replicas(setup: Setup, regime: Regime, guidance: Guidance) -> Any:
    replicas = _records((setup.count,), REPLICA)
    for field in ("head", "tail", "joining", "oldest", "newest"):
        replicas[field] = NONE
    start = 0
    for k, entry in enumerate(setup.replicas):
        part = slice(start, start + entry.count)
        start += entry.count
        replicas["pool"][part] = k
        replicas["limit"][part] = entry.pool.slots
        if regime.partition or regime.disaggregated:
            _part(replicas[part], entry, regime, guidance)
    return replicas


def _part(replicas: Any, entry: Replicas, regime: Regime, guidance: Guidance) -> None:
    """Give planned roles to one pool's replicas: the paper's M = ceil(n X*)."""
    mixed = min(entry.count, max(1, math.ceil(entry.count * guidance.mixed_share - 1e-9)))
    if regime.disaggregated:
        mixed = min(mixed, entry.count - 1)
    replicas["role"] = int(Role.SOLO)
    replicas["role"][:mixed] = int(Role.PREFILL if regime.disaggregated else Role.MIXED)
    replicas["limit"][:mixed] = 0 if regime.disaggregated else entry.pool.slots - 1
