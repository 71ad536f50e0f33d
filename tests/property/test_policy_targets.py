"""What holds for every plan: bounded steps, no writes for noise, nobody starved, whole weights."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
from hypothesis import given, settings
from tests.values import class_plan, plan_of, pool, workload

from sluice.model.fleet import DataPlane, Fleet, LimitKind
from sluice.model.plan import Band, Plan
from sluice.policy.division import in_flight_per_proxy, rate_per_proxy
from sluice.policy.stabilise import largest_remainder
from sluice.policy.targets import Memory, targets

POOLS = ("a", "b", "c")
CHAT = workload("chat")


def fleet(limit: LimitKind) -> Fleet:
    pools = tuple(pool(name) for name in POOLS)
    return Fleet(namespace="demo", name="fleet", pools=pools, data_plane=DataPlane(limit=limit))


def plan(share: float, offered: float, in_flight: int, weights: tuple[int, ...], rationed: bool = True) -> Plan:
    admitted = share * offered if rationed else offered
    entry = class_plan(
        "chat",
        admitted=admitted,
        offered=offered,
        weights=dict(zip(POOLS, weights, strict=True)),
        band=Band.RATIONED if rationed else Band.FULL,
        rationed=rationed,
        prefill=1,
        decode_mixed=10,
        in_flight_limit=in_flight if rationed else None,
    )
    return plan_of(entry, replicas=dict.fromkeys(POOLS, 1))


weights = st.tuples(*[st.integers(0, 1000)] * 3)
plans = st.builds(
    plan,
    share=st.floats(0, 1),
    offered=st.floats(0.01, 1000),
    in_flight=st.integers(0, 500),
    weights=weights,
    rationed=st.booleans(),
)
steps = st.lists(st.tuples(st.floats(0, 700), plans), min_size=1, max_size=12)
waits = st.lists(st.floats(0, 100), min_size=12, max_size=12)
limits = st.sampled_from(list(LimitKind))


@given(steps, limits, st.integers(1, 7), waits)
@settings(max_examples=150)
def test_every_step_is_bounded_nobody_is_starved_and_weights_sum_to_a_thousand(
    course: list[tuple[float, Plan]], limit: LimitKind, proxies: int, ttft: list[float]
) -> None:
    memory, now, before = Memory.empty(), 0.0, None
    for (pause, wanted), seconds in zip(course, ttft, strict=False):
        now += pause
        ordered, memory = targets(wanted, fleet(limit), (CHAT,), memory, now, proxies, {"chat": seconds})
        target = ordered.classes[0]
        assert sum(weight for _, weight in target.weights) == 1000
        assert all(weight >= 0 for _, weight in target.weights)
        if target.rate_limit is not None:
            assert target.rate_limit >= proxies / 60 * (1 - 1e-9)
            if before is not None and before.rate_limit is not None:
                assert target.rate_limit >= 0.8 * before.rate_limit * (1 - 1e-9)
        if target.in_flight_limit is not None:
            assert target.in_flight_limit >= proxies
            if before is not None and before.in_flight_limit is not None:
                assert target.in_flight_limit >= min(before.in_flight_limit - 1, 0.8 * before.in_flight_limit)
        if not wanted.classes[0].rationed:
            assert (target.rate_limit, target.in_flight_limit, target.fence) == (None, None, None)
        before = target


@given(steps, limits)
def test_asking_again_at_once_changes_nothing(course: list[tuple[float, Plan]], limit: LimitKind) -> None:
    memory, now = Memory.empty(), 0.0
    for pause, wanted in course:
        now += pause
        once, memory = targets(wanted, fleet(limit), (CHAT,), memory, now)
        twice, memory = targets(wanted, fleet(limit), (CHAT,), memory, now)
        assert twice == once


@given(
    st.floats(0.05, 0.9),
    st.floats(0.1, 1000),
    st.integers(20, 500),
    limits,
    st.lists(st.tuples(st.floats(-0.049, 0.049), st.floats(-0.02, 0.02)), min_size=1, max_size=10),
)
def test_noise_within_the_dead_band_writes_nothing(
    share: float, offered: float, in_flight: int, limit: LimitKind, noise: list[tuple[float, float]]
) -> None:
    memory, now = Memory.empty(), 0.0
    for _ in range(40):  # long enough for any limit to come down to the plan
        now += 10
        settled, memory = targets(plan(share, offered, in_flight, (500, 300, 200)), fleet(limit), (CHAT,), memory, now)
    standing = settled.classes[0]
    centre = (standing.rate_limit or share * offered) / offered
    middle = standing.in_flight_limit or in_flight
    for error, drift in noise:
        now += 100
        points = round(1000 * drift)
        noisy = plan(centre * (1 + error), offered, round(middle * (1 + error / 2)), (500 + points, 300 - points, 200))
        ordered, memory = targets(noisy, fleet(limit), (CHAT,), memory, now)
        assert ordered == settled or ordered.classes[0].fence != standing.fence
        if ordered.classes[0].fence != standing.fence:  # a fence follows the plan, not the limit that settled above it
            assert limit is LimitKind.RATE


@given(st.floats(0.05, 0.95), st.floats(0.1, 1000), st.integers(20, 500), limits, st.floats(0, 100))
def test_a_steady_plan_and_a_steady_wait_come_to_rest_and_no_lower_than_a_quarter(
    share: float, offered: float, in_flight: int, limit: LimitKind, seconds: float
) -> None:
    memory, course = Memory.empty(), []
    wanted = plan(share, offered, in_flight, (500, 300, 200))
    for step in range(60):
        ordered, memory = targets(wanted, fleet(limit), (CHAT,), memory, 10.0 * step, 1, {"chat": seconds})
        course.append(ordered.classes[0])
    rates = [target.rate_limit for target in course if target.rate_limit is not None]
    assert all(after <= before for before, after in itertools.pairwise(rates))
    assert all(rate >= max(1 / 60, 0.25 * share * offered) * (1 - 1e-9) for rate in rates)
    assert len({target.rate_limit for target in course[45:]}) == 1


@given(st.floats(1e-4, 1e5), st.integers(1, 50), st.integers(0, 10_000))
def test_the_proxies_together_hold_at_least_the_plan_and_little_more(rate: float, proxies: int, limit: int) -> None:
    share = rate_per_proxy(rate, proxies)
    total = share.per_second * proxies
    assert total >= rate * (1 - 1e-8)
    assert total <= max(rate * 1.1, rate + proxies / 60) * (1 + 1e-8)
    in_flight = in_flight_per_proxy(limit, proxies) * proxies
    assert limit <= in_flight < limit + proxies


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30).filter(lambda shares: sum(shares) > 1e-3))
def test_largest_remainder_sums_exactly_keeps_zeros_and_is_within_one(shares: list[float]) -> None:
    whole = largest_remainder(shares)
    assert sum(whole) == 1000
    for share, weight in zip(shares, whole, strict=True):
        exact = share / sum(shares) * 1000
        assert abs(weight - exact) < 1 + 1e-6
        assert weight == 0 or share > 0
