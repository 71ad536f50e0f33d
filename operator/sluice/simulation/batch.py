"""One replica's batch: how long its iterations take, and how far a span of them goes.

A *span* is a run of iterations in which nothing enters or leaves the batch. Its length
in seconds has a closed form, so a replica needs one event per span and not one per
token: until the first sequence ends, the prompt at the head ends, or memory is full.
When something arrives in the middle, the span is cut at the end of the iteration in
progress. In the paper's network tokens are infinitely divisible: spans end and are cut
anywhere.

How long one iteration takes is told by ``durations``.
"""

from __future__ import annotations

import math

from sluice.policy.compiled import inner
from sluice.simulation.agenda import tree_set
from sluice.simulation.durations import iteration_seconds, span_seconds, steps_until
from sluice.simulation.layout import Array, Sim
from sluice.simulation.prefix_cache import held_tokens, hold, let_go, trim

TINY = 1e-6
"""Tokens; the clocks' rounding stays far below it."""


@inner
def _advance_prompts(sim: Sim, replica: Array, tokens: float) -> None:
    """Spend computed prompt tokens on the unfinished prompts, in order."""
    q = replica.head
    whole = sim.core[0].whole_prompts
    while q >= 0 and tokens > 0.0:
        request = sim.requests[q]
        spent = min(tokens, request.left)
        request.left -= spent
        tokens -= spent
        if not whole:
            replica.owed -= spent
        q = request.next


@inner
def settle(sim: Sim, r: int, now: float, ended: bool) -> None:
    """Bring a replica's clocks to ``now``: in the network at any time, else at a boundary.

    At the end of its span a replica has done exactly the planned iterations: computed
    from the time, a rounding error could leave a remainder too short to ever pass.
    """
    replica = sim.replicas[r]
    elapsed = now - replica.since
    replica.since = now
    if replica.decodes + replica.prefills == 0:
        return
    steps = replica.steps
    if not ended:
        steps = min(steps, elapsed / replica.tau)
    replica.busy += elapsed
    sim.core[0].iterations += steps
    if replica.prefills > 0:
        replica.mixed += elapsed
    if replica.stepping:
        replica.clock += steps
        replica.kv += steps * replica.decodes
    if replica.chunk > 0.0:
        _advance_prompts(sim, replica, steps * replica.chunk)


@inner
def add_decode(sim: Sim, r: int, q: int) -> None:
    """Put a request into a decode slot; the caller saw to it that there is one."""
    replica, request = sim.replicas[r], sim.requests[q]
    place = replica.decodes
    slot = sim.slots[r, place]
    slot.end = replica.clock + request.todo
    slot.request = q
    request.mixed -= replica.mixed
    replica.decodes += 1
    request.state = 5
    request.replica = r


@inner
def drop_decode(sim: Sim, r: int, place: int) -> int:
    """Take a sequence out of its slot; the last one moves into the gap."""
    replica = sim.replicas[r]
    q = int(sim.slots[r, place].request)
    last = replica.decodes - 1
    sim.slots[r, place].end = sim.slots[r, last].end
    sim.slots[r, place].request = sim.slots[r, last].request
    replica.decodes = last
    sim.requests[q].mixed += replica.mixed
    return q


@inner
def _shortest(sim: Sim, r: int) -> float:
    """Decode steps until the first sequence ends."""
    replica = sim.replicas[r]
    least = math.inf
    for k in range(replica.decodes):
        least = min(least, sim.slots[r, k].end)
    return float(max(0.0, least - replica.clock))


@inner
def stays(sim: Sim, q: int) -> bool:
    """Whether a request decodes on the engine that computes its prompt, and so with its cached blocks."""
    return bool(sim.core[0].decode == 0 or sim.requests[q].preempted > 0)


@inner
def _latest(sim: Sim, r: int) -> int:
    """The slot of the decode that arrived last."""
    latest, place = -1, 0
    for k in range(sim.replicas[r].decodes):
        if sim.slots[r, k].request > latest:
            latest, place = int(sim.slots[r, k].request), k
    return place


@inner
def _preempt(sim: Sim, r: int) -> None:
    """Take the latest arrival's decode out and recompute it later, as vLLM does when memory is full."""
    replica = sim.replicas[r]
    place = _latest(sim, r)
    end = sim.slots[r, place].end
    q = drop_decode(sim, r, place)
    request = sim.requests[q]
    request.todo = end - replica.clock
    resident = request.prompt + request.output - 1.0 - request.todo
    replica.kv -= resident
    request.left = resident
    request.state = 2
    request.preempted += 1
    request.next = replica.head
    if replica.head < 0:
        replica.tail = q
    replica.head = q
    replica.listed += 1
    if not sim.core[0].whole_prompts:
        replica.owed += resident
    sim.core[0].preemptions += 1


@inner
def _preempt_from_cache(sim: Sim, r: int) -> None:
    """The same, and it lets go of its blocks, which it may find again."""
    trim(sim, r)
    q = int(sim.slots[r, _latest(sim, r)].request)
    if stays(sim, q):
        let_go(sim, r, q)
    _preempt(sim, r)
    trim(sim, r)


@inner
def _resident_tokens(request: Array) -> float:
    """Tokens a prompt will hold: all of it, and after a preemption the answer so far."""
    return float(max(request.prompt, request.left))


@inner
def _has_memory(replica: Array, pool: Array, tokens: float) -> bool:
    """Whether ``tokens`` fit; beside running decodes a hundredth stays free, or they would be preempted at once."""
    room = pool.kv - replica.kv - tokens
    if replica.decodes == 0:
        return bool(room >= 0.0)
    return bool(room == math.inf or room >= 0.01 * pool.kv + replica.decodes)


@inner
def _join_from_cache(sim: Sim, r: int, allowance: float) -> None:
    """Let prompts into the batch by the rules of ``_join``, with the memory and the work that the cache leaves them."""
    replica = sim.replicas[r]
    pool, option = sim.pools[replica.pool], sim.core[0]
    tokens, q = 0.0, int(replica.head)
    while q >= 0 and tokens < allowance:
        request = sim.requests[q]
        if request.state != 3:
            resident = _resident_tokens(request) - held_tokens(sim, r, q)
            full = replica.decodes + replica.reserved + replica.prefills >= pool.slots
            if full or not _has_memory(replica, pool, resident):
                break
            request.state = 3
            replica.prefills += 1
            found = hold(sim, r, q, resident)
            request.left -= found
            if not option.whole_prompts:
                replica.owed -= found
            if request.begun < 0.0:
                request.begun = replica.since
                request.work -= found
        tokens += min(request.left, allowance - tokens)
        q = int(request.next)
        if not option.packing:
            break


@inner
def _join(sim: Sim, r: int, allowance: float) -> float:
    """Let prompts into the batch, in order, while slots and memory last; returns tokens of the chunk."""
    replica = sim.replicas[r]
    pool = sim.pools[replica.pool]
    tokens, q, seen = 0.0, replica.head, 0
    fluid = sim.core[0].fluid
    while q >= 0 and tokens < allowance:
        request = sim.requests[q]
        if request.state != 3:
            full = replica.decodes + replica.reserved + replica.prefills >= pool.slots
            if full or not _has_memory(replica, pool, _resident_tokens(request)):
                break
            request.state = 3
            replica.prefills += 1
            replica.kv += _resident_tokens(request)
            if request.begun < 0.0:
                request.begun = replica.since
        tokens += min(request.left, allowance - tokens)
        q, seen = request.next, seen + 1
        if fluid or not sim.core[0].packing:
            break
    return allowance if fluid and tokens > 0.0 else tokens


@inner
def _allowance(sim: Sim, replica: Array, pool: Array) -> float:
    """Prompt tokens that the next iteration may hold."""
    batching = sim.core[0].batching
    if batching == 0:
        return float(max(1.0, min(pool.chunk, pool.budget - replica.decodes)))
    if batching == 2:
        if replica.decodes == 0:
            replica.draining = 0
        elif replica.draining:
            return 0.0
    return float(pool.budget)


@inner
def plan_span(sim: Sim, r: int) -> None:
    """Decide the next run of iterations of a replica that stands at ``since``, and enter its end in the agenda."""
    replica = sim.replicas[r]
    pool = sim.pools[replica.pool]
    while replica.decodes > 1 and replica.kv + replica.decodes > pool.kv:
        if sim.core[0].block_tokens > 0.0:
            _preempt_from_cache(sim, r)
        else:
            _preempt(sim, r)
    allowance = _allowance(sim, replica, pool)
    if sim.core[0].block_tokens > 0.0:
        _join_from_cache(sim, r, allowance)
    chunk = _join(sim, r, allowance) if replica.head >= 0 and allowance > 0.0 else 0.0
    replica.chunk = chunk
    batching = sim.core[0].batching
    if batching == 2 and chunk <= 0.0:
        replica.draining = 1
    if replica.decodes == 0 and chunk <= 0.0:
        replica.steps = 0.0
        tree_set(sim.trees, 0, r, math.inf)
        return
    replica.stepping = 1 if batching == 0 or chunk <= 0.0 else 0
    decodes = float(replica.decodes) if replica.stepping else 0.0
    steps = _span_steps(sim, r, pool, chunk, decodes)
    replica.steps = steps
    replica.tau = iteration_seconds(sim, pool, chunk, decodes, replica.kv)
    replica.slope = 0.0
    if pool.table >= 0 and steps > 1.0 and decodes > 0.0:
        last = iteration_seconds(sim, pool, chunk, decodes, replica.kv + decodes * (steps - 1.0))
        replica.slope = (last - replica.tau) / (steps - 1.0)
    elif not sim.core[0].fluid:
        replica.slope = pool.per_context * decodes
    seconds = steps * replica.tau if sim.core[0].fluid else span_seconds(replica.tau, replica.slope, steps)
    tree_set(sim.trees, 0, r, replica.since + seconds)


@inner
def _span_steps(sim: Sim, r: int, pool: Array, chunk: float, decodes: float) -> float:
    """Iterations until something must be decided."""
    replica = sim.replicas[r]
    steps = _shortest(sim, r) if decodes > 0.0 else math.inf
    fluid = sim.core[0].fluid
    if chunk > 0.0:
        left = sim.requests[replica.head].left
        if fluid:
            return float(min(steps, left / chunk))
        steps = min(steps, math.floor(left / chunk) if left >= chunk else 1.0)
    if fluid:
        return steps
    if decodes > 0.0 and pool.kv < math.inf:
        steps = min(steps, math.floor((pool.kv - replica.kv) / decodes))
    return max(1.0, steps)


@inner
def mark(sim: Sim, r: int) -> None:
    """Note that a replica must plan its next span when the event is over."""
    replica = sim.replicas[r]
    if not replica.dirty:
        replica.dirty = 1
        replica.next = sim.core[0].dirty
        sim.core[0].dirty = r


@inner
def touch(sim: Sim, r: int, now: float) -> None:
    """Something is about to enter replica ``r`` at ``now``: settle it, or cut its span."""
    replica = sim.replicas[r]
    if replica.dirty:
        return
    idle = replica.decodes + replica.prefills == 0
    if sim.core[0].fluid or idle:
        settle(sim, r, now, False)
        mark(sim, r)
        return
    _cut(sim, r, now)


@inner
def _cut(sim: Sim, r: int, now: float) -> None:
    """End a span with the iteration in progress, unless a full chunk leaves no room anyway."""
    replica = sim.replicas[r]
    if replica.steps <= 1.0:
        return
    steps = steps_until(replica.tau, replica.slope, now - replica.since)
    if steps < replica.steps:
        replica.steps = steps
        tree_set(sim.trees, 0, r, replica.since + span_seconds(replica.tau, replica.slope, steps))
