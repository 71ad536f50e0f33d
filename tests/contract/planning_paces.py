"""The paces of a plan, read from the plan, for whoever states the program of requests that stay again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from sluice.planning.answer import Answer
from sluice.planning.decode import split
from sluice.planning.groups import PoolGroup, equal_pools
from sluice.planning.problem import PoolInput, Problem
from sluice.planning.promises import PromiseKind

Paces = list[float | None]
"""Per pool, most seconds per decode step on average; None: decodes are placed freely."""


def shares_iterations(entry: Problem, pool: PoolInput) -> bool:
    """Whether all classes of ``pool`` must take the same time per step; not where solo decodes are to be shared out."""
    fairness = any(promise.kind is PromiseKind.DECODE_FAIRNESS for promise in entry.promises)
    return pool.external is None and not pool.decodes_move and not fairness


def of_plan(entry: Problem, found: Answer) -> Paces:
    """The pace that each pool of the plan is tied to, or has where it is tied to none."""
    paces: Paces = [None] * len(entry.pools)
    if not found.is_optimal or any("as if decodes could move" in note for note in found.notes):
        return paces
    parts, steps = split(found.formulation, found.solution.primal), found.formulation.data.steps
    for columns in found.formulation.pools:
        if not shares_iterations(entry, columns.group.first):
            continue
        own = [parts[place] for place in columns.group.places]
        work = sum(float(steps @ (part.served - part.leaving)) for part in own)
        slots = sum(float((part.decode_mixed + part.decode_solo).sum()) for part in own)
        pace = columns.pace or (slots / work if work > 1e-12 else slowest(columns.group))
        for place in columns.group.places:
            paces[place] = pace
    return paces


def grid(entry: Problem, points: int) -> Iterator[Paces]:
    """Paces between the fastest and the slowest iteration of each group of equal pools, all combinations."""
    groups = tied(entry)
    each = [np.linspace(fastest(group), slowest(group), points).tolist() for group in groups]
    for chosen in product(*each):
        paces: Paces = [None] * len(entry.pools)
        for group, pace in zip(groups, chosen, strict=True):
            for place in group.places:
                paces[place] = pace
        yield paces


def tied(entry: Problem) -> list[PoolGroup]:
    """Groups of equal pools whose classes share an iteration time."""
    return [group for group in equal_pools(entry) if shares_iterations(entry, group.first)]


def fastest(group: PoolGroup) -> float:
    """Seconds of the shortest iteration that decodes."""
    return min(mode.seconds for mode in group.modes if mode.batch > 0)


def slowest(group: PoolGroup) -> float:
    """Seconds of the longest iteration that decodes."""
    return max(mode.seconds for mode in group.modes if mode.batch > 0)
