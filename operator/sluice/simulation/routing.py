"""Where a finished prompt decodes: at once on a replica with a free slot, else from a buffer when one falls free."""

from __future__ import annotations

import math

from sluice.policy.compiled import inner
from sluice.simulation.agenda import draw
from sluice.simulation.batch import add_decode, touch
from sluice.simulation.layout import Array, Sim
from sluice.simulation.placing import may_decode, refresh, set_timer


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
