"""Equal pools are planned as one.

Two pools with the same working points and costs, open to the same classes, are the same
machine to the program, and every way to share work between them is worth the same.
Planning them as one and sharing by replicas keeps the plan from jumping between equal
optima.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sluice.planning.lazy import lazy
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

    @lazy
    def name(self) -> str:
        """``a+b`` for two pools, the pool's own name for one."""
        return "+".join(pool.name for pool in self.pools)

    @property
    def first(self) -> PoolInput:
        """Any of them: they differ in name and replicas only."""
        return self.pools[0]

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The working points of each; none for an external API."""
        return self.pools[0].modes

    @lazy
    def replicas(self) -> float:
        """Engines of all pools together."""
        return sum(pool.replicas for pool in self.pools)

    @lazy
    def decode_rate(self) -> float:
        """Decode steps per second of one engine that does nothing else."""
        return max((mode.decode_rate for mode in self.modes), default=0.0)

    @lazy
    def prefill_mode(self) -> Mode | None:
        """The mode with the greatest prefill rate: the paper's mixed mode where there is but one."""
        return max(self.modes, key=lambda mode: mode.prefill_rate, default=None)

    @lazy
    def prefill_rate(self) -> float:
        """Most prompt tokens per second of one engine."""
        return 0.0 if self.prefill_mode is None else self.prefill_mode.prefill_rate

    @lazy
    def displacement(self) -> float:
        """Decode steps that one computed prompt token displaces (the paper's kappa' = kappa tau / C)."""
        if self.prefill_mode is None:
            return 0.0
        return max(0.0, self.decode_rate - self.prefill_mode.decode_rate) / self.prefill_mode.prefill_rate

    def shares(self) -> tuple[float, ...]:
        """Each pool's part of the group: by engines, all to the first where there are none."""
        if self.replicas > 0:
            return tuple(pool.replicas / self.replicas for pool in self.pools)
        return (1.0,) + (0.0,) * (len(self.pools) - 1)


def equal_pools(problem: Problem) -> tuple[PoolGroup, ...]:
    """The problem's pools in groups, in the order of each group's first pool."""
    everybody = np.arange(len(problem.classes))
    choosy = any(entry.pools for entry in problem.classes)
    if len(problem.pools) == 1 and not choosy:
        return (PoolGroup(problem.pools, (0,), everybody),)
    groups: dict[object, list[int]] = {}
    members: dict[object, Indices] = {}
    for place, pool in enumerate(problem.pools):
        member = everybody
        if choosy:
            allowed = [i for i, entry in enumerate(problem.classes) if entry.may_use(pool.name)]
            member = np.array(allowed, dtype=np.int64)
        cost = pool.cost_per_hour / pool.engines_per_replica if problem.charge_replicas else 0.0
        memory = (
            pool.kv_token_capacity, pool.decodes_move, pool.transfer_seconds_per_token, pool.transfer_cost_per_token
        )  # fmt: skip
        # An API that is paid per token is never merged: it has no replicas to share by.
        alone = None if pool.external is None else place
        key = (pool.modes, member.tobytes(), cost, memory, alone)
        groups.setdefault(key, []).append(place)
        members[key] = member
    return tuple(
        PoolGroup(tuple(problem.pools[place] for place in places), tuple(places), members[key])
        for key, places in groups.items()
    )
