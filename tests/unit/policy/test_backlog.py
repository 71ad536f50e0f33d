"""While requests wait, rationed classes are admitted less than planned, and only they."""

from __future__ import annotations

import pytest
from tests.values import class_plan, plan_of, pool, workload

from sluice.model.fleet import ControlSettings, DataPlane, Fleet, LimitKind
from sluice.model.plan import ClassPlan, Plan
from sluice.policy.backlog import DRAIN_SECONDS, LEAST_RELIEF, reliefs
from sluice.policy.targets import Memory, targets

FLEET = Fleet(
    namespace="demo",
    name="fleet",
    pools=(pool("a"), pool("b")),
    data_plane=DataPlane(limit=LimitKind.RATE),
    control=ControlSettings(),
)


def entry(name: str, rate: float, offered: float, decoding: float, pool: str = "a") -> ClassPlan:
    """A class with a tenth of a second of prefill per request."""
    return class_plan(
        name,
        admitted=rate,
        offered=offered,
        weights={pool: 1000},
        prefill=0.1 * rate,
        decode_mixed=decoding,
        in_flight_limit=40 if rate < offered else None,
    )


def plan(*classes: ClassPlan) -> Plan:
    return plan_of(*classes, replicas={"a": 2, "b": 2})


CHAT, BATCH = entry("chat", 6.0, 6.0, 30.0), entry("batch", 6.0, 12.0, 30.0)
"""Half of the fleet each; batch is rationed."""


@pytest.mark.parametrize(
    ("classes", "ttft", "expected"),
    [
        pytest.param((CHAT, BATCH), {}, 1.0, id="nothing measured: the plan's rate"),
        pytest.param((CHAT, BATCH), {"chat": 0.1, "batch": 0.1}, 1.0, id="nobody waits: the plan's rate"),
        pytest.param((CHAT, BATCH), {"chat": 0.05}, 1.0, id="quicker than planned: never more than the plan"),
        pytest.param(
            (CHAT, BATCH),
            {"chat": 3.35, "batch": 3.35},
            1 - 3 / (0.5 * DRAIN_SECONDS),
            id="three seconds of queue, half of the capacity to give",
        ),
        pytest.param((CHAT, BATCH), {"chat": 3.35}, 1 - 3 / (0.5 * DRAIN_SECONDS), id="the measured classes speak"),
        pytest.param((CHAT, BATCH), {"chat": 60.0}, LEAST_RELIEF, id="a long queue: never below the floor"),
        pytest.param(
            (entry("chat", 6.0, 6.0, 30.0, "b"), BATCH),
            {"chat": 60.0, "batch": 0.1},
            1.0,
            id="a queue in a pool that the class does not use is not its to drain",
        ),
    ],
)
def test_the_rate_falls_by_the_capacity_that_empties_the_queue(
    classes: tuple[ClassPlan, ...], ttft: dict[str, float], expected: float
) -> None:
    assert reliefs(plan(*classes), ttft) == {"batch": pytest.approx(expected)}


def ordered_rates(ttft: list[float], pause: float = 10.0) -> list[float | None]:
    """The rate limit of batch after each pass, for a course of measured times to first token."""
    memory, found = Memory.empty(), []
    for step, seconds in enumerate(ttft):
        waits = {"chat": seconds, "batch": seconds}
        wanted, memory = targets(
            plan(CHAT, BATCH), FLEET, (workload("chat"), workload("batch")), memory, pause * step, 1, waits
        )
        assert wanted.classes[0].rate_limit is None, "a class planned in full is never limited"
        found.append(wanted.classes[1].rate_limit)
    return found


def test_a_lasting_queue_is_answered_once_and_steadily() -> None:
    rates = ordered_rates([4.85] * 30)
    assert rates == sorted(rates, key=lambda rate: -(rate or 0.0))
    assert rates[-1] == pytest.approx(6.0 * 0.7, rel=0.05)
    assert len(set(rates[12:])) == 1


def test_when_the_queue_is_gone_the_plan_is_back_at_once() -> None:
    assert ordered_rates([9.1] * 20 + [0.1])[-1] == pytest.approx(6.0)


def test_a_passing_wait_within_the_dead_band_writes_nothing() -> None:
    calm = ordered_rates([0.1] * 30)
    rippled = ordered_rates([0.1] * 20 + [0.1, 0.3, 0.2, 0.4, 0.1, 0.3, 0.2, 0.4, 0.1, 0.1])
    assert rippled[20:] == calm[20:]


def test_a_slight_shortfall_is_limited_at_once_while_a_queue_stands() -> None:
    nearly = entry("batch", 11.8, 12.0, 30.0)
    for seconds, limited in ((0.1, False), (5.0, True)):
        waits = {"chat": seconds, "batch": seconds}
        wanted, _ = targets(plan(CHAT, nearly), FLEET, (workload("batch"),), Memory.empty(), 0.0, 1, waits)
        assert (wanted.classes[0].rate_limit is not None) is limited


@pytest.mark.parametrize("queue_seconds", [1.0, 5.0, 15.0])
def test_a_fluid_queue_seen_through_a_window_drains_and_stays_away(queue_seconds: float) -> None:
    """A full fleet with a queue, its waits told as the mean of the last minute: late, as Prometheus tells them."""
    memory, wait, seen = Memory.empty(), queue_seconds, [queue_seconds] * 6
    capacity, idle, course = 12.0, 0.0, []
    for step in range(60):
        told = 0.1 + sum(seen[-6:]) / 6
        wanted, memory = targets(
            plan(CHAT, BATCH),
            FLEET,
            (workload("chat"), workload("batch")),
            memory,
            10.0 * step,
            1,
            {"chat": told, "batch": told},
        )
        admitted = 6.0 + (wanted.classes[1].rate_limit or 12.0)
        change = 10.0 * (admitted / capacity - 1.0)
        idle += max(0.0, -(wait + change))
        wait = max(0.0, wait + change)
        seen.append(wait)
        course.append(wait)
    assert max(course[30:]) < 1.0  # within five minutes, and it does not come back
    assert idle < 0.05 * 600  # what the lateness of the measurement costs, seconds of the fleet
