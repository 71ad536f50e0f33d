"""When things happen: a tournament tree over replicas, a heap for timers, index sets, and draws.

The tree holds one time per replica (its next event) and answers "which is first" in
O(log n); changing one entry touches one path. Timers (patience, transfers, the gate's
round trip) are many and seldom changed, so they live in a binary heap; a timer that no
longer means anything is recognised when it is popped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sluice.policy.compiled import inner

Array = Any
"""A numpy array or record as kernels take it."""


def leaves_for(count: int) -> int:
    """Number of leaves of a tree over ``count`` entries: a power of two."""
    return 1 << max(1, (count - 1).bit_length())


@inner
def tree_set(trees: Array, which: int, leaf: int, value: float) -> None:
    """Set one entry and repair the path to the root."""
    k = (trees.shape[1] >> 1) + leaf
    trees[which, k] = value
    k >>= 1
    while k >= 1:
        smaller = min(trees[which, 2 * k], trees[which, 2 * k + 1])
        if trees[which, k] == smaller:
            return
        trees[which, k] = smaller
        k >>= 1


@inner
def tree_first(trees: Array, which: int) -> int:
    """The entry with the smallest value; the lowest index among equals."""
    leaves = trees.shape[1] >> 1
    k = 1
    while k < leaves:
        k = 2 * k if trees[which, 2 * k] <= trees[which, 2 * k + 1] else 2 * k + 1
    return int(k - leaves)


@inner
def _goes_before(one: Array, time: float, turn: int) -> bool:
    """Whether a timer goes before (time, turn): of two for the same moment the one that was set first."""
    return bool(one.time < time or (one.time == time and one.turn < turn))


@inner
def _put(timers: Array, k: int, time: float, turn: int, what: int) -> None:
    timers[k].time = time
    timers[k].turn = turn
    timers[k].what = what


@inner
def heap_push(timers: Array, size: int, time: float, turn: int, what: int) -> int:
    """Add a timer, ``turn`` being the number of timers set before it; returns the new size."""
    k = size
    while k > 0:
        parent = (k - 1) >> 1
        if _goes_before(timers[parent], time, turn):
            break
        _put(timers, k, timers[parent].time, timers[parent].turn, timers[parent].what)
        k = parent
    _put(timers, k, time, turn, what)
    return size + 1


@inner
def heap_pop(timers: Array, size: int) -> int:
    """Drop the first timer (read it before); returns the new size."""
    size -= 1
    time, turn, what = timers[size].time, timers[size].turn, timers[size].what
    k = 0
    while True:
        child = 2 * k + 1
        if child >= size:
            break
        if child + 1 < size and _goes_before(timers[child + 1], timers[child].time, timers[child].turn):
            child += 1
        if not _goes_before(timers[child], time, turn):
            break
        _put(timers, k, timers[child].time, timers[child].turn, timers[child].what)
        k = child
    _put(timers, k, time, turn, what)
    return size


@inner
def set_change(sets: Array, which: int, item: int, wanted: bool) -> None:
    """Put ``item`` into index set ``which``, or take it out; either is O(1)."""
    places = (sets.shape[1] + 1) >> 1  # behind the size and n members
    place = sets[which, places + item]
    if wanted == (place >= 0):
        return
    if wanted:
        size = sets[which, 0]
        sets[which, 1 + size] = item
        sets[which, places + item] = size
        sets[which, 0] = size + 1
        return
    size = sets[which, 0] - 1
    sets[which, 0] = size
    last = sets[which, 1 + size]
    sets[which, 1 + place] = last
    sets[which, places + last] = place
    sets[which, places + item] = -1


def empty_sets(kinds: int, count: int) -> Array:
    """``kinds`` index sets over ``count`` items, without members."""
    sets = np.full((kinds, 1 + 2 * count), -1, dtype=np.int64)
    sets[:, 0] = 0
    return sets


_FIRST_MODULUS, _FIRST_FACTOR = 2147483563, 40014
_SECOND_MODULUS, _SECOND_FACTOR = 2147483399, 40692


@inner
def draw(core: Array) -> float:
    """Uniform in (0, 1): L'Ecuyer's combined generator (CACM 1988), exact in 64-bit integers.

    Chosen because its products stay far below 2**63: machine code and plain Python then
    give the same numbers. The period is 2.3e18.
    """
    core.seed = (core.seed * _FIRST_FACTOR) % _FIRST_MODULUS
    core.second_seed = (core.second_seed * _SECOND_FACTOR) % _SECOND_MODULUS
    mixed = core.seed - core.second_seed
    if mixed < 1:
        mixed += _FIRST_MODULUS - 1
    return float(mixed / _FIRST_MODULUS)


def seeds_of(seed: int) -> tuple[int, int]:
    """Two start values from one seed."""
    source = np.random.Generator(np.random.Philox(key=seed))
    return int(source.integers(1, _FIRST_MODULUS - 1)), int(source.integers(1, _SECOND_MODULUS - 1))
