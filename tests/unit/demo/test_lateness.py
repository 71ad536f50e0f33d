"""A machine that is too busy is noticed, and the figure survives its way through the metrics."""

from __future__ import annotations

import pytest

from sluice.demo import lateness
from sluice.demo.lateness import TRUSTED_SECONDS, Lateness


def counted(*seconds: float) -> Lateness:
    result = Lateness()
    for each in seconds:
        result.add(each)
    return result


@pytest.mark.parametrize(
    ("late", "trusted"),
    [
        ([], True),
        ([0.0] * 100, True),
        ([0.0] * 99 + [5.0], True),
        ([0.0] * 97 + [5.0] * 3, False),
        ([TRUSTED_SECONDS] * 10, True),
        ([2 * TRUSTED_SECONDS] * 10, False),
    ],
)
def test_one_timer_in_a_hundred_may_be_late(late: list[float], trusted: bool) -> None:
    assert counted(*late).trusted is trusted


def test_a_quantile_is_never_below_what_was_counted() -> None:
    assert counted(0.004).quantile(0.99) == 0.005
    assert counted(7.0).quantile(0.99) == float("inf")


def test_what_replicas_expose_adds_up() -> None:
    expositions = ["\n".join(counted(*late).lines()) for late in ([0.0, 0.03], [0.5, 9.0])]
    total = lateness.read(["# nothing else", *expositions])
    assert total.number == 4
    assert total.counts == counted(0.0, 0.03, 0.5, 9.0).counts
