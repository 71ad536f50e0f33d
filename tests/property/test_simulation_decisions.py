"""One policy, two places: what the engine started is what ``decide`` says on the gate's view of that moment."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sluice.model.fleet import Pool
from sluice.model.law import IterationLaw
from sluice.policy.admission import AdmissionPolicy, Budget, GateView, LaneTerms, ReplicaView, Waiting
from sluice.policy.costs import Costs
from sluice.policy.kernels import Late
from sluice.policy.orders import (
    CAPPED_GATE,
    EARLIEST_DEADLINE,
    FIRST_COME,
    GATE,
    PRIORITY,
    QUEUE_GATE,
    keeping_promises,
    timely,
    with_reserve,
)
from sluice.simulation.catalogue import gated
from sluice.simulation.regime import Fidelity, Guidance
from sluice.simulation.run import Record, Replicas, Setup, simulate
from sluice.simulation.workload import ClassLoad, LogNormal, generate

LANES = (
    LaneTerms(
        name="chat",
        target=0.6,
        queue_target=1.0,
        rate=8.0,
        index=1.0,
        promise_seconds=0.4,
        mean_prompt_tokens=200.0,
        value=1.0,
        costs=Costs(busy_seconds=0.03, hold_seconds=0.01),
    ),
    LaneTerms(
        name="code",
        target=0.3,
        queue_target=0.0,
        rate=6.0,
        index=2.0,
        promise_seconds=1.5,
        mean_prompt_tokens=400.0,
        value=4.0,
        costs=Costs(busy_seconds=0.06, hold_seconds=0.02),
    ),
)
ONE = Budget(least_requests=1)
PROMISING = keeping_promises(EARLIEST_DEADLINE, prefill_seconds_per_token=2e-4)
POLICIES = (
    FIRST_COME,
    GATE,
    CAPPED_GATE,
    QUEUE_GATE,
    PRIORITY,
    EARLIEST_DEADLINE,
    PROMISING,
    with_reserve(PROMISING),
    keeping_promises(PRIORITY, prefill_seconds_per_token=2e-4, late=Late.REFUSE),
    timely(2e-4, margin_seconds=0.05, price_seconds=math.inf),  # a view does not say what happened since the last one
)


def recorded(policy: AdmissionPolicy, seed: int) -> Record:
    """An overloaded replica under ``policy``."""
    law = IterationLaw(solo_seconds=0.01, mixed_base_seconds=0.01, per_token_seconds=1e-4)
    pool = Pool(name="p", law=law, slots=64, chunk_tokens=128, batched_token_budget=512)
    loads = tuple(
        ClassLoad(
            name=terms.name, rate=12.0, prompt=LogNormal(terms.mean_prompt_tokens, 1.0), output=LogNormal(20, 1.0)
        )
        for terms in LANES
    )
    setup = Setup(
        workload=generate(loads, horizon_seconds=30.0, seed=seed, whole_tokens=True),
        replicas=(Replicas(pool=pool, count=1),),
        fidelity=Fidelity.ITERATION,
        warmup_seconds=0.0,
    )
    return simulate(setup, gated(policy, budget=ONE), Guidance(lanes=LANES))


def view_at(record: Record, now: float) -> GateView:
    """What a gate would have held just before the start at ``now``."""
    table = record.requests
    left = np.where(table["started"] >= 0, table["started"], np.where(table["ended"] >= 0, table["ended"], np.inf))
    here = (table["arrival"] <= now) & (left >= now)
    unfinished = (
        (table["started"] >= 0) & (table["started"] < now) & ((table["prefilled"] < 0) | (table["prefilled"] > now))
    )
    return GateView(
        lanes=LANES,
        waiting=tuple(
            Waiting(
                request_id=str(k),
                lane=LANES[table["klass"][k]].name,
                arrival=float(table["arrival"][k]),
                prompt_tokens=float(table["work"][k]),
            )
            for k in np.flatnonzero(here)
        ),
        in_prefill=tuple(int((unfinished & (table["klass"] == i)).sum()) for i in range(len(LANES))),
        replicas=(ReplicaView(name="r"),),
    )


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_every_start_of_the_engine_is_the_policys_decision(policy: AdmissionPolicy) -> None:
    record = recorded(policy, seed=4)
    started = np.sort(record.requests["started"][record.requests["started"] > 0])
    assert len(started) > 100
    for now in started:
        decided = policy.decide(view_at(record, float(now)), float(now), ONE)
        chosen = np.flatnonzero(record.requests["started"] == now)
        assert [start.request_id for start in decided] == [str(k) for k in chosen]


def test_another_policy_would_have_decided_otherwise() -> None:
    record = recorded(PRIORITY, seed=4)
    started = record.requests["started"][record.requests["started"] > 0]
    differing = sum(
        FIRST_COME.decide(view_at(record, float(now)), float(now), ONE)[0].request_id
        != str(np.flatnonzero(record.requests["started"] == now)[0])
        for now in started
    )
    assert differing > 10
