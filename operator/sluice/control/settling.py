"""What keeps status still while the world hums: a figure that barely moved is not news. Pure.

Without it every pass would write every object, because measured figures never repeat
exactly and ages tick. Each function takes what status says now and what could be said,
and answers with the former unless the difference matters.
"""

from __future__ import annotations

import re

from sluice.api.indicators import AttainmentStatus
from sluice.api.workload_class import DemandStatus, EstimateStatus

MESSAGE_TOLERANCE = 0.10
"""Figures in a message may be off by this share before it is told anew."""
LEAST_SHOWN = 0.0005
"""Smaller figures are shown as 0 in columns."""
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])")


def is_close(one: float, other: float, tolerance: float) -> bool:
    """Whether two figures are the same for a reader, relative to the larger."""
    return abs(one - other) <= tolerance * max(abs(one), abs(other))


def settled_message(before: str, after: str) -> str:
    """``before`` where ``after`` says the same with figures that barely moved."""
    if before == after or _NUMBER.sub("#", before) != _NUMBER.sub("#", after):
        return after
    pairs = zip(_NUMBER.findall(before), _NUMBER.findall(after), strict=True)
    return before if all(is_close(float(one), float(other), MESSAGE_TOLERANCE) for one, other in pairs) else after


def settled_demand(before: DemandStatus | None, after: DemandStatus, tolerance: float) -> DemandStatus:
    """``before`` where no estimate moved by more than ``tolerance`` or changed its source; ages tick unseen."""
    if before is None or before.patience_seconds != after.patience_seconds:
        return after
    pairs = (
        (before.rate, after.rate),
        (before.prompt_tokens, after.prompt_tokens),
        (before.uncached_prompt_tokens, after.uncached_prompt_tokens),
        (before.output_tokens, after.output_tokens),
    )
    return before if all(_same_estimate(one, other, tolerance) for one, other in pairs) else after


def _same_estimate(before: EstimateStatus, after: EstimateStatus, tolerance: float) -> bool:
    return before.source is after.source and is_close(before.value, after.value, tolerance)


def settled_attainment(
    before: tuple[AttainmentStatus, ...], after: tuple[AttainmentStatus, ...], tolerance: float
) -> tuple[AttainmentStatus, ...]:
    """``before`` where the same indicators are held and missed by nearly the same figures."""
    if len(before) != len(after) or not all(map(_same_indicator, before, after)):
        return after
    pairs = zip(before, after, strict=True)
    return before if all(_same_measure(one.measured, other.measured, tolerance) for one, other in pairs) else after


def _same_indicator(before: AttainmentStatus, after: AttainmentStatus) -> bool:
    return before.model_copy(update={"measured": None}) == after.model_copy(update={"measured": None})


def _same_measure(before: float | None, after: float | None, tolerance: float) -> bool:
    if before is None or after is None:
        return before is after
    return is_close(before, after, tolerance)


def rounded(value: float) -> str:
    """Three significant digits for a column, and never an exponent; what is next to nothing is 0."""
    if abs(value) < LEAST_SHOWN:
        return "0"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def significant(value: float) -> float:
    """Four significant digits: more would suggest an accuracy that no estimate has."""
    return float(f"{value:.4g}")
