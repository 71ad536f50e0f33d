"""The event loop: arrivals, ends of spans, and timers, in the order of time.

At every event: first what ended leaves, then finished prompts are routed and freed slots
take buffered decodes, then the gate admits (paper section 6.3: waiting decodes go before
new prefills), and last the replicas that changed plan their next span.
"""

from __future__ import annotations

import math

from sluice.policy.compiled import compiled, inner
from sluice.simulation.admitting import deliver_prompt, enqueue, tidy, try_gate, watch
from sluice.simulation.agenda import heap_pop, tree_first
from sluice.simulation.batch import TINY, add_decode, drop_decode, mark, plan_span, settle, stays
from sluice.simulation.layout import Sim
from sluice.simulation.placing import read_gauges, refresh
from sluice.simulation.prefix_cache import let_go, trim
from sluice.simulation.routing import deliver_decode, pull, route

REACHED, NEEDS_ROOM = 0, 1
"""Why ``run_until`` came back: the time is reached, or the heap of timers must grow."""

TIMER_ROOM = 8
"""Timers that one event may add at most, beside those of the requests it starts."""


@inner
def _finish(sim: Sim, q: int, now: float) -> None:
    request = sim.requests[q]
    request.state = 6
    request.ended = now
    sim.classes[request.klass].inside -= 1


@inner
def _collect_decodes(sim: Sim, r: int, now: float) -> None:
    """Sequences that have their last token leave."""
    replica = sim.replicas[r]
    k = 0
    while k < replica.decodes:
        if sim.slots[r, k].end - replica.clock <= TINY:
            q = drop_decode(sim, r, k)
            _finish(sim, q, now)
            if not sim.core[0].fluid:
                replica.kv -= sim.requests[q].prompt + sim.requests[q].output - 1.0
        else:
            k += 1


@inner
def _collect_prompts(sim: Sim, r: int, now: float) -> None:
    """Finished prompts leave the list: to their own slot, to the router, or for good."""
    replica = sim.replicas[r]
    option = sim.core[0]
    q = int(replica.head)
    while q >= 0 and sim.requests[q].state == 3 and sim.requests[q].left <= TINY:
        request = sim.requests[q]
        following = int(request.next)
        replica.head = following
        if following < 0:
            replica.tail = -1
        replica.prefills -= 1
        replica.listed -= 1
        if not option.whole_prompts:
            replica.owed -= request.left
        elif request.prefilled < 0.0:
            replica.owed -= request.prompt
        request.left = 0.0
        _first_token(sim, q, now)
        if request.todo <= TINY:
            replica.kv -= request.prompt
            _finish(sim, q, now)
        elif option.decode == 0 or request.preempted > 0:
            if request.first < 0.0:
                request.first = now
            add_decode(sim, r, q)
        else:
            replica.kv -= request.prompt
            request.next = option.prefilled
            option.prefilled = q
        q = following


@inner
def _first_token(sim: Sim, q: int, now: float) -> None:
    """A prompt is done for the first time: its class has one prefill less, and engines emit a token."""
    request = sim.requests[q]
    if request.prefilled >= 0.0:
        return
    request.prefilled = now
    sim.lanes[request.klass].in_prefill -= 1
    if not sim.core[0].fluid:
        request.first = now


@inner
def _absorb(sim: Sim, r: int) -> None:
    """Decodes that arrived during the span enter at its end."""
    replica = sim.replicas[r]
    q = int(replica.joining)
    replica.joining = -1
    while q >= 0:
        request = sim.requests[q]
        following = int(request.next)
        replica.reserved -= 1
        replica.kv += request.prompt
        add_decode(sim, r, q)
        q = following


@inner
def _let_go_of_blocks(sim: Sim, r: int) -> None:
    """What is about to leave the batch lets go of its cached blocks; apart, to keep hot functions small."""
    trim(sim, r)
    replica = sim.replicas[r]
    for k in range(replica.decodes):
        q = int(sim.slots[r, k].request)
        if sim.slots[r, k].end - replica.clock <= TINY and stays(sim, q):
            let_go(sim, r, q)
    q = int(replica.head)
    while q >= 0 and sim.requests[q].state == 3 and sim.requests[q].left <= TINY:
        if sim.requests[q].todo <= TINY or not stays(sim, q):
            let_go(sim, r, q)
        q = int(sim.requests[q].next)


@inner
def _end_span(sim: Sim, r: int, now: float) -> None:
    """A replica reached the end of its span."""
    settle(sim, r, now, True)
    if sim.core[0].block_tokens > 0.0:
        _let_go_of_blocks(sim, r)
    mark(sim, r)
    _collect_decodes(sim, r, now)
    _collect_prompts(sim, r, now)
    _absorb(sim, r)
    if sim.core[0].block_tokens > 0.0:
        trim(sim, r)
    refresh(sim, r)


@inner
def _leave_engine_queue(sim: Sim, q: int) -> None:
    """Take a request out of its replica's queue before it began."""
    request = sim.requests[q]
    r = int(request.replica)
    replica = sim.replicas[r]
    previous, k = -1, int(replica.head)
    while k >= 0 and k != q:
        previous, k = k, int(sim.requests[k].next)
    replica.listed -= 1
    replica.owed -= request.left
    sim.lanes[request.klass].in_prefill -= 1
    if k >= 0:
        if previous < 0:
            replica.head = request.next
        else:
            sim.requests[previous].next = request.next
        if replica.tail == q:
            replica.tail = previous
    refresh(sim, r)


@inner
def _lose_patience(sim: Sim, q: int, now: float) -> None:
    """A client leaves if its prefill has not begun."""
    request = sim.requests[q]
    if request.state == 1:
        lane = sim.lanes[request.klass]
        if request.promised < 0:
            lane.late -= 1
        else:
            lane.waiting -= 1
        request.state = 7
        request.ended = now
        sim.classes[request.klass].inside -= 1
        tidy(sim, request.klass)
    elif request.state == 2 and request.begun < 0.0:
        request.state = 7
        request.ended = now
        sim.classes[request.klass].inside -= 1
        _leave_engine_queue(sim, q)


@inner
def _lose_decode_patience(sim: Sim, q: int, now: float) -> None:
    """A client leaves a decode buffer."""
    request = sim.requests[q]
    if request.state != 4:
        return
    request.state = 8
    request.ended = now
    sim.classes[request.klass].inside -= 1
    sim.core[0].buffered -= 1
    kind = sim.core[0].decode
    pool = 0 if kind == 1 or request.coin <= sim.classes[request.klass].split else 1
    sim.buffers[pool, request.klass if kind == 3 else 0].size -= 1


@inner
def _timer(sim: Sim, kind: int, q: int, now: float) -> None:
    request = sim.requests[q]
    if kind == 0:
        _lose_patience(sim, q, now)
    elif kind == 1:
        _lose_decode_patience(sim, q, now)
    elif kind == 2:
        if request.state == 2:
            deliver_prompt(sim, q, now)
            refresh(sim, request.replica)
    else:
        sim.replicas[request.replica].reserved -= 1
        deliver_decode(sim, q, now)
        refresh(sim, request.replica)


@inner
def _refuses(sim: Sim, i: int, now: float) -> bool:
    """A rate limit, a limit on requests in flight, or a full queue refuses an arrival of class ``i``.

    In the order of a proxy: a request that the breaker refuses has already taken its token.
    """
    entry = sim.classes[i]
    if entry.limit_rate < math.inf:
        entry.limit_tokens = min(entry.limit_depth, entry.limit_tokens + entry.limit_rate * (now - entry.limit_at))
        entry.limit_at = now
        if entry.limit_tokens < 1.0:
            return True
        entry.limit_tokens -= 1.0
    if entry.inside >= entry.limit_inside:
        return True
    return bool(sim.lanes[i].waiting + sim.lanes[i].late >= sim.core[0].queue_limit)


@inner
def _arrive(sim: Sim, q: int, now: float) -> None:
    request = sim.requests[q]
    if request.state == 9:
        request.ended = now
    elif _refuses(sim, request.klass, now):
        request.state = 9
        request.ended = now
    else:
        enqueue(sim, q, now)


@inner
def _after(sim: Sim, r: int, now: float) -> None:
    """What an event sets free finds new work; then the changed replicas plan on."""
    run = sim.core[0]
    if sim.core[0].eager:
        try_gate(sim, now)
    q = int(run.prefilled)
    run.prefilled = -1
    while q >= 0:
        following = int(sim.requests[q].next)
        route(sim, q, now)
        q = following
    if r >= 0 and run.buffered > 0:
        pull(sim, r, now)
    try_gate(sim, now)
    changed = int(run.dirty)
    run.dirty = -1
    while changed >= 0:
        sim.replicas[changed].dirty = 0
        plan_span(sim, changed)
        refresh(sim, changed)
        changed = int(sim.replicas[changed].next)


EVENT_END, EVENT_TIMER, EVENT_ARRIVAL, EVENT_READING = 0, 1, 2, 3


@inner
def _next_event(sim: Sim) -> tuple[float, int]:
    """(time, kind) of what happens next."""
    run = sim.core[0]
    time, kind = sim.trees[0, 1], EVENT_END
    if run.timers > 0 and sim.timers[0].time < time:
        time, kind = sim.timers[0].time, EVENT_TIMER
    if run.arrivals < len(sim.requests) and sim.requests[run.arrivals].arrival <= time:
        time, kind = sim.requests[run.arrivals].arrival, EVENT_ARRIVAL
    if run.read_at < time:
        time, kind = run.read_at, EVENT_READING
    return time, kind


@compiled
def run_until(sim: Sim, horizon: float) -> int:
    """Process every event before ``horizon`` and stop there; may be called again to go on."""
    run = sim.core[0]
    room = len(sim.timers) - TIMER_ROOM
    while True:
        if run.timers + sim.sets[0, 0] >= room:
            return 1
        time, kind = _next_event(sim)
        if time >= horizon:
            run.now = horizon
            return 0
        run.now = time
        run.events += 1
        if sim.rule[0].order == 6:
            watch(sim, time)
        freed = -1
        if kind == EVENT_END:
            freed = tree_first(sim.trees, 0)
            _end_span(sim, freed, time)
        elif kind == EVENT_TIMER:
            what = int(sim.timers[0].what)
            run.timers = heap_pop(sim.timers, run.timers)
            _timer(sim, what % 4, what // 4, time)
        elif kind == EVENT_READING:
            read_gauges(sim, time)
        else:
            _arrive(sim, run.arrivals, time)
            run.arrivals += 1
        _after(sim, freed, time)


@compiled
def refresh_all(sim: Sim) -> None:
    """Enter every replica into the index sets; after roles or budgets have changed from outside."""
    for r in range(len(sim.replicas)):
        refresh(sim, r)


@compiled
def settle_all(sim: Sim, horizon: float) -> None:
    """Count the occupancy of spans in progress at the end (the network only: its spans stop anywhere)."""
    for r in range(len(sim.replicas)):
        if sim.core[0].fluid:
            settle(sim, r, horizon, False)
            plan_span(sim, r)
