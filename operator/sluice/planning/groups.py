"""Equal pools are planned as one.

Two pools with the same working points, open to the same classes, are the same machine to
the program, and every way to share work between them is worth the same. Planning them as
one and sharing by replicas keeps the plan from jumping between equal optima.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sluice.planning.modes import Mode
from sluice.planning.problem import PoolInput, Problem
from sluice.planning.program import Indices


@dataclass(frozen=True)
class PoolGroup:
    """Pools that the program cannot tell apart."""

    pools: tuple[PoolInput, ...]
    places: tuple[int, ...]
    """Indices of ``pools`` in the problem."""
    classes: Indices
    """Indices of the classes that may use them."""

    @property
    def name(self) -> str:
        """``a+b`` for two pools, the pool's own name for one."""
        return "+".join(pool.name for pool in self.pools)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The working points of each."""
        return self.pools[0].modes

    @cached_property
    def replicas(self) -> float:
        """Engines of all pools together."""
        return sum(pool.replicas for pool in self.pools)

    def shares(self) -> tuple[float, ...]:
        """Each pool's part of the group: by engines, all to the first where there are none."""
        if self.replicas > 0:
            return tuple(pool.replicas / self.replicas for pool in self.pools)
        return (1.0,) + (0.0,) * (len(self.pools) - 1)


def equal_pools(problem: Problem) -> tuple[PoolGroup, ...]:
    """The problem's pools in groups, in the order of each group's first pool."""
    everybody = np.arange(len(problem.classes))
    choosy = any(entry.pools for entry in problem.classes)
    groups: dict[object, list[int]] = {}
    members: dict[object, Indices] = {}
    for place, pool in enumerate(problem.pools):
        member = everybody
        if choosy:
            member = np.array(
                [i for i, entry in enumerate(problem.classes) if entry.may_use(pool.name)], dtype=np.int64
            )
        key = (pool.modes, member.tobytes())
        groups.setdefault(key, []).append(place)
        members[key] = member
    return tuple(
        PoolGroup(tuple(problem.pools[place] for place in places), tuple(places), members[key])
        for key, places in groups.items()
    )
