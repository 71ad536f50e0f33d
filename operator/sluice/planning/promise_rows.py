"""The rows (8)-(15): what was promised, each linear in the program's variables.

(8)  wait, ttft         sum_p z_ip e^(-theta f_ip) >= phi Lambda_i e^(-theta T), and s_ip = 0
     Who waits W for a prefill is still there with probability e^(-theta W). Of the phi Lambda_i
     requests the promise is for, those sent to pool p may wait T - f_ip, f_ip being the prefill's own
     time (0 for ``wait``). A pool with f_ip > T cannot keep a hard promise and is closed to the
     class; a soft one pays for the excess. With theta_i = 0 the excess demand is refused, nobody
     who is admitted waits, and only the closing of pools is left of the row.
(9)  tpot, fleet        sum y <= eta sum O_i (z_ip - s_ip)
     A decode is a slot-second per second, so this is slot-seconds per output token, over all tokens.
     An API's tokens take its own time; those of one that does not say how long are left out.
(10) tpot, class        the same for one class, whose decodes then are its own batch group
     Where requests stay on the engine that prefilled them it decodes at the pool's pace, if need be
     (see ``formulate``): no engine gives one class faster iterations than another.
(11) served, guaranteed sum_p (z_ip - s_ip) >= phi Lambda_i
     Who leaves either queue was not served; of the fleet both sides are sums over the classes.
(12) served-fairness    t_min Lambda_i <= sum_p (z_ip - s_ip) <= t_max Lambda_i, t_max - t_min <= eta
     Two bounds that move keep every two classes together with one row per class instead of one per pair.
(13) prefill-fairness   t_min <= x_i <= t_max, t_max - t_min <= eta, x_i per engine: paper (43)
     Prefills in service are U_i z_ip over the prefill rate, so a class of long prompts may fall behind in requests.
(14) decode-fairness    the same with y_s,i, decodes in solo modes: paper (45)
     Solo decodes are the fast ones; which class has them is the program's choice, as in (10).
(15) slot-tpot          sum b t f <= eta sum b f, all engines on, all slots full: paper (47)
     The paper's mean over slots, taken as full, multiplied out; it is above the mean over tokens of (9).
Lambda_i is the high end of the box where the rate is uncertain, but for the shares of (12).

A soft promise has a slack v >= 0 in its own unit, so that price times violation is money per
second. The unit is exact for shares and fairness; for (8) it is the extra wait to first order, for
(9) and (10) seconds per token of the offered tokens. The penalty (48) of the slot-weighted ratio r is
not linear but convex in the mixed share, so it is the largest of its tangents (``cuts``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sluice.planning.class_data import ClassData
from sluice.planning.comparison_rows import fairness, slot_time
from sluice.planning.groups import PoolGroup
from sluice.planning.pool_rows import PoolColumns, prefill_seconds
from sluice.planning.problem import Problem
from sluice.planning.program import ProgramBuilder
from sluice.planning.promise_place import Place, PromiseRow
from sluice.planning.promises import Promise, PromiseKind

PREFILL_WAIT = "(8) first token"
DECODE_TIME = "(9) token time"
CLASS_DECODE_TIME = "(10) token time of class"
SERVED_SHARE = "(11) served share"

_SMALLEST_SURVIVAL = 1e-12
"""Below this share of survivors a wait is no promise any more."""


def needs_batches_of_their_own(problem: Problem) -> bool:
    """Whether some promise tells the decodes of one class from another's."""
    return any(
        promise.kind is PromiseKind.DECODE_FAIRNESS
        or (promise.kind is PromiseKind.TPOT and promise.class_name is not None)
        for promise in problem.promises
    )


def reachable_target(promise: Promise, groups: Sequence[PoolGroup], problem: Problem) -> float:
    """The target, or what the fastest pool's prefill alone takes where that is longer."""
    if promise.kind is not PromiseKind.TTFT:
        return promise.target
    place = next(i for i, entry in enumerate(problem.classes) if entry.name == promise.class_name)
    uncached = problem.classes[place].uncached_prompt_tokens
    times = [prefill_seconds(group, uncached) for group in groups if place in group.classes]
    return max(promise.target, min(times, default=promise.target))


def too_slow(problem: Problem, groups: Sequence[PoolGroup]) -> list[list[int]]:
    """Per group: the classes whose hard TTFT promise its prefill alone would break."""
    banned: list[list[int]] = [[] for _ in groups]
    for promise in problem.promises:
        if promise.kind is not PromiseKind.TTFT or not promise.hard:
            continue
        target = reachable_target(promise, groups, problem)
        for i, entry in enumerate(problem.classes):
            if entry.name == promise.class_name:
                for slow, group in zip(banned, groups, strict=True):
                    if prefill_seconds(group, entry.uncached_prompt_tokens) > target:
                        slow.append(i)
    return banned


def add_promises(
    builder: ProgramBuilder,
    problem: Problem,
    data: ClassData,
    pools: tuple[PoolColumns, ...],
    *,
    elastic: bool,
    cuts: Sequence[float],
) -> tuple[PromiseRow, ...]:
    """Add the rows of every promise, in the order of the problem."""
    if not problem.promises:
        return ()
    place = Place(builder, problem, data, pools, elastic)
    return tuple(_add(place, promise, cuts) for promise in problem.promises)


def _add(place: Place, promise: Promise, cuts: Sequence[float]) -> PromiseRow:
    match promise.kind:
        case PromiseKind.WAIT | PromiseKind.TTFT:
            return _first_token(place, promise)
        case PromiseKind.TPOT:
            return _token_time(place, promise)
        case PromiseKind.SERVED | PromiseKind.GUARANTEED:
            return _served_share(place, promise)
        case PromiseKind.SLOT_TPOT:
            return slot_time(place, promise, cuts)
        case _:
            return fairness(place, promise)


def _first_token(place: Place, promise: Promise) -> PromiseRow:
    """Row (8)."""
    (i,) = place.classes_of(promise)
    theta, demand = float(place.data.theta[i]), float(place.data.high[i]) * promise.fraction
    groups = [pool.group for pool in place.pools]
    target = reachable_target(promise, groups, place.problem)
    survival = float(np.exp(-theta * target))
    if theta == 0 or demand == 0 or survival < _SMALLEST_SURVIVAL:
        return PromiseRow(promise, None, None, 0.0)
    row = place.builder.rows(PREFILL_WAIT, [promise.name], lower=demand * survival)
    uncached = float(place.data.uncached[i])
    slack = place.slack(promise, row, theta * demand * survival)
    for pool in place.pools:
        for position in np.flatnonzero(pool.group.classes == i):
            own = prefill_seconds(pool.group, uncached) if promise.kind is PromiseKind.TTFT else 0.0
            column = pool.served.start + int(position)
            place.builder.entry(row, column, float(np.exp(-theta * own)))
            if own > target and not promise.hard:
                place.builder.charge(column, promise.penalty * (own - target) / demand)
    # Below what the fastest prefill takes the target moves nothing.
    slope = -theta * demand * survival if target == promise.target else 0.0
    return PromiseRow(promise, row, slack, slope)


def _token_time(place: Place, promise: Promise) -> PromiseRow:
    """Rows (9) and (10)."""
    members = place.classes_of(promise)
    offered = float(place.data.output[members] @ place.data.high[members])
    if offered == 0:
        return PromiseRow(promise, None, None, 0.0)
    whole = promise.class_name is None
    row = place.builder.rows(DECODE_TIME if whole else CLASS_DECODE_TIME, [promise.name], upper=0.0)
    for pool in place.pools:
        if pool.group.first.external is None and (whole or pool.pace is None):
            _slot_seconds(place.builder, pool, members, row, whole=whole)
    for i in members:
        _tokens(place, promise, row, i)
    return PromiseRow(promise, row, place.slack(promise, row, -offered), 0.0)


def _slot_seconds(builder: ProgramBuilder, pool: PoolColumns, members: list[int], row: int, *, whole: bool) -> None:
    """Add the decodes of ``members`` in one pool: each is one slot-second per second."""
    if whole:
        builder.entries(row, range(pool.decodes.start, pool.decodes.stop), 1.0)
        return
    for position in np.flatnonzero(np.isin(pool.group.classes, members)):
        own = pool.decodes_of(int(position))
        builder.entries(row, range(own.start, own.stop), 1.0)


def _tokens(place: Place, promise: Promise, row: int, i: int) -> None:
    """Take eta times the finished tokens/s of class ``i`` off ``row``; an API's own time stands beside it."""
    for pool in place.pools:
        external = pool.group.first.external
        for position in np.flatnonzero(pool.group.classes == i):
            seconds = promise.target
            if external is not None:
                if external.token_seconds is None:
                    continue
                seconds -= external.token_seconds
            elif pool.pace is not None and promise.class_name is not None:
                seconds -= pool.pace * float(place.data.steps[i] / place.data.output[i])
            weight = -seconds * float(place.data.output[i])
            place.builder.entry(row, pool.served.start + int(position), weight)
            for leaving in np.flatnonzero(pool.waiting_classes == position):
                place.builder.entry(row, pool.waiting.start + int(leaving), -weight)


def _served_share(place: Place, promise: Promise) -> PromiseRow:
    """Row (11)."""
    members = place.classes_of(promise)
    demand = float(place.data.high[members].sum())
    if demand == 0:
        return PromiseRow(promise, None, None, 0.0)
    row = place.builder.rows(SERVED_SHARE, [promise.name], lower=promise.target * demand)
    for i in members:
        place.finished(row, i, 1.0)
    return PromiseRow(promise, row, place.slack(promise, row, demand), demand)
