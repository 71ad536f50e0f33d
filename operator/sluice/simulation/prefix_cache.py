"""Every replica's prefix cache: blocks of prompts by name, least recently used first out.

As vLLM has it. A block is *held* while requests in the batch run with it: it is in memory
once, however many they are. When the last of them leaves, it is *kept* in the memory that
the batch does not need, and evicted when the batch grows into it or more than the pool's
bound is kept. Of one request's blocks the last are evicted first. A prompt looks its blocks
up when it enters the batch, and names the missing ones at once: whatever enters behind it
is computed behind it.

All replicas' entries lie in one array, so its size goes by the trace and not by replicas
times blocks. Row k is also bucket k of the hash table that finds (replica, block).
"""

from __future__ import annotations

from sluice.policy.compiled import inner
from sluice.simulation.layout import Sim


@inner
def _bucket(sim: Sim, r: int, block: int) -> int:
    """Where (replica, block) is looked for; products stay below 2**63."""
    return int(((block * 668265263 + r * 374761393) >> 9) % len(sim.cache))


@inner
def _find(sim: Sim, r: int, block: int) -> int:
    """The entry of a block on replica ``r``; -1: not cached."""
    e = int(sim.cache[_bucket(sim, r, block)].bucket)
    while e >= 0 and (sim.cache[e].block != block or sim.cache[e].replica != r):
        e = int(sim.cache[e].following)
    return e


@inner
def cached_tokens(sim: Sim, r: int, q: int) -> float:
    """Leading prompt tokens of request ``q`` that replica ``r`` need not compute; one is always left."""
    size = sim.core[0].block_tokens
    if size <= 0.0:
        return 0.0
    found, most = 0.0, sim.requests[q].prompt - 1.0
    for k in range(int(sim.blocks[q]), int(sim.blocks[q + 1])):
        if found + size > most or _find(sim, r, int(sim.blocks[k])) < 0:
            break
        found += size
    return float(found)


@inner
def held_tokens(sim: Sim, r: int, q: int) -> float:
    """Tokens of ``q``'s blocks with which others in the batch run: it takes no memory for these."""
    held = 0
    for k in range(int(sim.blocks[q]), int(sim.blocks[q + 1])):
        e = _find(sim, r, int(sim.blocks[k]))
        if e >= 0 and sim.cache[e].holders > 0:
            held += 1
    return float(held * sim.core[0].block_tokens)


@inner
def _unlink(sim: Sim, r: int, e: int) -> None:
    """Take an entry out of the list of kept blocks."""
    replica = sim.replicas[r]
    older, newer = int(sim.cache[e].older), int(sim.cache[e].newer)
    if older >= 0:
        sim.cache[older].newer = newer
    else:
        replica.oldest = newer
    if newer >= 0:
        sim.cache[newer].older = older
    else:
        replica.newest = older
    replica.kept -= 1


@inner
def _keep(sim: Sim, r: int, e: int) -> None:
    """Nobody runs with a block any more: it is the last to be evicted."""
    replica = sim.replicas[r]
    sim.cache[e].older = replica.newest
    sim.cache[e].newer = -1
    if replica.newest >= 0:
        sim.cache[replica.newest].newer = e
    else:
        replica.oldest = e
    replica.newest = e
    replica.kept += 1


@inner
def _evict(sim: Sim, r: int) -> None:
    """Forget the block that was used least recently."""
    e = int(sim.replicas[r].oldest)
    _unlink(sim, r, e)
    bucket = _bucket(sim, r, int(sim.cache[e].block))
    following = int(sim.cache[e].following)
    if sim.cache[bucket].bucket == e:
        sim.cache[bucket].bucket = following
    else:
        k = int(sim.cache[bucket].bucket)
        while sim.cache[k].following != e:
            k = int(sim.cache[k].following)
        sim.cache[k].following = following
    sim.cache[e].following = sim.core[0].spare
    sim.core[0].spare = e


@inner
def trim(sim: Sim, r: int) -> None:
    """Evict what the memory that the batch leaves does not hold.

    To be called where that memory was least: before anything leaves a batch that has grown.
    """
    replica = sim.replicas[r]
    pool = sim.pools[replica.pool]
    size = sim.core[0].block_tokens
    room = min(pool.kept, pool.kv - replica.kv)
    while replica.kept > 0 and replica.kept * size > room:
        _evict(sim, r)


@inner
def hold(sim: Sim, r: int, q: int, tokens: float) -> float:
    """Request ``q`` enters the batch and takes ``tokens`` of memory; returns the tokens it need not compute."""
    trim(sim, r)
    found = cached_tokens(sim, r, q)
    first, behind = int(sim.blocks[q]), int(sim.blocks[q + 1])
    for k in range(first, behind):
        e = _find(sim, r, int(sim.blocks[k]))
        if e >= 0:
            if sim.cache[e].holders == 0:
                _unlink(sim, r, e)
            sim.cache[e].holders += 1
    sim.replicas[r].kv += tokens
    trim(sim, r)
    for k in range(first, behind):
        block = int(sim.blocks[k])
        if _find(sim, r, block) < 0:
            _name(sim, r, block)
    return found


@inner
def _name(sim: Sim, r: int, block: int) -> None:
    """Enter a block that is about to be computed."""
    e = int(sim.core[0].spare)
    entry = sim.cache[e]
    sim.core[0].spare = entry.following
    bucket = _bucket(sim, r, block)
    entry.block = block
    entry.replica = r
    entry.holders = 1
    entry.following = sim.cache[bucket].bucket
    sim.cache[bucket].bucket = e


@inner
def let_go(sim: Sim, r: int, q: int) -> None:
    """Request ``q`` leaves the batch; who gives its memory back in full shall have kept what others run with."""
    held = 0
    for k in range(int(sim.blocks[q + 1]) - 1, int(sim.blocks[q]) - 1, -1):
        e = _find(sim, r, int(sim.blocks[k]))
        sim.cache[e].holders -= 1
        if sim.cache[e].holders == 0:
            _keep(sim, r, e)
        else:
            held += 1
    sim.replicas[r].kv += held * sim.core[0].block_tokens
