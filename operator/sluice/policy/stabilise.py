"""Hysteresis in one place: dead band, bounded step, whole weights. Pure arithmetic.

Every number that leaves for a data plane passes through here, so that a plan that jitters
writes nothing, a limit never falls faster than declared, and weights are whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

WEIGHT_TOTAL = 1000
"""Weights of a route are permille."""
ROUNDING = 1e-9
"""Relative slack for comparisons of computed floats: solver noise is not a change."""


def within_band(standing: float, wanted: float, band: float) -> bool:
    """Whether ``wanted`` is too near to ``standing`` (relative distance) to be worth a write."""
    return abs(wanted - standing) <= band * standing + ROUNDING * abs(standing)


def approach(standing: float, wanted: float, *, band: float, largest_step: float, periods: float) -> float:
    """The next value of a limit that stands at ``standing`` and should be at ``wanted``.

    Loosening is immediate. Tightening is at most ``largest_step`` (relative) per solve
    period; ``periods`` is how many of them have passed since the last tightening, and more
    than one counts as one, so that a pause of the loop does not earn a plunge. What is
    closer than the dead band stays.
    """
    if within_band(standing, wanted, band):
        return standing
    if wanted > standing:
        return wanted
    lowest = standing * (1.0 - largest_step) ** min(1.0, max(0.0, periods))
    step = max(wanted, lowest)
    # A fraction of a period allows a fraction of a step: small ones add up before they are written.
    return standing if within_band(standing, step, band) and step > wanted else step


def whole_down(standing: int, step: float, wanted: int) -> int:
    """``step`` as a whole number that is never tighter than it, yet moves on.

    Rounding up could hold a small limit for ever (80 % of 3 is 2.4, again 3); below five
    in flight one request is the smallest step there is.
    """
    if step >= standing:
        return math.ceil(step - ROUNDING)
    return max(wanted, min(math.ceil(step - ROUNDING), standing - 1))


def largest_remainder(shares: Sequence[float], total: int = WEIGHT_TOTAL) -> tuple[int, ...]:
    """Whole numbers proportional to ``shares`` that sum to ``total`` (Hamilton's method).

    A share of zero stays zero: no request may be sent where the plan sends none. Ties go
    to the earlier entry, so equal input gives equal output. ``shares`` must not all be zero.
    """
    whole_sum = math.fsum(shares)
    if not shares or whole_sum <= 0.0 or min(shares) < 0.0:
        raise ValueError("shares must be non-negative and not all zero")
    exact = [share / whole_sum * total for share in shares]
    floors = [math.floor(value + ROUNDING) for value in exact]
    missing = total - sum(floors)
    by_remainder = sorted(
        (index for index, share in enumerate(shares) if share > 0.0),
        key=lambda index: (floors[index] - exact[index], index),
    )
    for index in by_remainder[:missing]:
        floors[index] += 1
    return tuple(floors)


def weights_differ(standing: Sequence[tuple[str, int]], wanted: Sequence[tuple[str, int]], band: float) -> bool:
    """Whether the wanted (pool, permille) pairs are worth a write.

    The band is in points of the whole (5 % of 1000 permille is 50): a relative band would
    chase noise in small shares. A pool that gains or loses its last share always counts.
    """
    before, after = dict(standing), dict(wanted)
    if before.keys() != after.keys():
        return True
    return any(
        abs(after[pool] - before[pool]) > band * WEIGHT_TOTAL or (after[pool] == 0) != (before[pool] == 0)
        for pool in after
    )
