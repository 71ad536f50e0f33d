"""The engine against timelines worked out by hand."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sluice.model.fleet import Pool
from sluice.model.law import IterationLaw
from sluice.policy.admission import Budget, LaneTerms
from sluice.policy.kernels import Late
from sluice.policy.orders import EARLIEST_DEADLINE, FIRST_COME, PRIORITY, keeping_promises
from sluice.simulation.catalogue import NETWORK, TODAY, gated
from sluice.simulation.instances import PAPER_8B
from sluice.simulation.layout import Batching, State
from sluice.simulation.network import guidance_of, solved, workload_of
from sluice.simulation.prefix_blocks import Blocks
from sluice.simulation.regime import Fidelity, Guidance, Regime
from sluice.simulation.run import Record, Replicas, Setup, simulate
from sluice.simulation.workload import Workload, blank

LAW = IterationLaw(solo_seconds=0.010, mixed_base_seconds=0.010, per_token_seconds=0.0001)
POOL = Pool(name="p", law=LAW, slots=2, chunk_tokens=100, batched_token_budget=1000)
"""Decode-only iterations take 10 ms, one with a full chunk 20 ms."""


def requests(*rows: tuple[float, float, float], patience: float = math.inf, klass: tuple[int, ...] = ()) -> Workload:
    """(arrival, prompt, output) of each request."""
    table = blank(len(rows))
    for k, (arrival, prompt, output) in enumerate(rows):
        table[k]["arrival"], table[k]["prompt"], table[k]["work"], table[k]["output"] = arrival, prompt, prompt, output
    table["patience"] = patience
    if klass:
        table["klass"] = klass
    names = tuple(f"c{i}" for i in range(max(klass, default=0) + 1))
    return Workload(classes=names, requests=table, horizon_seconds=100.0)


def run(
    workload: Workload,
    regime: Regime = TODAY["chunked"],
    *,
    pool: Pool = POOL,
    count: int = 1,
    guidance: Guidance | None = None,
    **how: Any,
) -> Record:
    setup = Setup(
        workload=workload,
        replicas=(Replicas(pool=pool, count=count, **how.pop("replicas", {})),),
        fidelity=Fidelity.ITERATION,
        warmup_seconds=0.0,
        **how,
    )
    return simulate(setup, regime, guidance or Guidance.blank(workload.classes))


def column(record: Record, name: str) -> list[float]:
    return [round(float(value), 6) for value in record.requests[name]]


def test_a_prompt_takes_its_chunks_and_the_answer_one_iteration_per_further_token() -> None:
    record = run(requests((0.0, 250.0, 4.0)))
    # Chunks of 100, 100 and 50 tokens: 20 + 20 + 15 ms; then three more tokens at 10 ms.
    assert column(record, "first") == [0.055]
    assert column(record, "ended") == [0.085]
    assert record.iterations == 6


def test_a_decode_runs_beside_anothers_chunks() -> None:
    record = run(requests((0.0, 100.0, 4.0), (0.025, 100.0, 1.0)))
    # The second prompt arrives within the decode iteration 20..30 ms and takes 30..50 ms.
    assert column(record, "first") == [0.020, 0.050]
    assert column(record, "ended") == [0.060, 0.050]


def test_two_short_prompts_share_one_iteration_only_where_packing_is_allowed() -> None:
    both = requests((0.0, 50.0, 1.0), (0.0, 50.0, 1.0), (0.0, 50.0, 1.0))
    pool = replace(POOL, slots=8)
    # All three arrive in one instant, but the first span is planned at the first arrival.
    assert column(run(both, pool=pool), "first") == [0.015, 0.035, 0.035]
    assert column(run(both, pool=pool, packing=False), "first") == [0.015, 0.03, 0.045]


def test_a_full_batch_makes_the_next_prompt_wait_in_the_engine() -> None:
    record = run(requests((0.0, 100.0, 11.0), (0.0, 100.0, 11.0), (0.0, 100.0, 1.0)))
    # Slots free when the first answer ends: prefills 0..20, 20..40 ms, decodes until 130 ms.
    assert column(record, "ended")[0] == 0.13
    assert column(record, "begun")[2] == 0.13


def test_impatient_clients_leave_the_queue_and_only_the_queue() -> None:
    record = run(requests((0.0, 100.0, 20.0), (0.0, 100.0, 20.0), (0.0, 100.0, 1.0), patience=0.05))
    assert [State(s) for s in record.requests["state"]] == [State.DONE, State.DONE, State.ABANDONED]
    assert column(record, "ended")[2] == 0.05


def test_memory_that_runs_full_preempts_the_latest_and_recomputes_it() -> None:
    pool = replace(POOL, kv_token_capacity=225)
    record = run(requests((0.0, 100.0, 40.0), (0.0, 100.0, 40.0)), pool=pool)
    assert record.preemptions == 1
    assert [int(n) for n in record.requests["preempted"]] == [0, 1]
    assert [State(s) for s in record.requests["state"]] == [State.DONE, State.DONE]


def test_a_request_that_no_memory_could_hold_is_refused() -> None:
    record = run(requests((0.0, 300.0, 1.0), (0.0, 10.0, 1.0)), pool=replace(POOL, kv_token_capacity=225))
    assert [State(s) for s in record.requests["state"]] == [State.REFUSED, State.DONE]


def test_prefill_first_stalls_decodes_and_decode_first_drains_them() -> None:
    workload = requests((0.0, 100.0, 4.0), (0.025, 1000.0, 1.0))
    pool = replace(POOL, batched_token_budget=100)
    stalled = run(workload, TODAY["prefill-first"], pool=pool)
    drained = run(workload, TODAY["decode-first"], pool=pool)
    assert TODAY["prefill-first"].batching is Batching.PREFILL_FIRST
    # One decode at 20..30 ms, then ten chunks alone (20 ms each), then two decodes.
    assert column(stalled, "ended") == [0.25, 0.23]
    # The batch drains at 50 ms before the second prompt begins.
    assert column(drained, "ended") == [0.05, 0.25]


def test_disaggregated_decode_pays_for_its_transfer() -> None:
    workload = requests((0.0, 100.0, 3.0))
    guidance = replace(Guidance.blank(("c0",)), mixed_share=0.5)
    record = run(workload, TODAY["disaggregated"], count=2, guidance=guidance, replicas={"transfer_seconds": 0.5})
    assert column(record, "first") == [0.02]
    assert column(record, "ended") == [0.54]


def test_a_transfer_is_paid_per_token_as_the_pool_declares() -> None:
    workload = requests((0.0, 100.0, 3.0))
    guidance = replace(Guidance.blank(("c0",)), mixed_share=0.5)
    dear = replace(POOL, transfer_seconds_per_token=0.001)
    free, paid = (run(workload, TODAY["disaggregated"], pool=p, count=2, guidance=guidance) for p in (POOL, dear))
    assert column(paid, "ended")[0] - column(free, "ended")[0] == pytest.approx(0.1)


def test_decode_slows_down_as_the_context_grows() -> None:
    workload = requests((0.0, 100.0, 4.0))
    flat, growing = run(workload), run(workload, replicas={"context_seconds": 1e-5})
    # The prompt's own hundred tokens, then three decode iterations over a hundred and a few more: 10 us a token.
    assert column(growing, "first")[0] - column(flat, "first")[0] == pytest.approx(100e-5)
    decoding = [column(one, "ended")[0] - column(one, "first")[0] for one in (growing, flat)]
    assert decoding[0] - decoding[1] == pytest.approx(303e-5, abs=3.1e-5)
    assert decoding[0] - decoding[1] > 3 * 100e-5


def test_the_gates_round_trip_delays_the_prompt() -> None:
    regime = gated(FIRST_COME, budget=Budget(least_requests=1))
    assert column(run(requests((0.0, 100.0, 1.0)), regime, round_trip_seconds=0.003), "first") == [0.023]


def test_a_gate_with_a_budget_of_one_prefill_reorders_by_index() -> None:
    workload = requests((0.0, 100.0, 1.0), (0.001, 100.0, 1.0), (0.002, 100.0, 1.0), klass=(0, 0, 1))
    lanes = (LaneTerms(name="c0", index=1.0), LaneTerms(name="c1", index=2.0))
    record = run(workload, gated(PRIORITY, budget=Budget(least_requests=1)), guidance=Guidance(lanes=lanes))
    assert column(record, "first") == [0.02, 0.06, 0.04]


@pytest.mark.parametrize(
    ("late", "states", "order"),
    [
        (Late.REFUSE, [State.DONE, State.REFUSED, State.DONE], [0, 2]),
        (Late.LAST, [State.DONE, State.DONE, State.DONE], [0, 2, 1]),
    ],
)
def test_a_lost_promise_is_refused_or_served_last(late: Late, states: list[State], order: list[int]) -> None:
    workload = requests((0.0, 1000.0, 1.0), (0.001, 100.0, 1.0), (0.150, 100.0, 1.0), klass=(0, 1, 1))
    lanes = (LaneTerms(name="c0"), LaneTerms(name="c1", promise_seconds=0.1))
    policy = keeping_promises(EARLIEST_DEADLINE, prefill_seconds_per_token=0.0002, late=late)
    record = run(workload, gated(policy, budget=Budget(least_requests=1)), guidance=Guidance(lanes=lanes))
    assert [State(s) for s in record.requests["state"]] == states
    started = [k for k in np.argsort(record.requests["started"]) if record.requests["started"][k] >= 0]
    assert started == order


def test_a_static_limit_refuses_what_exceeds_its_bucket() -> None:
    regime = replace(TODAY["chunked"], limits=((1.0, 1.0),))
    record = run(requests((0.0, 10.0, 1.0), (0.5, 10.0, 1.0), (1.0, 10.0, 1.0)), regime)
    assert [State(s) for s in record.requests["state"]] == [State.DONE, State.REFUSED, State.DONE]


def digest() -> str:
    """Everything that a few short runs of either fidelity wrote."""
    total = hashlib.sha256()
    network = workload_of(PAPER_8B, 4, horizon_seconds=60.0, seed=3)
    guidance = guidance_of(PAPER_8B, solved(PAPER_8B, 4), PAPER_8B.token_row_index())
    setup = Setup(
        workload=network,
        replicas=(Replicas(pool=PAPER_8B.pool, count=4),),
        fidelity=Fidelity.NETWORK,
        warmup_seconds=0.0,
    )
    for name in ("GG-SP", "SLI-QD-SP", "BI-WSP", "GF-WSP"):
        total.update(simulate(setup, NETWORK[name], guidance).requests.tobytes())
    generator = np.random.default_rng(5)
    rows = zip(
        np.sort(generator.random(60)).tolist(),
        generator.integers(1, 400, 60).tolist(),
        generator.integers(1, 40, 60).tolist(),
        strict=True,
    )
    workload = requests(*rows, patience=0.8)
    counts = [int(prompt) // 50 for prompt in workload.requests["prompt"]]
    talks = np.array([k % 5 * 100 + j for k, count in enumerate(counts) for j in range(count)])
    remembered = replace(workload, blocks=Blocks.of(np.array(counts), talks, 50))
    for regime in TODAY.values():
        for traffic in (workload, remembered):
            record = run(traffic, regime, pool=replace(POOL, kv_token_capacity=700), count=3, guidance=None)
            total.update(record.requests.tobytes())
    return total.hexdigest()


def test_plain_python_gives_the_same_bytes_as_machine_code() -> None:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    code = (
        "import importlib.util as u; "
        f"s = u.spec_from_file_location('plain', {__file__!r}); m = u.module_from_spec(s); s.loader.exec_module(m); "
        "print(m.digest())"
    )
    plain = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=100
    )
    assert plain.stdout.strip() == digest()
