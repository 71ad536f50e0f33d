"""What happens to requests between queues: the gate's starts, the decode router, and departures."""

from __future__ import annotations

import math

from sluice.policy.compiled import inner
from sluice.policy.kernels import accrue, choose, late_may_start, latest_start, record_start
from sluice.simulation.agenda import draw, heap_push, set_change, tree_first, tree_set
from sluice.simulation.batch import add_decode, touch
from sluice.simulation.layout import Array, Sim

TIMER_PATIENCE, TIMER_DECODE_PATIENCE, TIMER_DELIVER_PROMPT, TIMER_DELIVER_DECODE = 0, 1, 2, 3


@inner
def set_timer(sim: Sim, time: float, kind: int, q: int) -> None:
    """Enter a timer; the event loop saw to it that there is room."""
    run = sim.core[0]
    run.timers = heap_push(sim.timers, run.timers, time, q * 4 + kind)


@inner
def has_slot(sim: Sim, replica: Array) -> bool:
    """Whether one more sequence fits beside all that are in the batch or on their way."""
    return bool(replica.decodes + replica.reserved + replica.listed < sim.pools[replica.pool].slots)


@inner
def may_decode(sim: Sim, replica: Array) -> bool:
    """Whether the router may send a decode here."""
    if replica.decodes + replica.reserved >= replica.limit:
        return False
    return replica.role != 0 or has_slot(sim, replica)


@inner
def may_prefill(sim: Sim, replica: Array) -> bool:
    """Whether the gate may start a prefill here: budget, and a slot where slots are seen."""
    option = sim.core[0]
    if replica.role == 2:
        return False
    if replica.listed >= option.least_requests and replica.owed >= option.budget:
        return False
    return replica.role != 0 or not option.sees_slots or has_slot(sim, replica)


@inner
def refresh(sim: Sim, r: int) -> None:
    """Bring the index sets and the placement tree up to date after a change on replica ``r``."""
    replica = sim.replicas[r]
    option = sim.core[0]
    eligible = may_prefill(sim, replica)
    set_change(sim.sets, 0, r, eligible)
    if option.decode != 0:
        free = may_decode(sim, replica)
        mixed = replica.role == 1 or (replica.role == 0 and replica.listed > 0)
        set_change(sim.sets, 1, r, free and not mixed)
        set_change(sim.sets, 2, r, free and mixed)
    if 1 <= option.placement <= 2:
        load = math.inf
        if eligible:
            load = float(replica.decodes + replica.reserved + replica.listed)
            if option.placement == 2:
                load = load * 1e-3 + replica.owed
        tree_set(sim.trees, 1, r, load)


@inner
def place(sim: Sim) -> int:
    """The replica that takes the next prefill; the caller saw to it that one is eligible."""
    placement = sim.core[0].placement
    if placement == 0:
        return int(sim.sets[0, 1 + int(draw(sim.core[0]) * sim.sets[0, 0])])
    if placement == 3:
        run = sim.core[0]
        run.turn += 1
        return int(sim.sets[0, 1 + run.turn % sim.sets[0, 0]])
    return tree_first(sim.trees, 1)


@inner
def enqueue(sim: Sim, q: int, now: float) -> None:
    """Put an arrival into its lane."""
    request = sim.requests[q]
    lane = sim.lanes[request.klass]
    request.state = 1
    request.next = -1
    entry = sim.classes[request.klass]
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


@inner
def demote(sim: Sim, now: float) -> None:
    """Move heads that can no longer keep their promise to the late queue, or refuse them."""
    late = sim.rule[0].late
    if late == 0:
        return
    for i in range(len(sim.lanes)):
        lane = sim.lanes[i]
        while lane.waiting > 0 and lane.head_latest < now:
            q = _pop_live(sim, i)
            lane.waiting -= 1
            request = sim.requests[q]
            if late == 2:
                request.state = 9
                request.ended = now
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
    entry.late_tail = q
    sim.lanes[i].late += 1


@inner
def try_gate(sim: Sim, now: float) -> None:
    """Start prefills while a replica is eligible and the rule names a lane."""
    option, rule = sim.core[0], sim.rule[0]
    if sim.sets[0, 0] == 0 or (option.guard and sim.core[0].buffered > 0):
        return
    demote(sim, now)
    accrue(rule, sim.lanes, now)
    while sim.sets[0, 0] > 0:
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
        record_start(rule, lane)
        _start(sim, q, place(sim), now)


@inner
def _reserve_allows(sim: Sim) -> bool:
    """Whether the rule lets a late request start now, on the replica that takes the next prefill."""
    placement = sim.core[0].placement
    owed = sim.replicas[tree_first(sim.trees, 1)].owed if 1 <= placement <= 2 else 0.0
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


@inner
def _buffer(sim: Sim, kind: int, i: int, q: int, now: float) -> None:
    """Let a finished prompt wait for a decode slot."""
    request = sim.requests[q]
    request.state = 4
    request.next = -1
    entry = sim.buffers[kind, i]
    if entry.tail >= 0:
        sim.requests[entry.tail].next = q
    else:
        entry.head = q
    entry.tail = q
    entry.size += 1
    sim.core[0].buffered += 1
    if request.decode_patience < math.inf:
        set_timer(sim, now + request.decode_patience, 1, q)


@inner
def _hand_over(sim: Sim, q: int, r: int, now: float) -> None:
    """Start a request's decode on replica ``r``, after the transfer where that takes time."""
    request, replica = sim.requests[q], sim.replicas[r]
    pool = sim.pools[replica.pool]
    moved = request.replica != r
    seconds = pool.transfer + pool.transfer_token * request.prompt if moved else 0.0
    request.replica = r
    if seconds > 0.0:
        replica.reserved += 1
        set_timer(sim, now + seconds, 3, q)
    else:
        deliver_decode(sim, q, now)
    refresh(sim, r)


@inner
def deliver_decode(sim: Sim, q: int, now: float) -> None:
    """A decode is here: into the batch, or to the next boundary's list."""
    request = sim.requests[q]
    r = request.replica
    replica = sim.replicas[r]
    touch(sim, r, now)
    if replica.dirty:
        if request.first < 0.0:
            request.first = now
        replica.kv += request.prompt
        add_decode(sim, r, q)
        return
    replica.reserved += 1
    request.next = replica.joining
    replica.joining = q


@inner
def route(sim: Sim, q: int, now: float) -> None:
    """A prompt is finished and may decode elsewhere: choose where (paper sections 3.2, 3.4, 3.5)."""
    request = sim.requests[q]
    kind = sim.core[0].decode
    if kind == 1:
        which = 1 if sim.sets[1, 0] > 0 else 2
        if sim.sets[which, 0] == 0:
            _buffer(sim, 0, 0, q, now)
            return
    else:
        which = 1 if request.coin <= sim.classes[request.klass].split else 2
        if sim.sets[which, 0] == 0:
            _buffer(sim, which - 1, request.klass if kind == 3 else 0, q, now)
            return
    r = int(sim.sets[which, 1 + int(draw(sim.core[0]) * sim.sets[which, 0])])
    _hand_over(sim, q, r, now)


@inner
def _share(entry: Array, kind: int) -> float:
    return float(entry.pull_solo if kind == 0 else entry.pull_mixed)


@inner
def _drawn_class(sim: Sim, kind: int) -> int:
    """Section 3.5: a class among the non-empty buffers, by planned decode completions."""
    total, last = 0.0, -1
    for i in range(len(sim.lanes)):
        if sim.buffers[kind, i].size > 0:
            total += _share(sim.classes[i], kind)
            last = i
    if last < 0 or total <= 0.0:
        return last
    point = draw(sim.core[0]) * total
    for i in range(len(sim.lanes)):
        if sim.buffers[kind, i].size > 0:
            point -= _share(sim.classes[i], kind)
            if point <= 0.0:
                return i
    return last


@inner
def _head_of_buffer(sim: Sim, kind: int, i: int) -> int:
    """Take the first request that still waits out of a buffer; -1: none."""
    entry = sim.buffers[kind, i]
    while entry.head >= 0:
        q = int(entry.head)
        entry.head = sim.requests[q].next
        if entry.head < 0:
            entry.tail = -1
        if sim.requests[q].state == 4:
            entry.size -= 1
            sim.core[0].buffered -= 1
            return q
    return -1


@inner
def pull(sim: Sim, r: int, now: float) -> None:
    """Fill the free decode slots of replica ``r`` from the buffers."""
    kind = sim.core[0].decode
    replica = sim.replicas[r]
    while sim.core[0].buffered > 0 and may_decode(sim, replica):
        pool = 0
        if kind >= 2 and (replica.role == 1 or (replica.role == 0 and replica.listed > 0)):
            pool = 1
        i = _drawn_class(sim, pool) if kind == 3 else 0
        q = -1 if i < 0 else _head_of_buffer(sim, pool, i)
        if q < 0:
            return
        _hand_over(sim, q, r, now)
