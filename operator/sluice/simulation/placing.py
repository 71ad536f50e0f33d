"""Which replicas have room for a prefill or a decode, and which of them takes the next prefill."""

from __future__ import annotations

import math

from sluice.policy.compiled import inner
from sluice.simulation.agenda import draw, heap_push, set_change, tree_first, tree_set
from sluice.simulation.layout import Array, Sim
from sluice.simulation.prefix_cache import cached_tokens

READING_SECONDS = 0.5
"""Between two readings of the gauges, as ``sluice.gate.residents`` has it."""
EXPECTATION_FADES = 0.95
"""Per reading: the most ends between two readings are expected again, for some ten seconds."""
TIMER_PATIENCE, TIMER_DECODE_PATIENCE, TIMER_DELIVER_PROMPT, TIMER_DELIVER_DECODE = 0, 1, 2, 3


@inner
def set_timer(sim: Sim, time: float, kind: int, q: int) -> None:
    """Enter a timer; the event loop saw to it that there is room."""
    run = sim.core[0]
    run.timers = heap_push(sim.timers, run.timers, time, run.timers_set, q * 4 + kind)
    run.timers_set += 1


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
def _taken(sim: Sim, replica: Array) -> float:
    """Slots that the gate believes taken; by gauges it counts on the ends it has lately seen between readings."""
    if sim.core[0].sees_slots == 2:
        return float(replica.seen + replica.sent - replica.leaving)
    return float(replica.decodes + replica.reserved + replica.listed)


@inner
def _sees_slot(sim: Sim, replica: Array) -> bool:
    """Whether the gate believes in a free slot."""
    return bool(_taken(sim, replica) < sim.pools[replica.pool].slots)


@inner
def _sees_memory(sim: Sim, replica: Array) -> bool:
    """Whether resident and promised tokens leave headroom; an empty replica takes anything."""
    if sim.core[0].fluid or replica.decodes + replica.listed == 0:
        return True
    return bool(replica.kv + replica.owed < sim.core[0].kv_share * sim.pools[replica.pool].kv)


@inner
def shut(sim: Sim, replica: Array) -> int:
    """Why the gate may start no prefill here: sum of 1 budget, 2 slots, 4 memory, 8 its role; 0 where it may.

    16 shuts nothing: by the last reading all slots are taken, but some are expected to end.
    """
    option = sim.core[0]
    if replica.role == 2:
        return 8
    why = 0
    if replica.listed >= option.least_requests and replica.owed >= option.budget:
        why = 1
    if replica.role == 0 and option.sees_slots:
        if not _sees_slot(sim, replica):
            why += 2
        elif not _sees_memory(sim, replica):
            why += 4
        elif option.sees_slots == 2 and replica.seen + replica.sent >= sim.pools[replica.pool].slots:
            why += 16
    return why


@inner
def may_prefill(sim: Sim, replica: Array) -> bool:
    """Whether the gate may start a prefill here."""
    return (shut(sim, replica) & 15) == 0


@inner
def _note_shut(sim: Sim, replica: Array, why: int) -> None:
    """Keep count of what stands idle for want of what; engines by memory, which holds up both."""
    run, before, idle = sim.core[0], int(replica.shut), 0.0
    if why & 1:
        slots = sim.pools[replica.pool].slots
        idle = max(0, slots - replica.decodes - replica.reserved - replica.listed) / slots
    run.short_prefill += idle - replica.idle_slots
    run.short_slots += _lacks_slots_only(why) - _lacks_slots_only(before)
    run.short_memory += ((why & 4) > 0) - ((before & 4) > 0)
    replica.shut, replica.idle_slots = why, idle


@inner
def _lacks_slots_only(why: int) -> bool:
    return (why & 1) == 0 and (why & 18) > 0


@inner
def read_gauges(sim: Sim, now: float) -> None:
    """Every replica reports how many requests it holds."""
    run = sim.core[0]
    run.read_at = now + READING_SECONDS
    for r in range(len(sim.replicas)):
        replica = sim.replicas[r]
        inside = float(replica.decodes + replica.reserved + replica.listed)
        ended = max(0.0, replica.seen + replica.sent - inside)
        replica.leaving = max(ended, replica.leaving * EXPECTATION_FADES)
        replica.seen, replica.sent = inside, 0.0
        refresh(sim, r)


@inner
def keeps_loads(placement: int) -> bool:
    """Whether a placement asks the tree for the least loaded replica."""
    return 1 <= placement <= 3


@inner
def refresh(sim: Sim, r: int) -> None:
    """Bring the index sets and the placement tree up to date after a change on replica ``r``."""
    replica = sim.replicas[r]
    option = sim.core[0]
    why = shut(sim, replica)
    eligible = (why & 15) == 0
    if why != replica.shut or why & 1:
        _note_shut(sim, replica, why)
    set_change(sim.sets, 0, r, eligible)
    if option.decode != 0:
        free = may_decode(sim, replica)
        mixed = replica.role == 1 or (replica.role == 0 and replica.listed > 0)
        set_change(sim.sets, 1, r, free and not mixed)
        set_change(sim.sets, 2, r, free and mixed)
    if keeps_loads(option.placement):
        load = math.inf
        if eligible:
            # Decodes are out of sight of a gate that sees prompts until their first token only.
            decodes = 0 if option.whole_prompts else replica.decodes + replica.reserved
            load = float(decodes + replica.listed)
            if option.placement != 1:
                load = load * 1e-3 + replica.owed
        tree_set(sim.trees, 1, r, load)


@inner
def _place_by_weight(sim: Sim, q: int) -> int:
    """A pool by the class's weights and the request's own coin, and there the eligible replica with fewest requests.

    Where the pool drawn has none, any other serves.
    """
    request = sim.requests[q]
    total = 0.0
    for k in range(len(sim.pools)):
        total += sim.weights[request.klass, k]
    point, pool = request.coin * total, 0
    while pool + 1 < len(sim.pools) and point >= sim.weights[request.klass, pool]:
        point -= sim.weights[request.klass, pool]
        pool += 1
    best, fewest, found = -1, math.inf, False
    for r in range(len(sim.replicas)):
        replica = sim.replicas[r]
        if not may_prefill(sim, replica):
            continue
        here = replica.pool == pool
        load = float(replica.decodes + replica.reserved + replica.listed)
        if (here and not found) or (here == found and load < fewest):
            best, fewest, found = r, load, here
    return best


@inner
def _place_by_prefix(sim: Sim, q: int) -> int:
    """The eligible replica with the fewest tokens to compute until this prompt is done.

    Among equally loaded ones that is the longest cached prefix; a queue guards against
    sending everything where one prompt went first. Of equals the least loaded, which the
    tree knows; an engine that is full has what waits for it in its queue.
    """
    leaves = sim.trees.shape[1] >> 1
    best, least = -1, math.inf
    for k in range(1, 1 + int(sim.sets[0, 0])):
        r = int(sim.sets[0, k])
        tokens = sim.trees[1, leaves + r] - cached_tokens(sim, r, q)
        if tokens < least or (tokens == least and r < best):
            best, least = r, tokens
    return best


@inner
def next_replica(sim: Sim) -> int:
    """The eligible replica that takes the next prefill whosever it is; -1: that depends on the request."""
    placement = sim.core[0].placement
    if placement == 0:
        return int(sim.sets[0, 1 + int(draw(sim.core[0]) * sim.sets[0, 0])])
    return tree_first(sim.trees, 1) if 1 <= placement <= 2 else -1


@inner
def room_on(sim: Sim, r: int) -> float:
    """Share of a replica's slots that one more start leaves free, as the gate believes."""
    slots = float(sim.pools[sim.replicas[r].pool].slots)
    return max(0.0, slots - _taken(sim, sim.replicas[r]) - 1.0) / slots


@inner
def place(sim: Sim, q: int) -> int:
    """The replica that takes request ``q``; the caller saw to it that one is eligible."""
    placement = sim.core[0].placement
    if placement == 0:
        return int(sim.sets[0, 1 + int(draw(sim.core[0]) * sim.sets[0, 0])])
    if placement == 4:
        run = sim.core[0]
        run.turn += 1
        return int(sim.sets[0, 1 + run.turn % sim.sets[0, 0]])
    if placement == 5:
        return _place_by_weight(sim, q)
    if placement == 3 and sim.core[0].block_tokens > 0.0:
        return _place_by_prefix(sim, q)
    return tree_first(sim.trees, 1)
