"""The rows (12)-(15), which compare classes or speak of slots; ``promise_rows`` states them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sluice.planning.groups import PoolGroup
from sluice.planning.promise_place import Between, Place, PromiseRow
from sluice.planning.promises import Promise, PromiseKind

SERVED_FAIRNESS = "(12) served fairness"
PREFILL_FAIRNESS = "(13) prefill fairness"
DECODE_FAIRNESS = "(14) decode fairness"
SLOT_TIME = "(15) slot time"


def fairness(place: Place, promise: Promise) -> PromiseRow:
    """Rows (12)-(14): every class between t_min and t_max, which differ by eta at most."""
    builder, data = place.builder, place.data
    name = {
        PromiseKind.SERVED_FAIRNESS: SERVED_FAIRNESS,
        PromiseKind.PREFILL_FAIRNESS: PREFILL_FAIRNESS,
        PromiseKind.DECODE_FAIRNESS: DECODE_FAIRNESS,
    }[promise.kind]
    served = promise.kind is PromiseKind.SERVED_FAIRNESS
    members = [i for i in range(len(data.rate)) if data.rate[i] > 0 or not served]
    low = builder.columns("least share", [promise.name])
    high = builder.columns("greatest share", [promise.name])
    labels = [place.problem.classes[i].name for i in members]
    above = builder.rows(f"{name}, above", labels, upper=0.0)
    below = builder.rows(f"{name}, below", labels, upper=0.0)
    engines = max(sum(pool.group.replicas for pool in place.pools), 1e-9)
    for offset, i in enumerate(members):
        weight = float(data.rate[i]) if served else engines
        builder.entry(above + offset, high, -weight)
        builder.entry(below + offset, low, weight)
        for row, sign in ((above + offset, 1.0), (below + offset, -1.0)):
            _shared_quantity(place, promise.kind, row, i, sign)
    row = builder.rows(name, [promise.name], upper=promise.target)
    builder.entry(row, high, 1.0)
    builder.entry(row, low, -1.0)
    count = len(members)
    between = Between(slice(above, above + count), slice(below, below + count), low, high)
    return PromiseRow(promise, row, place.slack(promise, row, -1.0), 1.0, between)


def _shared_quantity(place: Place, kind: PromiseKind, row: int, i: int, sign: float) -> None:
    """Add what is compared of class ``i``: finished requests, prefills in service, or solo decodes."""
    if kind is PromiseKind.SERVED_FAIRNESS:
        place.finished(row, i, sign)
        return
    for pool in place.pools:
        for position in np.flatnonzero(pool.group.classes == i):
            if pool.group.first.external is not None:
                continue
            if kind is PromiseKind.PREFILL_FAIRNESS:
                stay = float(place.data.uncached[i]) / pool.group.prefill_rate
                place.builder.entry(row, pool.served.start + int(position), sign * stay)
                continue
            own = pool.decodes_of(int(position))
            for column, mode in zip(range(own.start, own.stop), pool.group.modes, strict=True):
                if not mode.mixed:
                    place.builder.entry(row, column, sign)


def slot_time(place: Place, promise: Promise, cuts: Sequence[float]) -> PromiseRow:
    """Row (15), or the tangents of its convex penalty."""
    if not promise.hard:
        return _slot_tangents(place, promise, cuts)
    row = place.builder.rows(SLOT_TIME, [promise.name], upper=0.0)
    slots = 0.0
    for pool in place.pools:
        for k, mode in enumerate(pool.group.modes):
            place.builder.entry(row, pool.engines.start + k, mode.batch * (mode.seconds - promise.target))
        slots += pool.group.replicas * max((mode.batch for mode in pool.group.modes), default=0.0)
    return PromiseRow(promise, row, place.slack(promise, row, -max(slots, 1e-9)), 0.0)


def _slot_tangents(place: Place, promise: Promise, cuts: Sequence[float]) -> PromiseRow:
    """V + target >= r(X0) + r'(X0) (X - X0) for every cut X0, X being the mixed share of the engines."""
    pool = next(pool for pool in place.pools if pool.group.first.external is None)
    builder, group = place.builder, pool.group
    violation = builder.columns(
        "violation", [promise.name], objective=-promise.penalty, scale=max(promise.target, 1e-3)
    )
    (mixed,) = (pool.engines.start + k for k, mode in enumerate(group.modes) if mode.mixed)
    lines = [slot_ratio(group, cut) for cut in cuts]
    constants = [promise.target - value + slope * cut for cut, (value, slope) in zip(cuts, lines, strict=True)]
    start = builder.rows(SLOT_TIME, [f"{promise.name} at {cut:.6g}" for cut in cuts], upper=np.array(constants))
    for offset, (_, slope) in enumerate(lines):
        builder.entry(start + offset, mixed, slope / max(group.replicas, 1e-9))
        builder.entry(start + offset, violation, -1.0)
    return PromiseRow(promise, None, violation, 0.0)


def slot_ratio(group: PoolGroup, mixed_share: float) -> tuple[float, float]:
    """The paper's (47) at a mixed share X, and its derivative: (N0 + N1 X) / (M0 + M1 X)."""
    (mixed,) = (mode for mode in group.modes if mode.mixed)
    (solo,) = (mode for mode in group.modes if not mode.mixed)
    seconds = solo.batch * solo.seconds, mixed.batch * mixed.seconds - solo.batch * solo.seconds
    slots = solo.batch, mixed.batch - solo.batch
    below = slots[0] + slots[1] * mixed_share
    ratio = (seconds[0] + seconds[1] * mixed_share) / below
    return ratio, (seconds[1] - ratio * slots[1]) / below
