"""Whatever step a crash follows, the data plane is no looser than before or after on any weight."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice.actuate.order import breaker, steps
from sluice.model.decision import ClassTarget, Targets

BASE = ClassTarget(
    name="chat", rate_limit=10.0, burst=50, in_flight_limit=None, fence=40, weights=(("a", 700), ("b", 300))
)
MOVED = (("a", 200), ("b", 800))


def ordered(*classes: ClassTarget) -> Targets:
    return Targets(plan_id="p", classes=classes)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param(BASE, [BASE], id="nothing to do is one step"),
        pytest.param(replace(BASE, rate_limit=8.0), [replace(BASE, rate_limit=8.0)], id="tightening alone is one step"),
        pytest.param(
            replace(BASE, rate_limit=8.0, weights=MOVED),
            [replace(BASE, rate_limit=8.0), replace(BASE, rate_limit=8.0, weights=MOVED)],
            id="tighten, then shift load",
        ),
        pytest.param(
            replace(BASE, rate_limit=None, burst=None, fence=None, weights=MOVED),
            [replace(BASE, weights=MOVED), replace(BASE, rate_limit=None, burst=None, fence=None, weights=MOVED)],
            id="shift load, then loosen",
        ),
        pytest.param(
            replace(BASE, rate_limit=20.0, burst=100, fence=20, weights=MOVED),
            [
                replace(BASE, fence=20),
                replace(BASE, fence=20, weights=MOVED),
                replace(BASE, rate_limit=20.0, burst=100, fence=20, weights=MOVED),
            ],
            id="tighten one limit, shift load, loosen the other",
        ),
        pytest.param(
            replace(BASE, rate_limit=20.0, burst=100, weights=(("a", 500), ("c", 500))),
            [
                replace(BASE, weights=(("a", 500), ("c", 500))),
                replace(BASE, rate_limit=20.0, burst=100, weights=(("a", 500), ("c", 500))),
            ],
            id="weights of pools that are gone are not held",
        ),
    ],
)
def test_writes_tighten_then_move_then_loosen(wanted: ClassTarget, expected: list[ClassTarget]) -> None:
    assert list(steps(ordered(BASE), ordered(wanted))) == [ordered(step) for step in expected]


def test_a_first_order_and_a_new_class_are_written_as_they_are() -> None:
    wanted = ordered(BASE, replace(BASE, name="code"))
    assert steps(None, wanted) == (wanted,)
    assert steps(ordered(BASE), wanted) == (wanted,)


@pytest.mark.parametrize(
    ("limit", "fence", "expected"), [(None, None, None), (3, None, 3), (None, 7, 7), (9, 7, 7), (0, 7, 0)]
)
def test_a_proxy_has_one_breaker_the_tighter_one(limit: int | None, fence: int | None, expected: int | None) -> None:
    assert breaker(replace(BASE, in_flight_limit=limit, fence=fence)) == expected
