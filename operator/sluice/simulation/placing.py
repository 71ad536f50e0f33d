"""Which replicas have room for a prefill or a decode, and which of them takes the next prefill."""

from __future__ import annotations

import math

from sluice.policy.compiled import inner
from sluice.simulation.agenda import draw, heap_push, set_change, tree_first, tree_set
from sluice.simulation.layout import Array, Sim

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
            # Decodes are out of sight of a gate that sees prompts until their first token only.
            decodes = 0 if option.whole_prompts else replica.decodes + replica.reserved
            load = float(decodes + replica.listed)
            if option.placement == 2:
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
def place(sim: Sim, q: int) -> int:
    """The replica that takes request ``q``; the caller saw to it that one is eligible."""
    placement = sim.core[0].placement
    if placement == 0:
        return int(sim.sets[0, 1 + int(draw(sim.core[0]) * sim.sets[0, 0])])
    if placement == 3:
        run = sim.core[0]
        run.turn += 1
        return int(sim.sets[0, 1 + run.turn % sim.sets[0, 0]])
    if placement == 4:
        return _place_by_weight(sim, q)
    return tree_first(sim.trees, 1)
