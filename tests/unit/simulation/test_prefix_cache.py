"""Prefix caches: instances worked out by hand, and which blocks a trace names."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sluice.model.fleet import Pool
from sluice.model.law import IterationLaw
from sluice.policy.admission import Budget
from sluice.policy.orders import FIRST_COME
from sluice.simulation import traces
from sluice.simulation.catalogue import TODAY, gated
from sluice.simulation.layout import Placement
from sluice.simulation.prefix_blocks import Blocks, expected_work, hit_rate, joined
from sluice.simulation.regime import Fidelity, Guidance, Regime
from sluice.simulation.run import Record, Replicas, Setup, simulate
from sluice.simulation.trace_files import TraceError
from sluice.simulation.traces import merge, read_trace
from sluice.simulation.workload import Workload, blank

LAW = IterationLaw(solo_seconds=0.010, mixed_base_seconds=0.010, per_token_seconds=0.0001)
POOL = Pool(name="p", law=LAW, slots=4, chunk_tokens=100, batched_token_budget=1000)
"""An iteration takes 10 ms, and .1 ms more per prompt token; blocks below have 100 tokens, a full chunk."""
IN_TURN = replace(TODAY["chunked"], placement=Placement.ROUND_ROBIN)


def blocks_of(*names: tuple[int, ...]) -> Blocks:
    return Blocks.of(np.array([len(mine) for mine in names]), np.array([k for mine in names for k in mine]), 100)


def requests(*rows: tuple[float, float, float, tuple[int, ...]]) -> Workload:
    """(arrival, prompt, output, blocks) of each request."""
    table = blank(len(rows))
    for k, (arrival, prompt, output, _) in enumerate(rows):
        table[k]["arrival"], table[k]["prompt"], table[k]["work"], table[k]["output"] = arrival, prompt, prompt, output
    named = blocks_of(*(row[3] for row in rows))
    return Workload(classes=("c0",), requests=table, horizon_seconds=100.0, blocks=named)


def run(
    workload: Workload,
    regime: Regime = TODAY["chunked"],
    *,
    pool: Pool = POOL,
    count: int = 1,
    kept: float = math.inf,
    trip: float = 0.0,
) -> Record:
    setup = Setup(
        workload=workload,
        replicas=(Replicas(pool=pool, count=count, kept_prefix_tokens=kept),),
        fidelity=Fidelity.ITERATION,
        warmup_seconds=0.0,
        round_trip_seconds=trip,
    )
    return simulate(setup, regime, Guidance.blank(workload.classes))


def column(record: Record, name: str) -> list[float]:
    return [round(float(value), 6) for value in record.requests[name]]


THREE = requests((0.0, 250.0, 1.0, (1, 2)), (0.1, 250.0, 1.0, (1, 2)), (0.2, 250.0, 1.0, (1, 2)))


def test_a_prefix_is_found_again_where_it_was_computed_and_nowhere_else() -> None:
    record = run(THREE, IN_TURN, count=2)
    assert column(record, "replica") == [1, 0, 1]
    # Chunks of 100, 100 and 50 tokens: 20 + 20 + 15 ms; the third has only its last 50 tokens to compute.
    assert column(record, "work") == [250, 250, 50]
    assert column(record, "first") == [0.055, 0.155, 0.215]
    assert hit_rate(record.requests) == pytest.approx(200 / 750)


def test_what_the_batch_needs_is_evicted_and_of_a_prompt_its_end_first() -> None:
    others = requests((0.0, 250.0, 1.0, (1, 2)), (0.1, 250.0, 1.0, (3, 4)), (0.2, 250.0, 1.0, (1, 2)))
    # 250 of 400 tokens run: one block stays beside them, the first one, without which no other can be found.
    assert column(run(others, pool=replace(POOL, kv_token_capacity=400)), "work") == [250, 250, 150]
    assert column(run(others, pool=replace(POOL, kv_token_capacity=450)), "work") == [250, 250, 50]


def test_a_cache_keeps_no_more_than_it_is_allowed() -> None:
    assert [column(run(THREE, kept=kept), "work")[2] for kept in (0.0, 100.0, 199.0, 200.0)] == [250, 150, 150, 50]


def test_growing_answers_push_the_cache_out_of_memory() -> None:
    """Kept are 100 tokens while 250 run of 400; the answer's 60 tokens need half of them, so the block goes."""
    grown = requests((0.0, 250.0, 1.0, (1, 2)), (0.1, 250.0, 60.0, (3, 4)), (2.0, 250.0, 1.0, (1, 2)))
    assert column(run(grown, pool=replace(POOL, kv_token_capacity=400)), "work") == [250, 250, 250]


def test_a_block_is_in_memory_once_for_all_that_run_with_it() -> None:
    """Two prompts of 250 tokens do not fit into 400, but their common blocks leave the second 50 to hold."""
    both = requests((0.0, 250.0, 40.0, (1, 2)), (0.1, 250.0, 1.0, (1, 2)))
    pool = replace(POOL, kv_token_capacity=400)
    assert column(run(both, pool=pool), "begun")[1] == 0.105  # the end of the decode iteration in progress
    apart = replace(both, blocks=blocks_of((1, 2), (3, 4)))
    assert column(run(apart, pool=pool), "begun")[1] == column(run(apart, pool=pool), "ended")[0]


def test_a_prompt_found_whole_still_computes_its_last_block() -> None:
    """Engines need one token to compute the answer's first from."""
    whole = requests((0.0, 200.0, 1.0, (1, 2)), (0.1, 200.0, 1.0, (1, 2)))
    assert column(run(whole), "work") == [200, 100]


def test_what_waits_behind_the_same_prompt_finds_it() -> None:
    """Both are in the queue at once; the second is looked up when its turn comes, not when it was placed."""
    burst = requests((0.0, 250.0, 1.0, (1, 2)), (0.001, 250.0, 1.0, (1, 2)))
    assert column(run(burst), "work") == [250, 50]


def test_a_preempted_request_finds_its_own_prompt_again() -> None:
    two = requests((0.0, 100.0, 40.0, (1,)), (0.0, 110.0, 40.0, (2,)))
    pool = replace(POOL, kv_token_capacity=240)
    record, without = run(two, pool=pool), run(replace(two, blocks=None), pool=pool)
    assert record.preemptions == without.preemptions == 1
    assert column(record, "work") == [100, 110]
    assert column(record, "ended")[1] < column(without, "ended")[1]


def test_prefix_aware_placement_goes_where_the_prefix_is_unless_a_queue_costs_more() -> None:
    aware = TODAY["chunked-prefix-aware"]
    follow = requests((0.0, 250.0, 1.0, (1, 2)), (0.1, 299.0, 1.0, (1, 2)), (0.101, 190.0, 1.0, (1,)))
    # The second has 99 tokens to compute on replica 0: less than the 100 that the third finds there.
    assert column(run(follow, aware, count=2), "replica") == [0, 0, 0]
    longer = requests((0.0, 250.0, 1.0, (1, 2)), (0.1, 300.0, 1.0, (1, 2)), (0.101, 190.0, 1.0, (1,)))
    assert column(run(longer, aware, count=2), "replica") == [0, 0, 1]
    assert column(run(follow, TODAY["chunked-least-tokens"], count=2), "replica")[1:] != [0, 0]


def test_a_gate_that_counts_whole_prompts_learns_nothing_of_caches() -> None:
    """500 tokens are its budget: two prompts of 250. All of them have 50 to compute, and each 3 ms to go."""
    table = [(0.0, 250.0, 1.0, (1, 2)), *((1.0 + k / 1000, 250.0, 1.0, (1, 2)) for k in range(3))]
    gate = gated(FIRST_COME, budget=Budget(least_requests=1, tokens=500.0))
    blind = run(requests(*table), replace(gate, whole_prompts=True), trip=0.003)
    seeing = run(requests(*table), gate, trip=0.003)
    assert column(blind, "work") == column(seeing, "work") == [250, 50, 50, 50]
    # The third starts with the first token of the first, or at the next event after the engine found its prefix.
    assert column(blind, "started")[3] == column(blind, "first")[1] == 1.018
    assert (column(seeing, "begun")[1], column(seeing, "started")[3]) == (1.003, 1.004)


MOONCAKE = (
    '{"timestamp": 0, "input_length": 1500, "output_length": 5, "hash_ids": [11, 2, 3]}\n'
    '{"timestamp": 3000, "input_length": 1600, "output_length": 5, "hash_ids": [11, 2, 4, 5]}\n'
)


def written(folder: Path, text: str) -> Path:
    path = folder / "chat.jsonl"
    path.write_text(text)
    return path


def test_a_trace_names_full_blocks_only(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, MOONCAKE))
    assert trace.blocks is not None
    assert [len(trace.blocks.of_request(k)) for k in range(2)] == [2, 3]
    assert trace.blocks.of_request(0) == trace.blocks.of_request(1)[:2]
    assert read_trace(tmp_path / "chat.jsonl", prefixes=False).blocks is None


def test_merged_traces_keep_their_blocks_apart_and_in_order(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, MOONCAKE))
    later = replace(trace, name="b", arrival=trace.arrival + 1.0)
    plain = replace(trace, name="c", arrival=trace.arrival + 2.0, blocks=None)
    merged = merge([trace, later, plain], patience_seconds={}, seed=1)
    assert merged.blocks is not None
    assert merged.requests["arrival"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    named = [merged.blocks.of_request(k) for k in range(6)]
    assert [len(names) for names in named] == [2, 2, 0, 3, 3, 0]
    assert named[0] == named[3][:2]
    assert not set(named[0] + named[3]) & set(named[1] + named[4])
    assert merge([plain], patience_seconds={}, seed=1).blocks is None


BAD = {
    "no list": ('"hash_ids": 7', r"chat\.jsonl:1: hash_ids is 7, not a list"),
    "no whole numbers": ('"hash_ids": [1.5]', r"chat\.jsonl:1: hash_ids is \[1\.5\], not a list of whole numbers"),
    "a table": ('"hash_ids": {"a": 1}', r"chat\.jsonl:1: hash_ids is .* not a list"),
    "beyond 64 bits": (f'"hash_ids": [{2**70}]', r"chat\.jsonl:1: hash_ids is .* not a list"),
    "a word": ('"hash_ids": "many"', r"chat\.jsonl:1: hash_ids is 'many', not a list"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_blocks_are_refused_by_name(case: str, tmp_path: Path) -> None:
    text, message = BAD[case]
    row = f'{{"timestamp": 0, "input_length": 1500, "output_length": 5, {text}}}\n'
    with pytest.raises(TraceError, match=message):
        read_trace(written(tmp_path, row))


def test_more_blocks_than_memory_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MOST_BLOCKS", 4)
    with pytest.raises(TraceError, match=r"chat\.jsonl:2: more than 4 blocks in hash_ids"):
        read_trace(written(tmp_path, MOONCAKE))


def test_expected_work_scatters_prompts_over_caches() -> None:
    prompts, named = THREE.requests["prompt"], THREE.blocks
    assert named is not None
    assert expected_work(prompts, named, [math.inf]).tolist() == [250, 50, 50]
    assert expected_work(prompts, named, [math.inf] * 2).tolist() == [250, 250, 50]
    assert expected_work(prompts, named, [100.0]).tolist() == [250, 150, 150]


def test_a_plan_is_told_what_caches_will_leave_and_a_simulation_finds_out() -> None:
    assert THREE.foreseen([math.inf]).means("work").tolist() == [pytest.approx(350 / 3)]
    assert THREE.means("work").tolist() == [250]
    assert replace(THREE, blocks=None).foreseen([math.inf]).means("work").tolist() == [250]


def test_blocks_of_nothing_join_to_nothing() -> None:
    assert joined([(3, None), (0, None)]) is None
