"""What the plan gives of what was promised: target, planned value, and price of each promise."""

from __future__ import annotations

import math

import numpy as np

from sluice.model.plan import PromisePlan
from sluice.planning.comparison_rows import slot_ratio
from sluice.planning.decode import PoolSplit
from sluice.planning.formulate import Formulation
from sluice.planning.latency import Latency
from sluice.planning.pool_rows import prefill_seconds
from sluice.planning.program import Vector
from sluice.planning.promise_place import PromiseRow
from sluice.planning.promises import PromiseKind
from sluice.planning.solver import Solution

_SLACK = 1e-6
"""Relative overshoot that still counts as kept."""
_MOST_PROMISES = 1024
_FEWEST = 1e-12
"""Share of survivors below which a wait has no end worth telling."""


def kept_promises(
    formulation: Formulation, solution: Solution, splits: tuple[PoolSplit, ...], times: Latency
) -> tuple[PromisePlan, ...]:
    """One entry per promise, in the problem's order."""
    return tuple(_kept(formulation, entry, solution, splits, times) for entry in formulation.promises[:_MOST_PROMISES])


def _kept(
    formulation: Formulation, entry: PromiseRow, solution: Solution, splits: tuple[PoolSplit, ...], times: Latency
) -> PromisePlan:
    promise = entry.promise
    planned = _planned(formulation, entry, splits, times)
    asked = promise.asked if promise.asked is not None else promise.target
    floor = promise.kind.is_floor
    room = _SLACK * max(1.0, abs(asked))
    held = planned >= asked - room if floor else planned <= asked + room
    price = _price(formulation, entry, solution, splits)
    return PromisePlan(
        name=promise.name,
        target=asked,
        planned=float(f"{planned:.9g}"),
        held=held,
        applied_target=promise.target,
        price=float(f"{price:.9g}"),
        meaning=_meaning(entry, price, held=held, planned=planned),
    )


def _meaning(entry: PromiseRow, price: float, *, held: bool, planned: float) -> str:
    kind = entry.promise.kind
    state = "kept" if held else ("given up in part" if entry.promise.hard else "missed, and paid for")
    if price <= 0:
        return f"{state} at {planned:.4g}; it does not bind"
    if kind.in_seconds:
        return f"{state} at {planned:.4g} s; 10 ms more would earn {price / 100:.4g} per second"
    direction = "less" if kind.is_floor else "more"
    return f"{state} at {planned:.4g}; 0.01 {direction} would earn {price / 100:.4g} per second"


def _planned(formulation: Formulation, entry: PromiseRow, splits: tuple[PoolSplit, ...], times: Latency) -> float:
    """The promised quantity as the plan has it."""
    data, promise = formulation.data, entry.promise
    places = [i for i, c in enumerate(formulation.problem.classes) if promise.class_name in {None, c.name}]
    finished = sum((part.served - part.leaving for part in splits), np.zeros(len(data.rate)))
    match promise.kind:
        case PromiseKind.WAIT | PromiseKind.TTFT:
            return _first_token(formulation, entry, places[0], splits, times)
        case PromiseKind.TPOT:
            timed = _timed_tokens(formulation, splits)[places]
            return float(times.token[places] @ timed) / float(timed.sum()) if timed.sum() > 0 else 0.0
        case PromiseKind.SERVED | PromiseKind.GUARANTEED:
            demand = float(data.rate[places].sum())
            return min(1.0, float(finished[places].sum()) / demand) if demand > 0 else 1.0
        case PromiseKind.SERVED_FAIRNESS:
            return _spread((finished / np.maximum(data.rate, 1e-300))[data.rate > 0])
        case PromiseKind.SLOT_TPOT:
            return _slot_ratio(formulation, splits)
        case _:
            engines = max(sum(columns.group.replicas for columns in formulation.pools), 1e-9)
            own = promise.kind is PromiseKind.PREFILL_FAIRNESS
            jobs = sum((part.prefill if own else part.decode_solo for part in splits), np.zeros(len(data.rate)))
            return _spread(jobs / engines)


def _first_token(
    formulation: Formulation, entry: PromiseRow, i: int, splits: tuple[PoolSplit, ...], times: Latency
) -> float:
    """The wait of the share it was promised to: the rest may be refused at the door."""
    promise, data = entry.promise, formulation.data
    theta, demand = float(data.theta[i]), float(data.rate[i]) * promise.fraction
    own = 0.0 if promise.kind is PromiseKind.WAIT else float(times.first_token[i] - times.wait[i])
    if theta == 0 or demand == 0:
        return own
    survivors = 0.0
    for columns in formulation.pools:
        group = columns.group
        seconds = 0.0 if promise.kind is PromiseKind.WAIT else prefill_seconds(group, float(data.uncached[i]))
        survivors += math.exp(-theta * seconds) * sum(float(splits[place].served[i]) for place in group.places)
    # The inverse of row (8): the time within which the share it was promised to has its first token.
    return max(own, math.log(demand / max(survivors, demand * _FEWEST)) / theta)


def _timed_tokens(formulation: Formulation, splits: tuple[PoolSplit, ...]) -> Vector:
    """Output tokens/s per class, without those of an API that does not say how long it takes."""
    finished = np.zeros(len(formulation.data.rate))
    for pool, part in zip(formulation.problem.pools, splits, strict=True):
        if pool.external is None or pool.external.token_seconds is not None:
            finished += part.served - part.leaving
    tokens: Vector = finished * formulation.data.output
    return tokens


def _spread(shares: Vector) -> float:
    return float(shares.max() - shares.min()) if len(shares) else 0.0


def _slot_ratio(formulation: Formulation, splits: tuple[PoolSplit, ...]) -> float:
    """The paper's (47) over all pools, every engine on and every slot full."""
    seconds = slots = 0.0
    for columns in formulation.pools:
        group = columns.group
        if group.first.external is None and group.replicas > 0:
            mixed = sum(splits[place].mixed for place in group.places) / group.replicas
            mean = {mode.mixed: mode for mode in group.modes}
            batch = mean[True].batch * mixed + mean[False].batch * (1 - mixed)
            seconds += slot_ratio(group, mixed)[0] * batch * group.replicas
            slots += batch * group.replicas
    return seconds / slots if slots > 0 else 0.0


def _first_token_price(
    formulation: Formulation, entry: PromiseRow, on_time: float, missed: float, splits: tuple[PoolSplit, ...]
) -> float:
    """What a later target would earn: ``on_time`` where the row is kept, and less excess to pay for where it is not."""
    if entry.slope == 0:
        return 0.0
    data, promise = formulation.data, entry.promise
    i = next(i for i, c in enumerate(formulation.problem.classes) if c.name == promise.class_name)
    # Violation moves the row in proportion to its bound, which the target moves.
    price = on_time * max(0.0, 1.0 - float(data.theta[i]) * missed)
    if promise.kind is PromiseKind.TTFT and not promise.hard:
        late = sum(
            float(splits[place].served[i])
            for columns in formulation.pools
            for place in columns.group.places
            if prefill_seconds(columns.group, float(data.uncached[i])) > promise.target
        )
        price += promise.penalty * late / (float(data.high[i]) * promise.fraction)
    return price


def _price(formulation: Formulation, entry: PromiseRow, solution: Solution, splits: tuple[PoolSplit, ...]) -> float:
    """Money per second that one unit of loosening the target would earn, never negative."""
    promise = entry.promise
    missed = 0.0 if entry.slack is None else float(solution.primal[entry.slack])
    if entry.row is None:
        # The tangents of a soft slot-tpot: each unit of target is a unit less to pay for.
        return promise.penalty if missed > 0 else 0.0
    dual = float(solution.dual[entry.row])
    match promise.kind:
        case PromiseKind.WAIT | PromiseKind.TTFT:
            return _first_token_price(formulation, entry, abs(dual * entry.slope), missed, splits)
        case PromiseKind.TPOT:
            places = [i for i, c in enumerate(formulation.problem.classes) if promise.class_name in {None, c.name}]
            return abs(dual) * float(_timed_tokens(formulation, splits)[places].sum())
        case PromiseKind.SLOT_TPOT:
            return abs(dual) * sum(
                float(share) * mode.batch
                for part, pool in zip(splits, formulation.problem.pools, strict=True)
                for share, mode in zip(part.engines, pool.modes, strict=True)
            )
        case _:
            return abs(dual * entry.slope)
