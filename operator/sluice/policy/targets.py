"""From a plan to what the data plane shall hold: limits and weights, stabilised.

``targets`` is the only door between the planner and a data plane. Its promises:

* **A limit binds only where the plan rations.** A class that is planned in full has none,
  unless the user declared a ceiling. Leaving rationing removes the limit at once; entering
  it again right afterwards needs a whole dwell of rationing, so a class at the edge flaps at
  most once per dwell.
* **But a full pool is not opened at the edge.** While another class of its pools is rationed, an
  in-flight limit is loosened to what its class planned in full occupies, and a tenth more. The
  plan leaves such a fleet no capacity to work a queue off, and rates are measured to a few
  percent: whatever comes in beyond its share waits in the engines, and everybody else with it.
* **A backlog is drained, not kept.** While requests are measured to wait, a rationed class's
  rate is lowered below the plan's until they no longer do (``policy.backlog``), never below a
  quarter of it; an in-flight limit drains by itself, for it counts what waits.
* **Loosen at once, tighten slowly.** At most ``largest_step`` per solve period, starting from
  the offered rate when a class becomes rationed.
* **A plan within the dead band writes nothing:** the very same targets are returned, with the
  id of the plan that last changed a number.
* **Nobody is starved:** at least one request in flight, and one per minute, at every proxy;
  only a class that is ``closable`` may be closed, and then by an in-flight limit of zero.
* **Weights** are permille by largest remainder, moved at most once per dwell, except that a
  pool without replicas loses its share at once.

The **fence** behind a rate limit stands at twice the in-flight limit, because a data plane may
need 15 s to move a breaker and then counts from zero; it moves at most once per
``fence_dwell_seconds``. Two exceptions keep it harmless: it goes with the limit, and it is
raised at once where the plan's own in-flight limit has outgrown it.

**Bursts.** A token bucket of depth b lets ``rate * T + b`` requests pass in any T seconds. Real
arrivals come in bursts (one code service here has a 99th percentile of six times its mean in
10 s windows), so a shallow bucket would refuse in a burst what the plan serves in the lull
after it. Requests let in at once wait for each other: the last of a bucket that is s seconds
deep waits about s seconds for its prefill. So the bucket is as deep as the class's TTFT
promise, within [1, 10] s, or 5 s where nothing is promised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from sluice.model.decision import ClassTarget, Targets
from sluice.model.fleet import ControlSettings, Fleet, LimitKind, WorkloadClass
from sluice.model.plan import ClassPlan, Plan
from sluice.policy.backlog import pools_of, relieved
from sluice.policy.memory import ClassMemory, Memory
from sluice.policy.stabilise import (
    ROUNDING,
    approach,
    largest_remainder,
    weights_differ,
    whole_down,
    within_band,
)

__all__ = ["Memory", "open_targets", "targets"]

HEADROOM = 1.1
"""Of an in-flight limit that stays in a full pool, over what its class planned in full occupies."""
FENCE_FACTOR = 2
"""The fence stands this many times above the planned in-flight limit."""
SLOWEST_RATE = 1.0 / 60.0
"""Requests per second and proxy below which a rate limit never goes: one per minute."""
DEFAULT_BURST_SECONDS = 5.0
BURST_SECONDS = (1.0, 10.0)
"""Bounds on the depth of a token bucket, seconds of the limited rate."""
NOT_MEASURED: Mapping[str, float] = MappingProxyType({})


def targets(
    plan: Plan,
    fleet: Fleet,
    classes: Sequence[WorkloadClass],
    previous: Memory,
    now: float,
    proxies: int = 1,
    ttft_seconds: Mapping[str, float] = NOT_MEASURED,
) -> tuple[Targets, Memory]:
    """What the data plane shall hold for ``plan`` at ``now``, and the memory for the next call.

    ``proxies`` is the number of ready proxies that divide each limit: none of them may be left
    with less than one request. ``ttft_seconds`` is the mean time to first token as measured,
    by class: it tells of a backlog. A class that the plan does not know yet keeps its weights, or
    spreads by capacity, and has no limit but its ceiling.
    """
    replicas = {pool.name: pool.replicas for pool in plan.pools}
    sought = relieved(plan, ttft_seconds)
    memory: dict[str, ClassMemory] = {}
    wanted: list[ClassTarget] = []
    for workload in classes:
        before = previous.classes.get(workload.name, ClassMemory())
        entry = sought.of(workload.name)
        if entry is None:
            after = before
        elif _stays_at_the_edge(entry, sought, before, fleet.data_plane.limit):
            after = _at_the_edge(entry, before, fleet.control, now, max(1, proxies))
        else:
            after = _limits(entry, workload, fleet, before, now, max(1, proxies))
        after = _weights(entry, workload, fleet, after, now, replicas)
        memory[workload.name] = after
        wanted.append(_target(workload, after, fleet.data_plane.limit))
    ordered = Targets(plan_id=plan.plan_id, classes=tuple(wanted))
    if previous.ordered is not None and previous.ordered.classes == ordered.classes:
        ordered = previous.ordered
    return ordered, Memory(classes=memory, ordered=ordered)


def open_targets(
    fleet: Fleet, classes: Sequence[WorkloadClass], replicas: Mapping[str, int], previous: Memory, plan_id: str = ""
) -> tuple[Targets, Memory]:
    """No limits of ours, only the users' ceilings; the last weights, or weights by capacity.

    What stands before the first plan, when blind with ``safePlan: Open``, and after leaving
    Enforce. Limits go at once, as they always do.
    """
    memory: dict[str, ClassMemory] = {}
    for workload in classes:
        before = previous.classes.get(workload.name, ClassMemory())
        standing = {pool for pool, _ in before.weights} == set(_allowed(fleet, workload))
        weights = before.weights if standing else _by_capacity(fleet, workload, replicas)
        memory[workload.name] = ClassMemory(weights=weights, weights_changed_at=before.weights_changed_at)
    ordered = Targets(
        plan_id=plan_id, classes=tuple(_target(workload, memory[workload.name], LimitKind.NONE) for workload in classes)
    )
    if previous.ordered is not None and previous.ordered.classes == ordered.classes:
        ordered = previous.ordered
    return ordered, Memory(classes=memory, ordered=ordered)


def _stays_at_the_edge(entry: ClassPlan, plan: Plan, before: ClassMemory, limit: LimitKind) -> bool:
    """Whether a class planned in full keeps its in-flight limit: another one of its pools is rationed."""
    if entry.rationed or not before.in_flight_limit or limit not in (LimitKind.IN_FLIGHT, LimitKind.BOTH):
        return False
    return any(other.rationed and pools_of(entry) & pools_of(other) for other in plan.classes)


def _at_the_edge(
    entry: ClassPlan, before: ClassMemory, control: ControlSettings, now: float, proxies: int
) -> ClassMemory:
    """The in-flight limit alone, and no tighter than the class planned in full needs."""
    occupied = entry.prefill + entry.decode_queue + entry.decode_mixed + entry.decode_solo
    roomy = entry.model_copy(update={"in_flight_limit": math.ceil(HEADROOM * occupied - ROUNDING)})
    periods = (now - before.tightened_at) / control.solve_period_seconds
    inside = _in_flight(roomy, before, control, periods, proxies)
    tightened = _is_tighter(inside, before.in_flight_limit)
    return replace(
        before,
        rate_limit=None,
        in_flight_limit=inside,
        rationed_since=None,
        tightened_at=now if tightened else before.tightened_at,
    )


def _limits(
    entry: ClassPlan, workload: WorkloadClass, fleet: Fleet, before: ClassMemory, now: float, proxies: int
) -> ClassMemory:
    """The limits after ``entry``; the weights are left as they are."""
    control = fleet.control
    limit = fleet.data_plane.limit
    if not entry.rationed or limit is LimitKind.NONE:
        return replace(
            before,
            rate_limit=None,
            in_flight_limit=None,
            fence=None,
            rationed_since=None,
            released_at=now if before.limited else before.released_at,
            fence_changed_at=now if before.fence is not None else before.fence_changed_at,
        )
    since = now if before.rationed_since is None else before.rationed_since
    before = replace(before, rationed_since=since)
    if not before.limited and not _may_enter(entry, control, before, since, now):
        return before
    closing = workload.closable and entry.admitted_rate <= 0.0
    periods = (now - before.tightened_at) / control.solve_period_seconds
    rate = in_flight = None
    if limit in (LimitKind.RATE, LimitKind.BOTH):
        rate = _rate(entry, before, control, periods, 0.0 if closing else SLOWEST_RATE * proxies)
    if limit in (LimitKind.IN_FLIGHT, LimitKind.BOTH):
        in_flight = _in_flight(entry, before, control, periods, 0 if closing else proxies)
    if closing and rate is not None and rate < SLOWEST_RATE * proxies:
        rate, in_flight = None, 0
    tightened = _is_tighter(rate, before.rate_limit) or _is_tighter(in_flight, before.in_flight_limit)
    after = replace(
        before, rate_limit=rate, in_flight_limit=in_flight, tightened_at=now if tightened else before.tightened_at
    )
    return _fenced(entry, limit, after, control, now, proxies)


def _may_enter(entry: ClassPlan, control: ControlSettings, before: ClassMemory, since: float, now: float) -> bool:
    """Whether an unlimited class that the plan rations gets a limit now.

    A clear shortfall (beyond the dead band) does at once, unless limits were removed less than
    a dwell ago; a slight one, or a return, after a dwell of rationing without a break.
    """
    clear = entry.admitted_rate < (1.0 - control.dead_band) * entry.arrival_rate
    rested = now - before.released_at >= control.dwell_seconds
    return (clear and rested) or now - since >= control.dwell_seconds


def _rate(entry: ClassPlan, before: ClassMemory, control: ControlSettings, periods: float, floor: float) -> float:
    """The rate limit after one step, requests per second of the whole fleet."""
    wanted = max(floor, entry.admitted_rate)
    if before.rate_limit is None:
        if before.in_flight_limit == 0:
            return wanted  # opening a closed class: loosening is immediate
        return max(wanted, (1.0 - control.largest_step) * entry.arrival_rate)
    return approach(
        before.rate_limit, wanted, band=control.dead_band, largest_step=control.largest_step, periods=periods
    )


def _in_flight(entry: ClassPlan, before: ClassMemory, control: ControlSettings, periods: float, floor: int) -> int:
    """The in-flight limit after one step."""
    wanted = max(floor, entry.in_flight_limit or 0)
    standing = before.in_flight_limit
    if standing is None:
        # The first limit is a step below what the offered load would occupy at the planned residence time.
        served = max(entry.admitted_rate, ROUNDING)
        offered = wanted * max(1.0, entry.arrival_rate / served)
        return max(wanted, floor, math.ceil((1.0 - control.largest_step) * offered)) if entry.admitted_rate else wanted
    step = approach(standing, wanted, band=control.dead_band, largest_step=control.largest_step, periods=periods)
    return standing if step == standing else max(floor, whole_down(standing, step, wanted))


def _fenced(
    entry: ClassPlan, limit: LimitKind, after: ClassMemory, control: ControlSettings, now: float, proxies: int
) -> ClassMemory:
    """``after`` with its fence: only behind a bare rate limit, and slow."""
    if limit is not LimitKind.RATE or after.rate_limit is None or entry.in_flight_limit is None:
        changed = now if after.fence is not None else after.fence_changed_at
        return replace(after, fence=None, fence_changed_at=changed)
    wanted = FENCE_FACTOR * max(proxies, entry.in_flight_limit)
    standing = after.fence
    if standing is not None and standing >= entry.in_flight_limit:
        dwelling = now - after.fence_changed_at < control.fence_dwell_seconds
        if dwelling or within_band(standing, wanted, control.dead_band):
            return after
    return replace(after, fence=wanted, fence_changed_at=now)


def _weights(
    entry: ClassPlan | None,
    workload: WorkloadClass,
    fleet: Fleet,
    before: ClassMemory,
    now: float,
    replicas: Mapping[str, int],
) -> ClassMemory:
    """``before`` with the weights that hold from ``now`` on."""
    allowed = _allowed(fleet, workload)
    shares = {share.pool: float(share.weight_permille) for share in entry.pools} if entry else {}
    planned = [shares.get(pool, 0.0) for pool in allowed]
    standing = {pool for pool, _ in before.weights} == set(allowed)
    if sum(planned) > 0.0:
        wanted = tuple(zip(allowed, largest_remainder(planned), strict=True))
    elif standing:
        return before
    else:
        wanted = _by_capacity(fleet, workload, replicas)
    if standing:
        stranded = any(weight > 0 and replicas.get(pool, 1) == 0 for pool, weight in before.weights)
        if not weights_differ(before.weights, wanted, fleet.control.dead_band):
            return before
        if not stranded and now - before.weights_changed_at < fleet.control.dwell_seconds:
            return before
    return replace(before, weights=wanted, weights_changed_at=now)


def _allowed(fleet: Fleet, workload: WorkloadClass) -> tuple[str, ...]:
    """The pools that the class may use, in the fleet's order."""
    return tuple(pool.name for pool in fleet.pools if not workload.pools or pool.name in workload.pools)


def _by_capacity(fleet: Fleet, workload: WorkloadClass, replicas: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Weights proportional to the decode tokens per second that each allowed pool can make."""
    pools = [pool for pool in fleet.pools if not workload.pools or pool.name in workload.pools]
    if not pools:
        return ()
    speeds = [replicas.get(pool.name, 0) * pool.slots / pool.solo_seconds for pool in pools]
    if sum(speeds) <= 0.0:
        speeds = [pool.slots / pool.solo_seconds for pool in pools]
    return tuple(zip((pool.name for pool in pools), largest_remainder(speeds), strict=True))


def _target(workload: WorkloadClass, memory: ClassMemory, limit: LimitKind) -> ClassTarget:
    """The order for one class: what is remembered, under the user's ceiling; a limit or a fence, never both."""
    ceiling = workload.in_flight_ceiling
    in_flight = memory.in_flight_limit
    if ceiling is not None:
        in_flight = ceiling if in_flight is None else min(in_flight, ceiling)
    fence = memory.fence if limit is LimitKind.RATE else None
    if fence is not None and in_flight is not None:  # a proxy has one breaker: the tighter one
        fence, in_flight = (None, in_flight) if fence >= in_flight else (fence, None)
    return ClassTarget(
        name=workload.name,
        rate_limit=memory.rate_limit,
        burst=None if memory.rate_limit is None else _burst(workload, memory.rate_limit),
        in_flight_limit=in_flight,
        fence=fence,
        weights=memory.weights,
    )


def _burst(workload: WorkloadClass, rate: float) -> int:
    """Depth of the token bucket, requests: see *Bursts* above."""
    promise = workload.ttft_promise_seconds
    seconds = DEFAULT_BURST_SECONDS if promise is None else min(max(promise, BURST_SECONDS[0]), BURST_SECONDS[1])
    return max(1, math.ceil(rate * seconds - ROUNDING))


def _is_tighter(after: float | None, before: float | None) -> bool:
    """Whether a limit (None: unlimited) became smaller."""
    return after is not None and (before is None or after < before)
