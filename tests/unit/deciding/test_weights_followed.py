"""Shares that are surely not the weights are told; chance, youth, empty pools and gates are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.values import pool

from sluice.deciding.verify import CONFIDENCE_DEVIATIONS, VerifyMemory, verify, wilson_bounds
from sluice.model.decision import ClassTarget, Targets
from sluice.model.fleet import DataPlane, DataPlaneKind, Fleet, GateUse
from sluice.model.reasons import Reason
from sluice.model.signal import Sample, Signal, Source
from sluice.model.snapshot import ClassSamples, Observation, PoolShares, PoolSupply, Snapshot

NOW = 1000.0
POOLS = (pool("fast"), pool("slow"))
FLEET = Fleet(namespace="d", name="f", pools=POOLS, data_plane=DataPlane(kind=DataPlaneKind.ENVOY_GATEWAY))
READY = (
    PoolSupply(pool="fast", ready=2, source=Source.PODS),
    PoolSupply(pool="slow", ready=2, source=Source.PODS),
)


def targets(**weights: int) -> Targets:
    """Per class the permille of the fast pool."""
    return Targets(
        plan_id="p",
        classes=tuple(
            ClassTarget(
                name=name, rate_limit=None, in_flight_limit=None, fence=None, weights=(("fast", w), ("slow", 1000 - w))
            )
            for name, w in weights.items()
        ),
    )


def shares(fast: float, slow: float, since: float = NOW - 60) -> PoolShares:
    return PoolShares(requests={"fast": fast, "slow": slow}, since_seconds=since, source=Source.VLLM)


def rate(value: float) -> ClassSamples:
    return ClassSamples(samples={Signal.ADMITTED_RATE: Sample(value=value, at_seconds=NOW, source=Source.ENVOY)})


def view(
    by_class: Mapping[str, PoolShares] | None = None,
    of_all: PoolShares | None = None,
    *,
    fleet: Fleet = FLEET,
    supplies: tuple[PoolSupply, ...] = READY,
    rates: Mapping[str, float] | None = None,
    strangers: float = 0.0,
) -> Snapshot:
    observation = Observation(
        classes={name: rate(value) for name, value in (rates or {}).items()},
        shares=by_class or {},
        shares_of_all=of_all,
        unmatched_rate=Sample(value=strangers, at_seconds=NOW, source=Source.ENVOY),
    )
    return Snapshot(now=NOW, fleet=fleet, classes=(), supplies=supplies, observation=observation)


def told(snapshot: Snapshot, ordered: Targets, since: float = NOW - 600) -> list[tuple[Reason, str]]:
    weights = {target.name: (target.weights, since) for target in ordered.classes}
    findings, _ = verify(snapshot, ordered, VerifyMemory(targets=ordered, since=since, weights=weights))
    return [(finding.reason, finding.subject) for finding in findings]


ASTRAY = (Reason.WEIGHTS_NOT_FOLLOWED, "WorkloadClass/chat")
OF_ALL = (Reason.WEIGHTS_NOT_FOLLOWED, "")
OBEYED = (Reason.OBEYED, "")
CHAT = targets(chat=800)
TWO = targets(chat=1000, code=0)
GATED = replace(FLEET, data_plane=replace(FLEET.data_plane, gate=GateUse.ENABLED))
EMPTY = (READY[0], replace(READY[1], ready=0))


@pytest.mark.parametrize(
    ("snapshot", "ordered", "expected"),
    [
        pytest.param(view({"chat": shares(800, 200)}), CHAT, OBEYED, id="as ordered"),
        pytest.param(view({"chat": shares(200, 800)}), CHAT, ASTRAY, id="the other way round"),
        pytest.param(view({"chat": shares(1, 4)}), CHAT, OBEYED, id="five requests prove nothing"),
        pytest.param(view({"chat": shares(760, 240)}), CHAT, OBEYED, id="within the dead band"),
        pytest.param(view({"chat": shares(66000, 34000)}), CHAT, ASTRAY, id="many requests prove a lesser difference"),
        pytest.param(view({"chat": shares(0, 0)}), CHAT, OBEYED, id="no traffic"),
        pytest.param(view({"chat": shares(200, 800)}, fleet=GATED), CHAT, OBEYED, id="the gate places requests itself"),
        pytest.param(view({"chat": shares(1000, 0)}, supplies=EMPTY), CHAT, OBEYED, id="a pool without replicas"),
        pytest.param(view({"chat": shares(800, 200)}, supplies=EMPTY), CHAT, ASTRAY, id="and yet it gets requests"),
        pytest.param(
            view(of_all=shares(750, 250), rates={"chat": 3, "code": 1}), TWO, OBEYED, id="all classes together"
        ),
        pytest.param(
            view(of_all=shares(500, 500), rates={"chat": 3, "code": 1}), TWO, OF_ALL, id="all together, astray"
        ),
        pytest.param(
            view(of_all=shares(500, 500), rates={"chat": 3}), TWO, OBEYED, id="one rate is not known: no judgement"
        ),
        pytest.param(
            view(of_all=shares(500, 500), rates={"chat": 3, "code": 1}, strangers=2.0),
            TWO,
            OBEYED,
            id="strangers among them: no judgement",
        ),
        pytest.param(
            view({"code": shares(0, 900)}, shares(200, 900), rates={"chat": 3, "code": 1}),
            TWO,
            OBEYED,
            id="where a class can be told apart, the sum is not asked",
        ),
    ],
)
def test_what_shares_say(snapshot: Snapshot, ordered: Targets, expected: tuple[Reason, str]) -> None:
    assert told(snapshot, ordered) == [expected]


def test_requests_from_before_the_weights_are_not_held_against_them() -> None:
    snapshot = view({"chat": shares(200, 800, since=NOW - 60)})
    assert told(snapshot, CHAT, since=NOW - 59) == [OBEYED]
    assert told(snapshot, CHAT, since=NOW - 60) == [ASTRAY]


def test_weights_keep_their_age_while_limits_move() -> None:
    first = targets(chat=800)
    _, memory = verify(view(), first, VerifyMemory())
    limited = replace(first, classes=(replace(first.classes[0], rate_limit=3.0),))
    later = replace(view(), now=NOW + 30)
    _, memory = verify(later, limited, memory)
    assert (memory.since, memory.weights["chat"][1]) == (NOW + 30, NOW)
    _, memory = verify(later, targets(chat=700), memory)
    assert memory.weights["chat"][1] == NOW + 30


@given(total=st.integers(1, 100_000), share=st.floats(0, 1))
def test_the_bound_holds_the_share_and_narrows(total: int, share: float) -> None:
    found = round(share * total)
    low, high = wilson_bounds(found, total, CONFIDENCE_DEVIATIONS)
    wider = wilson_bounds(found / 2, total / 2, CONFIDENCE_DEVIATIONS)
    assert -1e-9 <= low <= found / total + 1e-9
    assert found / total - 1e-9 <= high <= 1 + 1e-9
    assert high - low <= wider[1] - wider[0]
