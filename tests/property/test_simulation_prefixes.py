"""Prefix caches on random traces: bounds that always hold, and agreement with least-recently-used lists in Python."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice.model.fleet import Pool
from sluice.model.law import IterationLaw
from sluice.policy.admission import Budget
from sluice.policy.orders import FIRST_COME
from sluice.simulation.catalogue import TODAY, gated
from sluice.simulation.layout import Placement, Sim, State
from sluice.simulation.prefix_blocks import Blocks
from sluice.simulation.regime import Fidelity, Guidance, Regime
from sluice.simulation.run import Record, Replicas, Setup, simulate
from sluice.simulation.workload import Workload, blank

LAW = IterationLaw(solo_seconds=0.01, mixed_base_seconds=0.01, per_token_seconds=1e-4, per_sequence_seconds=1e-4)
SIZE = 16
HORIZON = 4000.0
GATE = gated(FIRST_COME, budget=Budget(least_requests=2, tokens=150.0))
REGIMES = (
    *TODAY.values(),
    GATE,
    replace(GATE, whole_prompts=True),
    replace(GATE, whole_prompts=True, placement=Placement.PREFIX_AWARE),
)

Row = tuple[float, int, int, int, int, int]
rows = st.lists(
    st.tuples(
        st.floats(0, 3),
        st.integers(1, 200),  # prompt
        st.integers(1, 60),  # output
        st.integers(0, 3),  # which conversation
        st.integers(0, 12),  # blocks that are the conversation's, the others are the request's own
        st.integers(0, 3),  # full blocks that are not told
    ),
    min_size=1,
    max_size=30,
)


def workload_of(drawn: list[Row]) -> Workload:
    table, names, counts = blank(len(drawn)), [], []
    for k, (arrival, prompt, output, talk, common, untold) in enumerate(sorted(drawn)):
        for name, value in (("arrival", arrival), ("prompt", prompt), ("work", prompt), ("output", output)):
            table[name][k] = value
        mine = [talk * 1000 + j if j < common else 10_000 * (k + 1) + j for j in range(max(0, prompt // SIZE - untold))]
        names += mine
        counts.append(len(mine))
    blocks = Blocks.of(np.array(counts), np.array(names, dtype=np.int64), SIZE)
    return Workload(classes=("a",), requests=table, horizon_seconds=HORIZON, blocks=blocks)


def run(
    workload: Workload, regime: Regime, count: int, memory: int | None, *, kept: float = math.inf, **how: Any
) -> Record:
    pool = Pool(name="p", law=LAW, slots=6, chunk_tokens=64, batched_token_budget=128, kv_token_capacity=memory)
    setup = Setup(
        workload=workload,
        replicas=(Replicas(pool=pool, count=count, kept_prefix_tokens=kept),),
        fidelity=Fidelity.ITERATION,
        warmup_seconds=0.0,
    )
    return simulate(setup, regime, replace(Guidance.blank(("a",)), mixed_share=0.5), **how)


def check_caches(sim: Sim, now: float) -> None:
    """Every replica's cache beside its batch; at any moment."""
    del now
    unused, head = set(), int(sim.core[0].spare)
    while head < len(sim.cache):
        unused.add(head)
        head = int(sim.cache[head].following)
    used = np.array([k not in unused for k in range(len(sim.cache))])
    names = [tuple(pair) for pair in sim.cache[used][["replica", "block"]].tolist()]
    assert len(set(names)) == len(names)
    holders = dict(zip(names, sim.cache[used]["holders"].tolist(), strict=True))
    for r, replica in enumerate(sim.replicas):
        mine = {block: held for (where, block), held in holders.items() if where == r}
        kept, pool = sum(1 for held in mine.values() if held == 0), sim.pools[replica.pool]
        assert kept == replica.kept
        assert kept * SIZE <= pool.kept
        if sim.core[0].decode == 0:
            assert kept * SIZE + replica.kv <= pool.kv
            assert {block: held for block, held in mine.items() if held} == _run_with(sim, r)


def _run_with(sim: Sim, r: int) -> Counter[int]:
    """Blocks of the requests in the batch of replica ``r``, and by how many of them."""
    inside = (sim.requests["replica"] == r) & np.isin(sim.requests["state"], [int(State.PREFILL), int(State.DECODE)])
    found: Counter[int] = Counter()
    for q in np.flatnonzero(inside):
        found.update(sim.blocks[int(sim.blocks[q]) : int(sim.blocks[q + 1])].tolist())
    return found


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    drawn=rows,
    regime=st.sampled_from(REGIMES),
    count=st.integers(2, 4),
    memory=st.sampled_from([None, 300, 600]),
    kept=st.sampled_from([0.0, 100.0, math.inf]),
)
def test_caches_stay_within_memory_and_hits_within_prompts(
    drawn: list[Row], regime: Regime, count: int, memory: int | None, kept: float
) -> None:
    record = run(
        workload_of(drawn),
        regime,
        count,
        memory,
        kept=kept,
        tick_seconds=0.25,
        on_tick=_checked_early,
        on_end=_all_gone,
    )
    begun = record.requests[record.requests["begun"] >= 0]
    assert (begun["work"] >= 1).all()
    assert (begun["work"] <= begun["prompt"]).all()
    assert ((begun["prompt"] - begun["work"]) % SIZE == 0).all()


def _checked_early(sim: Sim, now: float) -> None:
    if now < 5.0:
        check_caches(sim, now)


def _all_gone(sim: Sim, now: float) -> None:
    """When all is over nothing is held, and no memory is lost or gained."""
    check_caches(sim, now)
    assert not (sim.cache["holders"] > 0).any()
    assert (sim.replicas["kv"] == 0).all()
    assert np.allclose(sim.replicas["owed"], 0.0)


class Reference:
    """One replica's cache as a dictionary in order of use."""

    def __init__(self) -> None:
        self.kept: OrderedDict[int, None] = OrderedDict()
        self.held: Counter[int] = Counter()

    def enter(self, mine: list[int], prompt: float, room: float) -> float:
        """Tokens found; ``room`` is for what nobody runs with, this request's prompt counted."""
        known = next((k for k, block in enumerate(mine) if block not in self.kept and not self.held[block]), len(mine))
        for block in mine:
            self.kept.pop(block, None)
            self.held[block] += 1
        self.shrink(room)
        return SIZE * min(known, (prompt - 1) // SIZE)

    def leave(self, mine: list[int], room: float) -> None:
        for block in reversed(mine):
            self.held[block] -= 1
            if not self.held[block]:
                self.kept[block] = None
        self.shrink(room)

    def shrink(self, room: float) -> None:
        while len(self.kept) * SIZE > room:
            self.kept.popitem(last=False)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=rows, count=st.integers(1, 3), kept=st.sampled_from([0.0, 48.0, 200.0, math.inf]))
def test_many_at_a_time_find_what_a_plain_list_finds(drawn: list[Row], count: int, kept: float) -> None:
    """With memory for all, only the bound on what is kept evicts; the run tells who came and left when."""
    workload = workload_of(drawn)
    assert workload.blocks is not None
    table = run(workload, TODAY["chunked"], count, None, kept=kept).requests
    caches = [Reference() for _ in range(count)]
    leaves = [(round(float(row["ended"]), 9), 0, k) for k, row in enumerate(table)]
    enters = [(round(float(row["begun"]), 9), 1, k) for k, row in enumerate(table)]
    first_apart = len({at for at, _, _ in leaves}) == len(leaves)
    for _, enter, k in sorted(leaves + enters):
        mine, cache = workload.blocks.of_request(k), caches[int(table["replica"][k])]
        if not enter:
            cache.leave(mine, kept)
            continue
        found = cache.enter(mine, float(table["prompt"][k]), kept)
        if first_apart or kept == math.inf:  # of those that leave in one iteration the order is not told
            assert table["prompt"][k] - table["work"][k] == found


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=rows, count=st.integers(1, 3), memory=st.sampled_from([260, 300, 400, 700]))
def test_one_at_a_time_finds_what_a_plain_list_in_the_memory_left_finds(
    drawn: list[Row], count: int, memory: int
) -> None:
    """Requests that never meet: a cache has the memory that one prompt and its answer leave it."""
    workload = workload_of(drawn)
    workload.requests["arrival"] = 100.0 * np.arange(len(workload))
    assert workload.blocks is not None
    table = run(workload, replace(TODAY["chunked"], placement=Placement.ROUND_ROBIN), count, memory).requests
    caches = [Reference() for _ in range(count)]
    for k, row in enumerate(table):
        mine, cache = workload.blocks.of_request(k), caches[int(row["replica"])]
        assert row["prompt"] - row["work"] == cache.enter(mine, float(row["prompt"]), memory - row["prompt"])
        cache.shrink(memory - (row["prompt"] + row["output"] - 1))
        cache.leave(mine, memory)
