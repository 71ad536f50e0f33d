"""A fleet-wide limit as every ready proxy has to hold it, for proxies that share nothing.

Each proxy counts for itself, so a limit is divided by the number of ready proxies and
rounded up: the sum over proxies is never below the plan (refusing what the plan serves
costs throughput; admitting a little more costs order).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

ROUNDING = 1e-9
"""Relative slack, so that 30.000000001 is not rounded up to 31."""
COARSEST_ROUNDING = 0.10
"""Per second is taken while rounding up to whole requests costs at most this much.

At 1.2 requests per second a whole number per second would be 2: two thirds over the plan,
and no limit at all for a class that is offered 1.8. Per minute it is 72, exactly.
"""


class RateUnit(StrEnum):
    """The unit of a proxy's rate limit (Envoy Gateway ``rateLimit.local.rules[].limit.unit``)."""

    SECOND = "Second"
    MINUTE = "Minute"

    @property
    def seconds(self) -> int:
        """Length of the unit."""
        return {RateUnit.SECOND: 1, RateUnit.MINUTE: 60}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRate:
    """Whole requests per unit for one proxy."""

    requests: int
    unit: RateUnit

    @property
    def per_second(self) -> float:
        """The same as requests per second."""
        return self.requests / self.unit.seconds


def rate_per_proxy(rate: float, proxies: int) -> ProxyRate:
    """The rate limit of each of ``proxies`` for a fleet-wide ``rate`` (requests per second, above zero).

    Per second where rounding up to whole requests stays within a tenth, else per minute.
    Short units matter because Envoy Gateway's bucket is one unit deep: a limit per minute
    lets a full minute's requests pass at once. Longer units than a minute are not used:
    their buckets would outlast any plan.
    """
    if rate <= 0.0:
        raise ValueError("a rate limit is above zero; a class is closed by its in-flight limit")
    share = rate / max(1, proxies)
    per_second = _up(share)
    if per_second <= share * (1.0 + COARSEST_ROUNDING):
        return ProxyRate(requests=per_second, unit=RateUnit.SECOND)
    return ProxyRate(requests=_up(share * 60), unit=RateUnit.MINUTE)


def in_flight_per_proxy(limit: int, proxies: int) -> int:
    """The in-flight limit of each of ``proxies``; zero (closed) stays zero, all else is at least one."""
    return -(-limit // max(1, proxies))


def _up(value: float) -> int:
    """Round up, forgiving float noise; at least one request."""
    return max(1, math.ceil(value * (1.0 - ROUNDING)))
