"""Which of the open engines takes a request: affinity with bounded load, then the plan's pools, then the least loaded.

* **Affinity.** Requests with one key go to one engine while its load is not much above the mean:
  weighted rendezvous hashing (Thaler, Ravishankar 1998) with the bound of consistent hashing with
  bounded loads (Mirrokni, Thorup, Zadimoghaddam 2018). An engine that comes or goes moves only
  its own share of the keys.
* **Pools** by the plan's split with low discrepancy: the pool furthest behind its share is next,
  so after any number of requests every pool is within one request per other pool of its share.
* **Ramp.** A replica that is new counts as more loaded than it is, until its caches are warm.

None of this ever holds a request back: it only chooses among engines that are open.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from sluice.gate.engines import Engine
from sluice.gate.lanes import Lane
from sluice.gate.request import Request

LOAD_BOUND = 1.25
"""An engine is passed over for a key where its unfinished tokens would exceed so many times the mean."""
LEAST_RAMP = 0.1
"""Share of an old replica's work that a new one gets at first."""
FORGETTING = 1000
"""Requests of a class after which half of what its pools are owed is forgotten."""


def least_loaded(engines: Sequence[Engine]) -> Engine | None:
    """What the proxy does by itself, roughly: charged where the gate does not name the replica."""
    if len(engines) < 2:
        return engines[0] if engines else None
    return min(engines, key=lambda engine: (engine.unfinished_tokens, engine.unfinished_requests))


def room_at_hand(open_: Sequence[Engine]) -> float:
    """Room on the engine that takes the next request, if neither a key nor a pool sends it elsewhere."""
    return min(open_, key=lambda one: (one.unfinished_tokens, one.unfinished_requests, one.terms.name)).room()


class Placement:
    """Chooses engines where the gate names the replica."""

    def __init__(self) -> None:
        self._given: dict[str, Counter[str]] = {}

    def choose(
        self, lane: Lane, request: Request, open_: Sequence[Engine], engines: Iterable[Engine], now: float
    ) -> Engine | None:
        """The engine for ``request``, one of ``open_``; ``engines`` are all there are."""
        if len(open_) < 2:
            return self._give(lane, open_[0]) if open_ else None
        if request.affinity and (kept := _kept(lane, request, open_, engines, now)):
            return self._give(lane, kept)
        of_pool = self._of_pool(lane, open_)
        return self._give(
            lane, min(of_pool, key=lambda one: (_load(one, request, now), one.unfinished_requests, one.terms.name))
        )

    def _of_pool(self, lane: Lane, open_: Sequence[Engine]) -> Sequence[Engine]:
        """The open engines of the pool that is furthest behind its planned share."""
        split = lane.terms.split
        pools = {engine.terms.pool for engine in open_}
        if len(pools) < 2 or not split:
            return open_
        given = self._given.get(lane.terms.name) or Counter()
        count = given.total() + 1
        wanted = max(sorted(pools), key=lambda pool: split.get(pool, 0.0) * count - given[pool])
        return [engine for engine in open_ if engine.terms.pool == wanted]

    def _give(self, lane: Lane, engine: Engine) -> Engine:
        if lane.terms.split:
            given = self._given.setdefault(lane.terms.name, Counter())
            given[engine.terms.pool] += 1
            if given.total() >= FORGETTING:  # a pool that could take nothing for a while is not owed all of it
                count = given.total()
                for pool, share in lane.terms.split.items():
                    given[pool] = round((given[pool] + share * count) / 4)
        return engine


def _load(engine: Engine, request: Request, now: float) -> float:
    """Unfinished tokens with ``request``, relative to what the engine may be given."""
    return (engine.unfinished_tokens + request.prompt_tokens) / _ramp(engine, now)


def _ramp(engine: Engine, now: float) -> float:
    """1 for a replica that has been there for a while, less for a new one."""
    seconds = engine.terms.ramp_seconds
    return 1.0 if seconds <= 0 else min(1.0, max(LEAST_RAMP, (now - engine.since) / seconds))


def _kept(
    lane: Lane, request: Request, open_: Sequence[Engine], engines: Iterable[Engine], now: float
) -> Engine | None:
    """The first open engine in the key's own order whose load is within the bound."""
    usable = [engine for engine in engines if engine.terms.ready and lane.may_use(engine)]
    mean = (sum(engine.unfinished_tokens for engine in usable) + request.prompt_tokens) / max(1, len(usable))
    by_name = {engine.terms.name: engine for engine in open_}
    for name in order_of(request.affinity, tuple(engine.terms.name for engine in usable), _weights(lane, usable)):
        engine = by_name.get(name)
        if engine is None:
            continue
        # Less than one iteration's prompts is no load worth a cold cache.
        bound = max(LOAD_BOUND * mean, engine.terms.budget_tokens / 2)
        if engine.unfinished_requests == 0 or _load(engine, request, now) <= bound:
            return engine
    return None


def _weights(lane: Lane, engines: Sequence[Engine]) -> tuple[float, ...]:
    """A replica's part of its pool's planned share; alike without a plan."""
    split = lane.terms.split
    if not split:
        return (1.0,) * len(engines)
    sizes = Counter(engine.terms.pool for engine in engines)
    return tuple(split.get(engine.terms.pool, 0.0) / sizes[engine.terms.pool] for engine in engines)


@lru_cache(maxsize=16_384)
def order_of(key: str, names: tuple[str, ...], weights: tuple[float, ...]) -> tuple[str, ...]:
    """Engines in the order in which ``key`` prefers them: each is first for its weight's share of the keys."""

    def score(name: str, weight: float) -> float:
        digest = hashlib.blake2b(name.encode(), key=key.encode()[:64], digest_size=8).digest()
        uniform = (int.from_bytes(digest) + 0.5) / 2.0**64
        return -math.log(uniform) / weight if weight > 0 else math.inf

    return tuple(name for _, name in sorted((score(*pair), pair[0]) for pair in zip(names, weights, strict=True)))
