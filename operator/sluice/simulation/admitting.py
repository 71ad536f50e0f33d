"""The gate: lanes of waiting requests, who has lost its promise, and which prefill starts next."""

from __future__ import annotations

import math

from sluice.policy.compiled import inner
from sluice.policy.kernels import accrue, choose, late_may_start, latest_start, record_start
from sluice.policy.timely import watch_prices
from sluice.simulation.agenda import tree_first
from sluice.simulation.batch import touch
from sluice.simulation.layout import Sim
from sluice.simulation.placing import keeps_loads, next_replica, place, refresh, room_on, set_timer


@inner
def enqueue(sim: Sim, q: int, now: float) -> None:
    """Put an arrival into its lane."""
    request = sim.requests[q]
    lane = sim.lanes[request.klass]
    request.state = 1
    request.next = -1
    entry = sim.classes[request.klass]
    entry.inside += 1
    if entry.live_tail >= 0:
        sim.requests[entry.live_tail].next = q
        entry.live_tail = q
    else:
        entry.live_head = q
        entry.live_tail = q
        _show_head(sim, request.klass)
    lane.waiting += 1
    if request.patience < math.inf:
        set_timer(sim, now + request.patience, 0, q)


@inner
def _show_head(sim: Sim, i: int) -> None:
    """Tell the rule about the lane's first live request."""
    lane = sim.lanes[i]
    q = sim.classes[i].live_head
    if q < 0:
        return
    lane.head_arrival = sim.requests[q].arrival
    lane.head_latest = latest_start(sim.rule[0], lane, sim.requests[q].arrival, sim.requests[q].work)


@inner
def _pop_live(sim: Sim, i: int) -> int:
    """Take the head of a lane's live list."""
    entry = sim.classes[i]
    q = int(entry.live_head)
    entry.live_head = sim.requests[q].next
    if entry.live_head < 0:
        entry.live_tail = -1
    return q


@inner
def _pop_late(sim: Sim, i: int) -> int:
    """Take the head of a lane's late list."""
    entry = sim.classes[i]
    q = int(entry.late_head)
    entry.late_head = sim.requests[q].next
    if entry.late_head < 0:
        entry.late_tail = -1
    return q


@inner
def tidy(sim: Sim, i: int) -> None:
    """Drop the departed from the heads of a lane."""
    entry = sim.classes[i]
    while entry.live_head >= 0 and sim.requests[entry.live_head].state != 1:
        _pop_live(sim, i)
    while entry.late_head >= 0 and sim.requests[entry.late_head].state != 1:
        _pop_late(sim, i)
    _show_head(sim, i)
    if entry.late_head >= 0:
        sim.lanes[i].late_arrival = sim.requests[entry.late_head].arrival
        sim.lanes[i].late_prompt = sim.requests[entry.late_head].work


@inner
def demote(sim: Sim, now: float) -> None:
    """Move heads that can no longer keep their promise to the late queue, or refuse them."""
    for i in range(len(sim.lanes)):
        _demote_heads(sim, i, now)


@inner
def _demote_heads(sim: Sim, i: int, now: float) -> None:
    late = sim.rule[0].late
    if late == 0:
        return
    lane = sim.lanes[i]
    while lane.waiting > 0 and lane.head_latest < now:
        q = _pop_live(sim, i)
        lane.waiting -= 1
        request = sim.requests[q]
        if late == 2:
            request.state = 9
            request.ended = now
            sim.classes[i].inside -= 1
        else:
            _append_late(sim, i, q)
        tidy(sim, i)


@inner
def _append_late(sim: Sim, i: int, q: int) -> None:
    request = sim.requests[q]
    request.next = -1
    request.promised = -1
    entry = sim.classes[i]
    if entry.late_tail >= 0:
        sim.requests[entry.late_tail].next = q
    else:
        entry.late_head = q
        sim.lanes[i].late_prompt = request.work
    entry.late_tail = q
    sim.lanes[i].late += 1


@inner
def watch(sim: Sim, now: float) -> None:
    """Tell the rule what has kept replicas shut since the last event, if anything waited."""
    run, waiting = sim.core[0], 0
    for i in range(len(sim.lanes)):
        waiting += sim.lanes[i].waiting
    if waiting > 0:
        watch_prices(sim.rule[0], float(run.short_prefill), float(run.short_slots), float(run.short_memory), now)
    else:
        sim.rule[0].watched = now


@inner
def try_gate(sim: Sim, now: float) -> None:
    """Start prefills while a replica is eligible and the rule names a lane."""
    option, rule = sim.core[0], sim.rule[0]
    if sim.sets[0, 0] == 0 or (option.guard and sim.core[0].buffered > 0):
        return
    demote(sim, now)
    accrue(rule, sim.lanes, now)
    while sim.sets[0, 0] > 0:
        here = _at_hand(sim)
        choice = choose(rule, sim.lanes, now)
        if choice < 0:
            return
        count = len(sim.lanes)
        which, i = (0, choice) if choice < count else (1, choice - count)
        if which == 1 and not _reserve_allows(sim):
            return
        q = _pop_live(sim, i) if which == 0 else _pop_late(sim, i)
        lane = sim.lanes[i]
        if which == 0:
            lane.waiting -= 1
            sim.requests[q].promised = 1
        else:
            lane.late -= 1
        tidy(sim, i)
        _demote_heads(sim, i, now)
        record_start(rule, lane)
        _start(sim, q, here if here >= 0 else place(sim, q), now)


@inner
def _at_hand(sim: Sim) -> int:
    """The replica that takes the next prefill, where the rule looks at its room; -1: it does not, or needs the request.

    By gauges alone room is old by a third of a second: it is not looked at.
    """
    option, rule = sim.core[0], sim.rule[0]
    if rule.order != 6 or rule.tilt <= 0.0 or option.sees_slots != 1 or option.decode != 0:
        return -1
    r = next_replica(sim)
    rule.room = 0.0 if r < 0 else room_on(sim, r)
    return r


@inner
def _reserve_allows(sim: Sim) -> bool:
    """Whether the rule lets a late request start now, on the replica that takes the next prefill."""
    placement = sim.core[0].placement
    owed = sim.replicas[tree_first(sim.trees, 1)].owed if keeps_loads(placement) else 0.0
    return late_may_start(sim.rule[0], sim.sets[0, 0], len(sim.replicas), owed)


@inner
def _start(sim: Sim, q: int, r: int, now: float) -> None:
    """Let a request go to its replica; it counts there at once."""
    request, replica = sim.requests[q], sim.replicas[r]
    request.state = 2
    request.started = now
    request.replica = r
    request.left = request.work
    replica.owed += request.left
    replica.sent += 1.0
    if sim.core[0].trip > 0.0:
        replica.listed += 1
        refresh(sim, r)
        set_timer(sim, now + sim.core[0].trip, 2, q)
        return
    replica.listed += 1
    deliver_prompt(sim, q, now)
    refresh(sim, r)


@inner
def deliver_prompt(sim: Sim, q: int, now: float) -> None:
    """A prompt is at its replica: it interrupts a span unless full chunks leave it no room before the span's end."""
    request = sim.requests[q]
    replica = sim.replicas[request.replica]
    if sim.core[0].fluid or replica.chunk <= 0.0 or replica.steps <= 0.0:
        touch(sim, request.replica, now)
    list_prompt(sim, q)


@inner
def list_prompt(sim: Sim, q: int) -> None:
    """Append a prompt to its replica's queue."""
    request = sim.requests[q]
    replica = sim.replicas[request.replica]
    request.next = -1
    if replica.tail >= 0:
        sim.requests[replica.tail].next = q
    else:
        replica.head = q
    replica.tail = q
