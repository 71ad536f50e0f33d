"""Whatever the traffic and the policy: nothing is lost, nothing is served twice, order of times holds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice.model.fleet import Pool
from sluice.model.law import IterationLaw
from sluice.policy.admission import Budget, LaneTerms
from sluice.policy.kernels import Late
from sluice.policy.orders import BANDS, EARLIEST_DEADLINE, FIRST_COME, PRIORITY, keeping_promises, timely
from sluice.simulation.catalogue import TODAY, gated
from sluice.simulation.layout import Sight, State
from sluice.simulation.regime import Fidelity, Guidance
from sluice.simulation.run import Replicas, Setup, simulate
from sluice.simulation.workload import Workload, blank

LAW = IterationLaw(solo_seconds=0.01, mixed_base_seconds=0.01, per_token_seconds=1e-4, per_sequence_seconds=1e-4)
HORIZON = 10_000.0
BUDGET = Budget(least_requests=2, tokens=150.0)
REGIMES = (
    *TODAY.values(),
    *(gated(policy, budget=BUDGET) for policy in (FIRST_COME, PRIORITY, BANDS, EARLIEST_DEADLINE)),
    *(gated(timely(2e-4), budget=BUDGET, sees_slots=sight) for sight in Sight),
    *(
        gated(keeping_promises(EARLIEST_DEADLINE, prefill_seconds_per_token=2e-4, late=late), budget=BUDGET)
        for late in (Late.LAST, Late.REFUSE)
    ),
)
TERMINAL = {int(s) for s in (State.DONE, State.ABANDONED, State.ABANDONED_DECODE, State.REFUSED)}

rows = st.lists(
    st.tuples(
        st.floats(0, 3),
        st.integers(1, 500),
        st.integers(1, 60),
        st.integers(0, 1),
        st.sampled_from([0.2, 2.0, math.inf]),
    ),
    min_size=1,
    max_size=40,
)


def workload_of(drawn: list[tuple[float, int, int, int, float]]) -> Workload:
    table = blank(len(drawn))
    for k, (arrival, prompt, output, klass, patience) in enumerate(sorted(drawn)):
        for name, value in (("arrival", arrival), ("prompt", prompt), ("work", prompt), ("output", output)):
            table[name][k] = value
        table["klass"][k], table["patience"][k] = klass, patience
    return Workload(classes=("a", "b"), requests=table, horizon_seconds=HORIZON)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    drawn=rows,
    regime=st.sampled_from(REGIMES),
    slots=st.integers(1, 6),
    count=st.integers(2, 4),
    memory=st.sampled_from([None, 700]),
    packing=st.booleans(),
)
def test_every_request_ends_once_and_in_order(
    drawn: list[tuple[float, int, int, int, float]],
    regime: object,
    slots: int,
    count: int,
    memory: int | None,
    packing: bool,
) -> None:
    chosen = next(r for r in REGIMES if r is regime)
    pool = Pool(name="p", law=LAW, slots=slots, chunk_tokens=64, batched_token_budget=128, kv_token_capacity=memory)
    workload = workload_of(drawn)
    lanes = (
        LaneTerms(name="a", index=1.0, rate=1.0, promise_seconds=0.5),
        LaneTerms(name="b", index=2.0, rate=2.0, promise_seconds=1.0),
    )
    setup = Setup(
        workload=workload,
        replicas=(Replicas(pool=pool, count=count),),
        fidelity=Fidelity.ITERATION,
        warmup_seconds=0.0,
        packing=packing,
    )
    record = simulate(setup, chosen, replace(Guidance(lanes=lanes), mixed_share=0.5))
    table = record.requests
    assert set(table["state"].tolist()) <= TERMINAL
    done = table[table["state"] == int(State.DONE)]
    for earlier, later in (("arrival", "started"), ("started", "begun"), ("begun", "first"), ("first", "ended")):
        assert (done[earlier] <= done[later] + 1e-9).all()
    # A token takes at least one decode-only iteration.
    assert (done["ended"] - done["first"] >= (done["output"] - 1) * LAW.solo_seconds - 1e-6).all()
    # Replica time suffices for the work: each sequence occupies one slot of one replica at a time.
    occupied = float((done["ended"] - done["first"]).sum())
    assert occupied <= slots * count * HORIZON
    # What is left in the machine when all is over: nothing.
    assert np.isfinite(record.busy_seconds)
