"""Service level indicators as users declare them, and as status tells them."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sluice.api.base import Declared, Reported, Rule
from sluice.api.iteration_profile import BATCH_LIMIT
from sluice.api.prices import Money
from sluice.model.fleet import Hardness, SliSignal, SliStatistic

HOUR_MILLISECONDS = 3_600_000
PERMILLE = 1000


class Indicator(Declared):
    """One service level indicator with its target.

    Attainment is measured against it; a class's TTFT target is the promise its requests are judged by.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.signal in ['TTFT', 'TPOT', 'QueueWait', 'SlotWeightedTPOT']) == has(self.targetMilliseconds)",
            "targetMilliseconds belongs to TTFT, TPOT, QueueWait and SlotWeightedTPOT, which need it; the other "
            "signals are no times",
        ),
        Rule(
            "self.signal.endsWith('Fairness') == has(self.differencePermille)",
            "differencePermille belongs to the fairness signals, which need it",
        ),
        Rule(
            "(self.signal == 'ServedFraction' || self.statistic == 'WithinFraction') == has(self.fractionPermille)",
            "fractionPermille belongs to ServedFraction and to statistic WithinFraction, which need it; "
            "remove it otherwise",
        ),
        Rule(
            "self.statistic == 'Mean' || self.signal in ['TTFT', 'TPOT', 'QueueWait']",
            "statistic WithinFraction belongs to TTFT, TPOT and QueueWait; the other signals have Mean only",
        ),
        Rule(
            "(self.hardness == 'Soft') == has(self.penalty)",
            "a Soft indicator needs a penalty, a Hard one must have none",
        ),
    )

    signal: SliSignal = Field(
        description="TTFT: time to first token, waiting included. TPOT: mean time per output token after the first. "
        "QueueWait: the waiting part of TTFT. ServedFraction: share of offered requests that are served. Of the fleet "
        "only: ServedFractionFairness, PrefillFairness and DecodeFairness (largest difference between two classes, of "
        "served shares, of prefills and of solo decodes per engine) and SlotWeightedTPOT (iteration time over slots "
        "taken as full, for comparison with the model paper; TPOT is what users feel).",
    )
    statistic: SliStatistic = Field(
        default=SliStatistic.MEAN,
        description="Mean: the mean is bounded. WithinFraction: fractionPermille of requests are within the target.",
    )
    target_milliseconds: int | None = Field(
        default=None, ge=1, le=HOUR_MILLISECONDS, description="Upper bound of a time, milliseconds."
    )
    difference_permille: int | None = Field(
        default=None,
        ge=0,
        le=BATCH_LIMIT * PERMILLE,
        description="Fairness: largest difference between two classes; permille of the served share, or thousandths of "
        "a job per engine.",
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
        description="For Soft: money per second and unit of violation (one second of a time, the whole of a share, one "
        'job per engine), a decimal string such as "0.5".',
    )


class AttainmentStatus(Reported):
    """One indicator beside its target."""

    signal: SliSignal = Field(description="The indicator's signal.")
    statistic: SliStatistic = Field(default=SliStatistic.MEAN, description="The indicator's statistic.")
    target: float = Field(description="Seconds, or a share 0..1.")
    measured: float | None = Field(default=None, description="The same, as measured; absent: nothing measures it.")
    held: Literal["Held", "Missed", "Unknown"] = Field(description="Whether the target is kept.")
