"""A backlog found is drained: rationed classes are admitted less than planned until it is gone. Pure.

A rate limit at the plan's own rate keeps whatever queue it finds, for the plan leaves no
capacity to work it off: everybody admitted waits as long as the first one did. So while
requests are measured to wait, the rate of the classes that the plan rations is lowered by
the share of capacity that empties the queue within ``DRAIN_SECONDS``.

With everything served first come first served at a fleet that is full, a wait of w seconds
is w seconds of the fleet's whole capacity. The rationed classes hold a share s of it, so
giving up f of their rate frees f * s of the capacity, and

    f = (w - SHORT_WAIT_SECONDS) / (s * DRAIN_SECONDS).

The wait is what is measured: time to first token less the plan's own prefill time. It does
not pass through the law of iteration times but for that small part, so a law that is wrong
cannot hold a limit down where nobody waits. A wait is measured over a window and is late by
half of it; ``DRAIN_SECONDS`` is half a usual window: twice as fast drained a little more and cost
up to 1.4 points of value in simulation, for the queue is gone before the window says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from sluice.model.plan import ClassPlan, Plan

DRAIN_SECONDS = 30.0
"""A queue shall be gone after so long."""
SHORT_WAIT_SECONDS = 0.25
"""A wait that arrivals cause by coming two at a time; it is no backlog."""
LEAST_RELIEF = 0.25
"""A rationed class keeps at least this share of its planned rate, however long the queue."""


def relieved(plan: Plan, ttft_seconds: Mapping[str, float]) -> Plan:
    """``plan`` with the rates that drain the backlog which ``ttft_seconds`` tells of: see :func:`reliefs`."""
    factors = {name: factor for name, factor in reliefs(plan, ttft_seconds).items() if factor < 1.0}
    if not factors:
        return plan
    rates = {entry.name: entry.admitted_rate * factors.get(entry.name, 1.0) for entry in plan.classes}
    classes = tuple(entry.model_copy(update={"admitted_rate": rates[entry.name]}) for entry in plan.classes)
    return plan.model_copy(update={"classes": classes})


def reliefs(plan: Plan, ttft_seconds: Mapping[str, float]) -> Mapping[str, float]:
    """Factor on the planned rate of each rationed class, ``LEAST_RELIEF``..1, by name.

    ``ttft_seconds`` is the mean time to first token as measured, by class; a class without a
    sample says nothing, and no sample at all means no relief. Only classes that share a pool
    with the rationed one count: it cannot drain another queue.
    """
    found = {}
    for entry in plan.classes:
        if entry.rationed:
            near = [other for other in plan.classes if pools_of(entry) & pools_of(other)]
            found[entry.name] = _relief(near, ttft_seconds)
    return found


def _relief(near: Sequence[ClassPlan], ttft_seconds: Mapping[str, float]) -> float:
    share = max(_rationed_share(near, _prefill), _rationed_share(near, _occupancy))
    if share <= 0.0:
        return 1.0
    return min(1.0, max(LEAST_RELIEF, 1.0 - _wait_seconds(near, ttft_seconds) / (share * DRAIN_SECONDS)))


def _wait_seconds(near: Iterable[ClassPlan], ttft_seconds: Mapping[str, float]) -> float:
    """Mean wait before a prefill beyond a short one, over all requests of the classes that were measured."""
    told = [entry for entry in near if entry.name in ttft_seconds and entry.admitted_rate > 0.0]
    rate = sum(entry.admitted_rate for entry in told)
    if rate <= 0.0:
        return 0.0
    waiting = sum(entry.admitted_rate * ttft_seconds[entry.name] - entry.prefill for entry in told)
    return max(0.0, waiting / rate - SHORT_WAIT_SECONDS)


def _rationed_share(near: Sequence[ClassPlan], resource: Callable[[ClassPlan], float]) -> float:
    """Share of a resource that the plan gives to classes it rations; the larger share is the cautious one."""
    total = sum(resource(entry) for entry in near)
    return sum(resource(entry) for entry in near if entry.rationed) / total if total > 0.0 else 0.0


def _prefill(entry: ClassPlan) -> float:
    return entry.prefill


def _occupancy(entry: ClassPlan) -> float:
    return entry.prefill + entry.decode_queue + entry.decode_mixed + entry.decode_solo


def pools_of(entry: ClassPlan) -> frozenset[str]:
    """The pools that the class is sent to."""
    return frozenset(share.pool for share in entry.pools if share.weight_permille > 0)
