"""Quantiles of Student's t: how wide an interval is that rests on few measurements."""

from __future__ import annotations

import math
from statistics import NormalDist


def quantile(probability: float, degrees: int) -> float:
    """The value that a t variable with ``degrees`` of freedom stays below with ``probability``.

    One and two degrees in closed form, three and more by the expansion about the normal
    quantile (Abramowitz and Stegun 26.7.5): within 1 % from three degrees on at 97.5 %.
    """
    if not 0.5 <= probability < 1:
        raise ValueError("the expansion is meant for the upper half")
    if degrees < 1:
        raise ValueError("an interval needs at least one measurement more than parameters")
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:
        centred = 2 * probability - 1
        return centred * math.sqrt(2 / (1 - centred**2))
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / degrees**power for power, term in enumerate(terms))
