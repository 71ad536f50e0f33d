"""The order of classes, held still against noise: its own dead band and its own dwell.

A price or a length that is 20 % off costs a plan about 2 % of its value, but it can swap two
classes between served and refused. So a class moves in the order only when its index has
differed from the one it is ranked by for more than the dead band, for at least the dwell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

ORDER_DEAD_BAND = 0.20
"""Relative difference of an index that estimates of price and length reach by noise alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderMemory:
    """What each class is ranked by, and since when its index says otherwise."""

    ranked_by: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    differs_since: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


def settled_order(
    indices: Mapping[str, float],
    memory: OrderMemory,
    now: float,
    *,
    dead_band: float = ORDER_DEAD_BAND,
    dwell_seconds: float = 60.0,
) -> tuple[tuple[str, ...], OrderMemory]:
    """Names from the highest index down, as stable as declared; equal ones by name.

    ``indices`` are the plan's ``index`` per class. New classes are ranked at once, classes that
    are gone leave the memory.
    """
    ranked_by: dict[str, float] = {}
    differs_since: dict[str, float] = {}
    for name, index in indices.items():
        standing = memory.ranked_by.get(name, index)
        if abs(index - standing) <= dead_band * max(abs(index), abs(standing)):
            ranked_by[name] = standing
            continue
        since = memory.differs_since.get(name, now)
        if now - since >= dwell_seconds:
            ranked_by[name] = index
        else:
            ranked_by[name], differs_since[name] = standing, since
    order = tuple(sorted(ranked_by, key=lambda name: (-ranked_by[name], name)))
    return order, OrderMemory(ranked_by=MappingProxyType(ranked_by), differs_since=MappingProxyType(differs_since))
