"""From decoded answers to samples: what is missing, stale or no number is a gap with its reason, never zero.

A counter that exists and did not move *is* a rate of zero: whether a series is there and
fresh is told by the time of its newest point, not by its value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sluice.model.signal import GapReason, Sample, Source
from sluice.observe.catalogue import Formula
from sluice.observe.promql import Readings

_SEVERITY = (
    GapReason.NO_SERIES,
    GapReason.TOO_YOUNG,
    GapReason.STALE,
    GapReason.NOT_A_NUMBER,
    GapReason.UNREACHABLE,
)
"""Among alternatives of one source the last of these is told: the one that came closest to a sample."""


def sample(
    formulas: Sequence[Formula], readings: Readings, key: str, source: Source, *, now: float, maximum_age: float
) -> Sample | GapReason:
    """The first formula that gives a number, else the most telling reason why none does."""
    reasons: list[GapReason] = []
    for formula in formulas:
        outcome = evaluate(formula, readings, key, source, now=now, maximum_age=maximum_age)
        if isinstance(outcome, Sample):
            return outcome
        reasons.append(outcome)
    return max(reasons, key=_SEVERITY.index, default=GapReason.NOT_CONFIGURED)


def evaluate(
    formula: Formula, readings: Readings, key: str, source: Source, *, now: float, maximum_age: float
) -> Sample | GapReason:
    """One formula for one class."""
    at_seconds = readings.newest.get((key, formula.dated_by))
    if at_seconds is None:
        return GapReason.NO_SERIES
    if not now - at_seconds <= maximum_age:
        return GapReason.STALE
    if readings.value(key, formula.dated_by) is None:
        return GapReason.TOO_YOUNG
    if any(readings.value(key, term) is None for term in formula.needs):
        return GapReason.NO_SERIES
    value = _total(formula.plus, readings, key) - _total(formula.minus, readings, key)
    if formula.per is not None:
        divisor = readings.value(key, formula.per) or 0.0
        value = value / divisor if divisor > 0 else math.nan
    if not math.isfinite(value):
        return GapReason.NOT_A_NUMBER
    return Sample(value=max(0.0, value), at_seconds=min(at_seconds, now), source=source)


def share_within(buckets: Sequence[tuple[float, float]], promise: float) -> float | None:
    """Share of a histogram's observations at or below ``promise``, 0..1; None without observations.

    ``buckets`` are (upper bound, cumulative count or rate) in order, the last one +Inf. Between
    bounds observations are taken as spread evenly. Beyond the last finite bound nothing is
    known of where they lie, so only those below it count: the share is never too good.
    """
    if not buckets or not math.isinf(buckets[-1][0]):
        return None
    total = buckets[-1][1]
    if not math.isfinite(total) or total <= 0:
        return None
    lower, below = 0.0, 0.0
    for upper, cumulative in buckets:
        if promise < upper:
            inside = 0.0 if math.isinf(upper) else (promise - lower) / (upper - lower) if upper > lower else 0.0
            return _unit((below + max(0.0, cumulative - below) * max(0.0, inside)) / total)
        lower, below = upper, max(below, cumulative)
    return 1.0


def attribute_refusals(
    shared_rate: float, admitted: Mapping[str, float], limits: Mapping[str, float]
) -> Mapping[str, float]:
    """Split refusals that a proxy counts for all its routes together (Envoy Gateway) among limited classes.

    With one limited class the answer is exact. With several it is an estimate: refusals go
    to the classes that use up their limit (nine tenths of it, for token buckets are coarse),
    in proportion to the limits. Rates and limits are per second of the whole fleet.
    """
    if len(limits) <= 1:
        return dict.fromkeys(limits, shared_rate)
    full = {name: limit for name, limit in limits.items() if admitted.get(name, 0.0) >= _USED_UP * limit}
    candidates = full or limits
    weight = sum(candidates.values())
    if weight <= 0:
        return {name: shared_rate / len(candidates) for name in candidates}
    return {name: shared_rate * limit / weight for name, limit in candidates.items()}


_USED_UP = 0.9
"""Share of a limit from which on it is taken as binding."""


def _total(terms: Sequence[str], readings: Readings, key: str) -> float:
    return math.fsum(readings.value(key, term) or 0.0 for term in terms)


def _unit(share: float) -> float:
    return min(1.0, max(0.0, share))
