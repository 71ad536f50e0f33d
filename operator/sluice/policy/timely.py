"""The timely order: by value for what is scarce, and by promise as far as value allows it.

Every class has a *cost*: seconds of one engine that a request of it takes of what is scarce.
What is scarce is watched, not assumed: three prices follow what leaves engines idle while
something waits (unfinished prefill, slots, KV memory), and a cost is the priced sum of what
a request takes of each. Value over cost is a class's *worth*.

Two things keep both full where prefill and slots bind at once. What stood idle counts by its
price: an engine without a prefill is dearer than some of its slots. And slots are the cheaper
on the engine at hand the more of them are free there: an emptier engine takes the long answer,
a fuller one the long prompt.

Walk all classes from the worthiest down, as long as what waits in them can still be started
in time beside all that comes to them (a Moore-Hodgson test by lanes; a worthier class counts
also while nothing of it waits, or one that is rationed would slip in between). The walk also
ends at a class that is rationed whatever luck brings: what one of it gains by going first
another of it loses, and the worthier wait meanwhile, some of them until they leave. Among the
classes walked so far the worthiest goes first, but for one whose promise would be in danger
by the time its turn comes: that goes at once, the earliest first. What the walk did not
reach waits for what it did. A class with a guaranteed share goes before all others once its
credit is nearly full: until then its turn may still come by itself. Of what has lost its
promise goes first what is least in the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sluice.policy.compiled import compiled, inner

LEAST_PRICE = 0.02
"""Of a resource that is not scarce: it can become so, and prices move by factors."""
BESIDE_PREFILL = 0.25
"""What a slot that is free beside a prefill counts: answers run several times as slowly there."""

LUCK = 4.0
"""Standard deviations of what comes within the horizon: more than these above capacity, and a class is rationed.

Of prompts of some thousand tokens these are half of capacity on two engines, an eighth on 32: a small
fleet has lulls in which less worthy ones would start instead, a large one has none.
"""
SCATTER = 2.0
"""Second moment of a request's cost over its mean squared: lengths scatter as widely as they are long."""
NEARLY_FULL = 0.8
"""Share of its credit's depth from which a guaranteed class goes before all; the rest is not to be lost."""


@compiled
def watch_prices(rule: Any, prefill: float, slots: float, memory: float, now: float) -> None:
    """Let prices follow what stood idle since the last call for want of what, in engines by reason.

    Multiplicative weights of what was lost: what is short counts by the price of what stood idle
    for it, not by its own. Where two resources bind, prices settle where both lose as much value;
    by time alone they would let ten engines in a hundred prefill nothing, to fill slots of a
    tenth of their price. Nothing idle: nothing learnt.
    """
    elapsed = min(now - rule.watched, rule.price_seconds)
    rule.watched = now
    prefill *= BESIDE_PREFILL * (1.0 - rule.prefill_price)
    slots *= 1.0 - rule.slot_price
    memory *= 1.0 - rule.memory_price
    idle = prefill + slots + memory
    if idle <= 0.0 or elapsed <= 0.0 or rule.price_seconds == np.inf:
        return
    pace = elapsed / (rule.price_seconds * idle)
    a = rule.prefill_price * np.exp(min(50.0, pace * prefill))
    b = rule.slot_price * np.exp(min(50.0, pace * slots))
    c = rule.memory_price * np.exp(min(50.0, pace * memory))
    rule.prefill_price = max(LEAST_PRICE, a / (a + b + c))
    rule.slot_price = max(LEAST_PRICE, b / (a + b + c))
    rule.memory_price = max(LEAST_PRICE, c / (a + b + c))


@inner
def _cost(rule: Any, lane: Any) -> float:
    """Seconds of one engine that a request of the lane takes of what is scarce."""
    return float(rule.prefill_price * lane.busy + rule.slot_price * lane.hold + rule.memory_price * lane.memory)


@inner
def _discount(rule: Any) -> float:
    """Of slots on the engine at hand: what is free there is lost unless an answer fills it."""
    return 1.0 if rule.room <= 0.0 else float(np.exp(-rule.tilt * rule.room))


@inner
def cost_of_late(rule: Any, lane: Any) -> float:
    """The same of the late head, with its own prompt where the gate knows it."""
    if not rule.own_prompt:
        return _cost(rule, lane)
    besides = max(0.0, lane.busy - lane.mean_prompt * rule.prefill_seconds)  # its share of others' iterations
    busy = besides + lane.late_prompt * rule.prefill_seconds
    return float(_cost(rule, lane) + rule.prefill_price * (busy - lane.busy))


@inner
def _appraise(rule: Any, lanes: Any) -> None:
    """Worth and turn of every lane at the present prices; nobody is kept yet.

    A start puts off the next one by its own cost where prefill or memory is scarce. Where slots
    are, it takes one, and the next becomes free after a planned start's time, whosever it was.
    """
    starts, discount = 0.0, _discount(rule)
    for i in range(len(lanes)):
        starts += lanes[i].rate
    for i in range(len(lanes)):
        lane = lanes[i]
        lane.kept = 0
        here = rule.prefill_price * lane.busy
        here += discount * rule.slot_price * lane.hold + rule.memory_price * lane.memory
        lane.worth = lane.value / max(here, 1e-12)
        lane.turn = rule.prefill_price * lane.busy / rule.engines
        by_slots = 1.0 - rule.prefill_price
        if lane.memory > 0.0:
            lane.turn += rule.memory_price * lane.memory / rule.engines
            by_slots = max(0.0, by_slots - rule.memory_price)
        lane.turn += by_slots / max(starts, 1e-12)


@inner
def _span(rule: Any, lane: Any) -> float:
    """Seconds that a request which arrives now can wait."""
    if lane.promise == np.inf:
        return float(rule.horizon)
    return float(max(1e-3, lane.promise - rule.margin - lane.mean_prompt * rule.prefill_seconds))


@inner
def _due(rule: Any, lane: Any, now: float, within: float) -> float:
    """Seconds of work that the lane needs by ``within``: what arrives until then and is due, and what waits.

    What waits is due from its head's last moment on, evenly until that of a request that arrives now.
    """
    span = _span(rule, lane)
    head = lane.head_latest - now
    if head == np.inf:
        head = lane.head_arrival + rule.horizon - now
    last = max(span, head)
    share = 1.0
    if within < last:
        share = max(0.0, (within - head) / max(last - head, 1e-9))
    return float(lane.turn * (share * lane.waiting + lane.arrivals * max(0.0, within - span)))


@inner
def _fits(rule: Any, lanes: Any, i: int, now: float) -> bool:
    """Whether all that waits in the kept lanes and in lane ``i`` can be started in time."""
    lane = lanes[i]
    span = _span(rule, lane)
    lane.demand = _due(rule, lane, now, span)
    fits = True
    for k in range(len(lanes)):
        other = lanes[k]
        if not other.kept:
            continue
        lane.demand += _due(rule, other, now, span)
        window = _span(rule, other)
        other.demand += _due(rule, lane, now, window)
        if other.demand > rule.spoken * window:
            fits = False
    return fits and lane.demand <= rule.spoken * span


@inner
def _owed(rule: Any, lanes: Any) -> int:
    """The lane whose guaranteed share is most overdue; -1: none."""
    best, longest = -1, 0.0
    for i in range(len(lanes)):
        lane = lanes[i]
        if lane.waiting <= 0 or lane.floor <= 0.0 or lane.credit / lane.floor <= longest:
            continue
        if lane.credit >= max(1.0, NEARLY_FULL * rule.credit_seconds * lane.floor):
            best, longest = i, lane.credit / lane.floor
    return best


@inner
def _worthiest(lanes: Any, least_waiting: int) -> int:
    """The lane of the highest tier, and there of the highest worth, that is not kept; -1: none.

    Only lanes in which so many wait.
    """
    best = -1
    for i in range(len(lanes)):
        lane = lanes[i]
        if lane.waiting < least_waiting or lane.kept:
            continue
        if best < 0 or (-lane.tier, lane.worth) > (-lanes[best].tier, lanes[best].worth):
            best = i
    return best


@inner
def choose_timely(rule: Any, lanes: Any, now: float) -> int:
    """The lane whose live head starts next; -1: nobody waits."""
    _appraise(rule, lanes)
    owed = _owed(rule, lanes)
    if owed >= 0:
        return owed
    first, unwalked = _worthiest(lanes, 1), 0
    for i in range(len(lanes)):
        unwalked += lanes[i].waiting > 0
    if unwalked <= 1:
        return first
    urgent, ahead, load, variance = -1, 0.0, 0.0, 0.0
    while unwalked > 0:
        i = _worthiest(lanes, 0)
        lane = lanes[i]
        cost = _cost(rule, lane) / rule.engines
        load += lane.arrivals * cost
        variance += SCATTER * lane.arrivals * cost * cost / rule.horizon
        if load > 1.0 + LUCK * np.sqrt(variance) or not _fits(rule, lanes, i, now):
            break
        lane.kept = 1
        if lane.waiting <= 0:
            continue
        unwalked -= 1
        hurries = lane.head_latest - now < ahead + rule.guard
        if hurries and (urgent < 0 or lane.head_latest < lanes[urgent].head_latest):
            urgent = i
        ahead += lane.waiting * lane.turn
    return urgent if urgent >= 0 else first
