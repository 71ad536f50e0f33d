"""Limits only where the plan rations; loosened at once, tightened slowly, never for noise."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from tests.values import class_plan, plan_of, pool, ttft_promise, workload

from sluice.model.decision import ClassTarget, Targets
from sluice.model.fleet import (
    DataPlane,
    DataPlaneKind,
    Fleet,
    LimitKind,
    WorkloadClass,
)
from sluice.model.plan import Plan
from sluice.policy.targets import Memory, open_targets, targets


def fleet(limit: LimitKind = LimitKind.RATE) -> Fleet:
    plane = DataPlane(kind=DataPlaneKind.ENVOY_FILES, limit=limit)
    return Fleet(namespace="demo", name="fleet", pools=(pool("a"), pool("b")), data_plane=plane)


CHAT = workload("chat")


def plan(
    admitted: float,
    offered: float,
    in_flight: int | None = 20,
    weights: tuple[int, int] = (700, 300),
    replicas: tuple[int, int] = (2, 2),
    plan_id: str = "p",
) -> Plan:
    entry = class_plan(
        "chat",
        admitted=admitted,
        offered=offered,
        weights=dict(zip("ab", weights, strict=True)),
        in_flight_limit=in_flight if admitted < offered else None,
    )
    return plan_of(entry, replicas=dict(zip("ab", replicas, strict=True)), plan_id=plan_id)


class Course:
    """Targets for a sequence of plans, one memory."""

    def __init__(self, limit: LimitKind = LimitKind.RATE, workload: WorkloadClass = CHAT, proxies: int = 1) -> None:
        self.fleet, self.workload, self.proxies = fleet(limit), workload, proxies
        self.memory = Memory.empty()

    def at(self, now: float, wanted: Plan) -> ClassTarget:
        ordered, self.memory = targets(wanted, self.fleet, (self.workload,), self.memory, now, self.proxies)
        return ordered.classes[0]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        pytest.param(LimitKind.RATE, (8.0, None, 40), id="rate: a bucket, and a fence at twice the in-flight limit"),
        pytest.param(LimitKind.IN_FLIGHT, (None, 32, None), id="in flight: a breaker, a step below the offered load"),
        pytest.param(LimitKind.BOTH, (8.0, 32, None), id="both: the breaker is exact, so no fence"),
        pytest.param(LimitKind.NONE, (None, None, None), id="none: the gate does it"),
    ],
)
def test_a_rationed_class_gets_the_declared_kind_of_limit(
    limit: LimitKind, expected: tuple[float | None, int | None, int | None]
) -> None:
    target = Course(limit).at(0, plan(5, 10))
    assert (target.rate_limit, target.in_flight_limit, target.fence) == expected


@pytest.mark.parametrize("limit", list(LimitKind))
def test_a_class_planned_in_full_has_no_limit(limit: LimitKind) -> None:
    target = Course(limit).at(0, plan(10, 10))
    assert (target.rate_limit, target.in_flight_limit, target.fence) == (None, None, None)


def test_a_limit_starts_at_the_offered_rate_and_falls_a_fifth_a_period_down_to_the_plan() -> None:
    course = Course()
    rates = [course.at(10.0 * step, plan(5, 10)).rate_limit for step in range(6)]
    assert rates == pytest.approx([8.0, 6.4, 5.12, 5.12, 5.12, 5.12])  # 5.12 is within the dead band of 5


def test_passes_between_two_solves_do_not_add_steps() -> None:
    course = Course()
    course.at(0, plan(5, 10))
    assert course.at(0, plan(5, 10)).rate_limit == pytest.approx(8.0)
    course.at(5, plan(5, 10))
    rate = course.at(10, plan(5, 10)).rate_limit
    assert rate is not None
    assert rate >= 6.4 - 1e-9


def test_a_limit_is_loosened_and_removed_at_once() -> None:
    course = Course()
    for step in range(4):
        course.at(10.0 * step, plan(5, 10))
    assert course.at(41, plan(9, 10)).rate_limit == 9
    gone = course.at(42, plan(10, 10))
    assert (gone.rate_limit, gone.fence) == (None, None)


def edge(admitted: float, others_admitted: float, other_pool: str = "a") -> Plan:
    """Chat beside a class that asks for 5 a second; chat planned in full occupies 20."""
    chat = class_plan(
        "chat",
        admitted=admitted,
        offered=10,
        weights={"a": 1000},
        in_flight_limit=15 if admitted < 10 else None,
        decode_mixed=20,
    )
    limit = 1 if others_admitted < 5 else None
    other = class_plan("batch", admitted=others_admitted, offered=5, weights={other_pool: 1000}, in_flight_limit=limit)
    return plan_of(chat, other, replicas={"a": 2, "b": 2})


@pytest.mark.parametrize(
    ("limit", "now_wanted", "expected"),
    [
        pytest.param(LimitKind.BOTH, edge(10, 1), (None, 22), id="stays, a tenth above what is needed"),
        pytest.param(LimitKind.IN_FLIGHT, edge(10, 1), (None, 22), id="also alone"),
        pytest.param(LimitKind.RATE, edge(10, 1), (None, None), id="a rate, which cannot correct itself, goes"),
        pytest.param(LimitKind.BOTH, edge(10, 5), (None, None), id="goes where there is room for all"),
        pytest.param(LimitKind.BOTH, edge(10, 1, "b"), (None, None), id="goes where another pool is the full one"),
    ],
)
def test_in_a_full_pool_the_in_flight_limit_of_a_class_at_the_edge(
    limit: LimitKind, now_wanted: Plan, expected: tuple[float | None, int | None]
) -> None:
    course = Course(limit)
    for step in range(9):
        course.at(10.0 * step, edge(7, 1))
    target = course.at(90, now_wanted)
    assert (target.rate_limit, target.in_flight_limit) == expected
    assert course.at(90, now_wanted) == target


def test_a_class_at_the_edge_flaps_at_most_once_per_dwell() -> None:
    course = Course()
    limited = []
    for step in range(60):  # ten minutes, rationed in every second plan
        wanted = plan(7, 10) if step % 2 else plan(10, 10)
        limited.append(course.at(10.0 * step, wanted).rate_limit is not None)
    entries = sum(now and not before for before, now in itertools.pairwise(limited))
    assert 1 <= entries <= 10


def test_a_slight_shortfall_gets_a_limit_only_when_it_lasts_a_dwell() -> None:
    course = Course()
    assert course.at(0, plan(9.7, 10)).rate_limit is None
    assert course.at(50, plan(9.7, 10)).rate_limit is None
    assert course.at(60, plan(9.7, 10)).rate_limit == pytest.approx(9.7)


@pytest.mark.parametrize(
    ("proxies", "rate", "in_flight"),
    [
        pytest.param(1, 1 / 60, 1, id="one request in flight and one a minute"),
        pytest.param(4, 4 / 60, 4, id="the same at each of four proxies"),
    ],
)
def test_a_class_that_is_planned_nothing_is_starved_only_if_closable(proxies: int, rate: float, in_flight: int) -> None:
    for closable in (False, True):
        course = Course(LimitKind.BOTH, replace(CHAT, closable=closable), proxies)
        for step in range(60):
            target = course.at(10.0 * step, plan(0, 10, 0))
        limits = (target.rate_limit, target.in_flight_limit)
        assert limits == ((None, 0) if closable else (pytest.approx(rate, rel=0.06), in_flight))


def test_a_closed_class_opens_at_once() -> None:
    course = Course(LimitKind.RATE, replace(CHAT, closable=True))
    for step in range(60):
        closed = course.at(10.0 * step, plan(0, 10, 0))
    assert (closed.in_flight_limit, closed.rate_limit) == (0, None)
    opened = course.at(601, plan(3, 10))
    assert (opened.in_flight_limit, opened.rate_limit) == (None, 3)


@pytest.mark.parametrize(
    ("ceiling", "expected"),
    [
        pytest.param(10, (10, None), id="a ceiling below the fence is the breaker"),
        pytest.param(100, (None, 40), id="a fence below the ceiling is the breaker: a proxy has only one"),
    ],
)
def test_the_users_ceiling_holds_beside_a_rate_limit(ceiling: int, expected: tuple[int | None, int | None]) -> None:
    workload = replace(CHAT, in_flight_ceiling=ceiling)
    target = Course(workload=workload).at(0, plan(5, 10))
    assert (target.in_flight_limit, target.fence) == expected
    assert Course(workload=workload).at(0, plan(10, 10)).in_flight_limit == ceiling


def test_the_fence_moves_once_per_fence_dwell_unless_the_plan_outgrows_it() -> None:
    course = Course()
    assert course.at(0, plan(5, 10, 20)).fence == 40
    assert course.at(100, plan(5, 10, 30)).fence == 40
    assert course.at(200, plan(5, 10, 41)).fence == 82
    assert course.at(700, plan(5, 10, 10)).fence == 82
    assert course.at(800, plan(5, 10, 10)).fence == 20


def test_weights_move_once_per_dwell_and_not_within_the_band() -> None:
    course = Course()
    assert course.at(0, plan(10, 10)).weights == (("a", 700), ("b", 300))
    assert course.at(100, plan(10, 10, weights=(740, 260))).weights == (("a", 700), ("b", 300))
    assert course.at(110, plan(10, 10, weights=(500, 500))).weights == (("a", 500), ("b", 500))
    assert course.at(120, plan(10, 10, weights=(700, 300))).weights == (("a", 500), ("b", 500))
    assert course.at(170, plan(10, 10, weights=(700, 300))).weights == (("a", 700), ("b", 300))


def test_a_pool_without_replicas_loses_its_share_at_once() -> None:
    course = Course()
    course.at(0, plan(10, 10))
    moved = course.at(1, plan(10, 10, weights=(0, 1000), replicas=(0, 2)))
    assert moved.weights == (("a", 0), ("b", 1000))


def test_a_class_that_is_planned_nothing_keeps_its_weights() -> None:
    course = Course()
    course.at(0, plan(10, 10))
    assert course.at(100, plan(0, 10, weights=(0, 0))).weights == (("a", 700), ("b", 300))
    assert Course().at(0, plan(0, 10, weights=(0, 0), replicas=(3, 1))).weights == (("a", 750), ("b", 250))


def test_a_restarted_operator_recalls_what_stands_and_changes_nothing() -> None:
    course = Course(workload=replace(CHAT, in_flight_ceiling=100))
    for step in range(6):
        course.at(10.0 * step, plan(5, 10))
    standing = course.memory.ordered
    assert standing is not None
    recalled = Memory.recall(standing, (course.workload,), 60)
    again, _ = targets(plan(5, 10), course.fleet, (course.workload,), recalled, 60)
    assert again == standing


def test_equal_targets_keep_the_id_of_the_plan_that_made_them() -> None:
    course = Course()
    course.at(0, plan(10, 10, plan_id="first"))
    course.at(10, plan(10.2, 10.2, plan_id="second"))
    assert isinstance(course.memory.ordered, Targets)
    assert course.memory.ordered.plan_id == "first"


def test_open_targets_lift_our_limits_and_keep_weights_and_ceilings() -> None:
    course = Course(workload=replace(CHAT, in_flight_ceiling=50))
    course.at(0, plan(5, 10))
    opened, memory = open_targets(course.fleet, (course.workload,), {"a": 1, "b": 1}, course.memory)
    assert opened.classes[0] == ClassTarget(
        name="chat", rate_limit=None, in_flight_limit=50, fence=None, weights=(("a", 700), ("b", 300))
    )
    assert not memory.classes["chat"].limited


@pytest.mark.parametrize(
    ("promise", "burst"),
    [
        pytest.param(None, 40, id="five seconds' worth where nothing is promised"),
        pytest.param(2.0, 16, id="the TTFT promise's worth"),
        pytest.param(60.0, 80, id="at most ten seconds' worth"),
    ],
)
def test_the_bucket_is_as_deep_as_the_promise(promise: float | None, burst: int) -> None:
    workload = CHAT if promise is None else replace(CHAT, slis=(ttft_promise(promise),))
    assert Course(workload=workload).at(0, plan(5, 10)).burst == burst
