"""What each proxy must hold so that all of them hold the plan."""

from __future__ import annotations

import pytest

from sluice.policy.division import RateUnit, in_flight_per_proxy, rate_per_proxy


@pytest.mark.parametrize(
    ("rate", "proxies", "requests", "unit"),
    [
        pytest.param(30.0, 3, 10, RateUnit.SECOND, id="whole requests per second"),
        pytest.param(95.0, 10, 10, RateUnit.SECOND, id="rounding up by a twentieth is per second"),
        pytest.param(1.2, 1, 72, RateUnit.MINUTE, id="rounding up by two thirds is not: per minute"),
        pytest.param(0.5, 1, 30, RateUnit.MINUTE, id="below one per second is per minute"),
        pytest.param(0.001, 2, 1, RateUnit.MINUTE, id="never below one per minute"),
    ],
)
def test_a_rate_is_divided_into_whole_requests(rate: float, proxies: int, requests: int, unit: RateUnit) -> None:
    share = rate_per_proxy(rate, proxies)
    assert (share.requests, share.unit) == (requests, unit)


def test_a_rate_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="above zero"):
        rate_per_proxy(0.0, 1)


@pytest.mark.parametrize(("limit", "proxies", "share"), [(10, 3, 4), (9, 3, 3), (1, 5, 1), (0, 5, 0), (7, 0, 7)])
def test_an_in_flight_limit_is_rounded_up_and_closed_stays_closed(limit: int, proxies: int, share: int) -> None:
    assert in_flight_per_proxy(limit, proxies) == share
