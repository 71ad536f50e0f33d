"""What users were promised, as the program sees it: service level indicators and guaranteed shares.

Two families stand beside each other and are named so that nobody confuses them:

=====================  =====================================================================
``wait``               waiting part of TTFT of one class
``ttft``               wait and prefill of one class
``tpot``               slot-seconds per output token: of a class, or of the fleet over all tokens
``served``             served share of a class's demand; of the fleet's demand
``guaranteed``         the class's guaranteed share: a floor like ``served``
``served-fairness``    largest difference between two classes' served shares
``prefill-fairness``   the paper's (43) and (44): largest difference of x_i, with q_d = 0
``decode-fairness``    the paper's (45) and (46): largest difference of y_s,i, with q_d = 0
``slot-tpot``          the paper's (47) and (48): iteration time averaged over slots taken as full
=====================  =====================================================================

A hard promise is a row. A soft one is the same row with a slack that costs ``penalty`` per
unit of violation and second; with a target of 0 that is the paper's penalty form.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sluice.model.fleet import Fleet, Hardness, Sli, SliSignal, SliStatistic, Tier, WorkloadClass


class PromiseKind(StrEnum):
    """What a promise bounds."""

    WAIT = "wait"
    TTFT = "ttft"
    TPOT = "tpot"
    SERVED = "served"
    GUARANTEED = "guaranteed"
    SERVED_FAIRNESS = "served-fairness"
    PREFILL_FAIRNESS = "prefill-fairness"
    DECODE_FAIRNESS = "decode-fairness"
    SLOT_TPOT = "slot-tpot"

    @property
    def is_floor(self) -> bool:
        """Whether more is better: a share to be served, not a time to stay below."""
        return self in {PromiseKind.SERVED, PromiseKind.GUARANTEED}

    @property
    def is_paper_form(self) -> bool:
        """Whether it is defined with q_d = 0, as the paper defines (43), (45) and (47)."""
        return self in {PromiseKind.PREFILL_FAIRNESS, PromiseKind.DECODE_FAIRNESS, PromiseKind.SLOT_TPOT}

    @property
    def in_seconds(self) -> bool:
        """Whether the target is a time."""
        return self in {PromiseKind.WAIT, PromiseKind.TTFT, PromiseKind.TPOT, PromiseKind.SLOT_TPOT}


PER_CLASS = frozenset({PromiseKind.WAIT, PromiseKind.TTFT, PromiseKind.GUARANTEED})
"""Kinds that only a class can be promised."""
FLEET_ONLY = frozenset(
    {PromiseKind.SERVED_FAIRNESS, PromiseKind.PREFILL_FAIRNESS, PromiseKind.DECODE_FAIRNESS, PromiseKind.SLOT_TPOT}
)
"""Kinds that compare classes or speak of the whole fleet."""

_KINDS = {
    SliSignal.TTFT: PromiseKind.TTFT,
    SliSignal.TPOT: PromiseKind.TPOT,
    SliSignal.SERVED_FRACTION: PromiseKind.SERVED,
    SliSignal.QUEUE_WAIT: PromiseKind.WAIT,
    SliSignal.SERVED_FRACTION_FAIRNESS: PromiseKind.SERVED_FAIRNESS,
    SliSignal.PREFILL_FAIRNESS: PromiseKind.PREFILL_FAIRNESS,
    SliSignal.DECODE_FAIRNESS: PromiseKind.DECODE_FAIRNESS,
    SliSignal.SLOT_WEIGHTED_TPOT: PromiseKind.SLOT_TPOT,
}
_TIERS = {Tier.BEST_EFFORT: 1, Tier.STANDARD: 2, Tier.PROTECTED: 3}
_FLEET_IMPORTANCE = 4
"""Promises of the whole fleet outlast those of any tier unless the sacrifice order says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One promise."""

    kind: PromiseKind
    class_name: str | None = None
    """None: the whole fleet."""
    target: float
    """Seconds, or a share 0..1, or jobs per engine for the paper's fairness forms."""
    asked: float | None = None
    """What was promised before the target was relaxed; None: it was not."""
    fraction: float = 1.0
    """Share of the class's requests that the target is promised to."""
    hard: bool = True
    penalty: float = 0.0
    """Money per second and unit of violation, for a soft promise."""
    importance: int = _FLEET_IMPORTANCE
    """Order of sacrifice where hard promises cannot all hold: the lowest gives way first."""

    @property
    def name(self) -> str:
        """``ttft:chat``; the kind alone for the fleet."""
        return self.kind.value if self.class_name is None else f"{self.kind.value}:{self.class_name}"

    def fault(self) -> str | None:
        """What is wrong with it, or None."""
        if self.kind in PER_CLASS and self.class_name is None:
            return "is a promise to a class and names none"
        if self.kind in FLEET_ONLY and self.class_name is not None:
            return "is a promise of the whole fleet and names a class"
        return self._number_fault()

    def _number_fault(self) -> str | None:
        if not (math.isfinite(self.target) and self.target >= 0):
            return f"target is {self.target}, must be a finite number of at least 0"
        if self.kind.is_floor and self.target > 1:
            return f"target is {self.target}, a share is at most 1"
        if not 0 < self.fraction <= 1:
            return f"fraction is {self.fraction}, must be above 0 and at most 1"
        if not (math.isfinite(self.penalty) and self.penalty >= 0):
            return f"penalty is {self.penalty}, must be a finite number of at least 0"
        return None


def promises_of(fleet: Fleet, classes: Sequence[WorkloadClass]) -> tuple[Promise, ...]:
    """Everything that ``fleet`` and its ``classes`` promise, in order of declaration."""
    found = [_of_sli(sli, None, _FLEET_IMPORTANCE) for sli in fleet.objectives]
    for workload in classes:
        found += _of_class(workload)
    order = {name: place - len(fleet.sacrifice_order) for place, name in enumerate(fleet.sacrifice_order)}
    return tuple(_placed(promise, order) for promise in found)


def remarks_on(fleet: Fleet, classes: Sequence[WorkloadClass]) -> Iterator[str]:
    """What is declared and planned otherwise, or not at all, for the reader of the plan."""
    made = {promise.name for promise in promises_of(fleet, classes)}
    for name in fleet.sacrifice_order:
        if name not in made:
            yield f"sacrificeOrder names {name}, which nobody promised: passed over"
    for owner, slis in ((None, fleet.objectives), *((workload.name, workload.slis) for workload in classes)):
        for sli in slis:
            if sli.signal is SliSignal.TPOT and sli.statistic is SliStatistic.WITHIN_FRACTION:
                name = "tpot" if owner is None else f"tpot:{owner}"
                yield f"{name} is planned as a mean over tokens: the fluid model knows no share that keeps it"


def _of_class(workload: WorkloadClass) -> Iterator[Promise]:
    importance = _TIERS[workload.tier]
    if workload.guaranteed_share > 0:
        yield Promise(
            kind=PromiseKind.GUARANTEED,
            class_name=workload.name,
            target=workload.guaranteed_share,
            importance=importance,
        )
    for sli in workload.slis:
        yield _of_sli(sli, workload.name, importance)


def _of_sli(sli: Sli, class_name: str | None, importance: int) -> Promise:
    within = sli.statistic is SliStatistic.WITHIN_FRACTION
    seconds, share = sli.target_seconds, sli.fraction
    target = share if seconds is None else seconds
    return Promise(
        kind=_KINDS[sli.signal],
        class_name=class_name,
        target=math.nan if target is None else target,
        fraction=share if within and share is not None else 1.0,
        hard=sli.hardness is Hardness.HARD,
        penalty=sli.penalty,
        importance=importance,
    )


def _placed(promise: Promise, order: dict[str, int]) -> Promise:
    """The promise with its place in the declared order of sacrifice, if it has one: below every tier."""
    if promise.name not in order:
        return promise
    return replace(promise, importance=order[promise.name])
