"""Service level indicators as users declare them."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from pydantic import Field

from sluice.api.base import Declared, Rule
from sluice.api.prices import Money
from sluice.model.fleet import Hardness, SliSignal, SliStatistic

SIGNALS: Final[dict[str, Any]] = {"enum": [SliSignal.TTFT.value, SliSignal.TPOT.value, SliSignal.SERVED_FRACTION.value]}
"""Signals that can be declared so far; the planner knows more."""
HOUR_MILLISECONDS = 3_600_000
PERMILLE = 1000


class Indicator(Declared):
    """One service level indicator with its target.

    Attainment is measured against it; a class's TTFT target is the promise its requests are judged by.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.signal == 'ServedFraction' ? !has(self.targetMilliseconds) : has(self.targetMilliseconds)",
            "TTFT and TPOT need targetMilliseconds; ServedFraction takes fractionPermille alone",
        ),
        Rule(
            "(self.signal == 'ServedFraction' || self.statistic == 'WithinFraction') == has(self.fractionPermille)",
            "fractionPermille belongs to ServedFraction and to statistic WithinFraction, which need it; "
            "remove it for a Mean of TTFT or TPOT",
        ),
        Rule(
            "self.signal != 'ServedFraction' || self.statistic == 'Mean'",
            "ServedFraction has statistic Mean only",
        ),
        Rule(
            "(self.hardness == 'Soft') == has(self.penalty)",
            "a Soft indicator needs a penalty, a Hard one must have none",
        ),
    )

    signal: SliSignal = Field(
        description="TTFT: time to first token, waiting included. TPOT: mean time per output token after the first. "
        "ServedFraction: share of offered requests that are served.",
        json_schema_extra=SIGNALS,
    )
    statistic: SliStatistic = Field(
        default=SliStatistic.MEAN,
        description="Mean: the mean is bounded. WithinFraction: fractionPermille of requests are within the target.",
    )
    target_milliseconds: int | None = Field(
        default=None, ge=1, le=HOUR_MILLISECONDS, description="Upper bound of TTFT or TPOT, milliseconds."
    )
    fraction_permille: int | None = Field(
        default=None,
        ge=1,
        le=PERMILLE,
        description="Share of requests that must be served (ServedFraction) or be within the target, permille.",
    )
    hardness: Hardness = Field(
        default=Hardness.HARD, description="Hard: a promise. Soft: may be missed at the price of penalty."
    )
    penalty: Money | None = Field(
        default=None,
        description="For Soft: money per second and unit of violation (a second of TTFT or TPOT, or the whole served "
        'fraction), a decimal string such as "0.5".',
    )
