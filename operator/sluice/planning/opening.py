"""The corner from which the search starts: every class on the pool that serves it at the best price.

With two modes a pool trades decode steps for prompt tokens at one rate, so its rows (2)-(5) are
one knapsack of decode steps: a request takes D + kappa' U of them. One price per step and pool
says where every class is worth most, and whether it is worth serving. Prices are found pool by
pool, each exactly while the others stand: with one pool that is the optimum as a rule, with
several it is close.

Nothing rests on this guess but time. Its corner is proved like any other answer, and where the
proof fails the solver goes on from there. It depends on the problem alone, so that equal
problems still give equal plans.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from sluice.planning.formulate import Formulation, PoolColumns
from sluice.planning.program import Vector
from sluice.planning.solver import AT_LOWER, AT_UPPER, BASIC, FIXED, Basis

_ROUNDS = 3
"""Rounds over the pools; more seldom move a price."""
_THREE = 3
_SAME = 1e-9
"""Relative difference of two prices or margins that is rounding."""
_LITTLE = 1e-12
"""Decode steps of a request that takes none: keeps a division from failing."""


def opening(formulation: Formulation) -> Basis | None:
    """A basis close to the optimal one; None where some pool is no knapsack of decode steps."""
    modes = [_two_modes(columns) for columns in formulation.pools]
    if None in modes:
        return None
    values, steps = _offers(formulation)
    prices = _prices(formulation, values, steps)
    margins = np.zeros((len(values) + 1, len(formulation.data.rate)))
    for place, (value, price, step) in enumerate(zip(values, prices, steps, strict=True)):
        margins[place] = value - price * step
    return _basis(formulation, modes, prices, margins)


def _two_modes(columns: PoolColumns) -> tuple[int, ...] | None:
    """Indices of the mixed and the solo mode that make the knapsack; none of an API."""
    group = columns.group
    if group.first.external is not None:
        return ()
    if columns.split:
        return None
    solo = [0.0 if mode.mixed else mode.decode_rate for mode in group.modes]
    fastest = max(solo)
    if fastest < group.decode_rate:
        return None
    return group.modes.index(group.prefill_mode), solo.index(fastest)


def _offers(formulation: Formulation) -> tuple[list[Vector], list[Vector]]:
    """Per pool and class: money of one request (minus infinity: not served), and the decode steps it takes."""
    data, objective = formulation.data, formulation.program.objective
    values, steps = [], []
    for columns in formulation.pools:
        group, value = columns.group, objective[columns.served]
        if columns.closed:
            value = value.copy()
            value[columns.closed] = -np.inf
        if len(group.classes) < len(data.rate):
            own, value = value, np.full(len(data.rate), -np.inf)
            value[group.classes] = own
        values.append(value)
        is_api = group.first.external is not None
        steps.append(np.zeros(len(value)) if is_api else data.steps + (group.displacement * data.uncached + _LITTLE))
    return values, steps


def _prices(formulation: Formulation, values: list[Vector], steps: list[Vector]) -> list[float]:
    """Money per decode step of each pool; 0 for an API.

    The prices at which all demand and capacity are worth least are the right ones. They are sought
    along one set of pools after another whose prices rise and fall together: where a class is torn
    between two pools neither price can move alone.
    """
    own = [place for place, columns in enumerate(formulation.pools) if columns.group.first.external is None]
    if not own:
        return [0.0] * len(values)
    full = [columns.group.replicas * columns.group.decode_rate for columns in formulation.pools]
    prices = [1.0 if place in own else 0.0 for place in range(len(values))]
    costs = [price * step for price, step in zip(prices, steps, strict=True)]
    together = [own, *([place] for place in own)] if len(own) > 1 else [own]
    if len(own) == _THREE:
        together += [list(pair) for pair in combinations(own, 2)]
    for _ in range(_ROUNDS):
        moved = 0.0
        for places in together:
            capacity = sum(prices[place] * full[place] for place in places)
            factor = _factor(formulation.data.rate, values, costs, capacity, places)
            moved = max(moved, abs(factor - 1.0))
            for place in places:
                prices[place] *= factor
                costs[place] = prices[place] * steps[place]
        if moved <= _SAME or len(values) == 1:
            break
    return prices


def _factor(rate: Vector, values: list[Vector], costs: list[Vector], capacity: float, places: list[int]) -> float:
    """What the prices of ``places`` are to be multiplied by, so that demand at them meets their ``capacity``."""
    elsewhere: Vector | float = 0.0
    for place, (value, cost) in enumerate(zip(values, costs, strict=True)):
        if place not in places:
            elsewhere = np.maximum(elsewhere, value - cost)
    first, *rest = places
    worth, cheapest = (values[first] - elsewhere) / costs[first], costs[first]
    for place in rest:
        worth = np.maximum(worth, (values[place] - elsewhere) / costs[place])
        cheapest = np.minimum(cheapest, costs[place])
    order = (-worth).argsort(kind="stable")
    filled = (rate * cheapest)[order].cumsum()
    last = int(filled.searchsorted(capacity, side="right"))
    return max(float(worth[order[last]]), _LITTLE) if last < len(order) else _LITTLE


def _basis(
    formulation: Formulation, modes: list[tuple[int, ...] | None], prices: list[float], margins: Vector
) -> Basis:
    """Each class basic where it earns most, or in its row (1) if refused; in both where they earn the same.

    ``margins`` has a row per pool and a last one of zeros: who is refused earns nothing.
    """
    program, data = formulation.program, formulation.data
    best = np.maximum.reduce(margins)
    basic = margins >= best - _SAME * (best + data.value)
    own = [place for place, pair in enumerate(modes) if pair]
    # One class more than there are is basic for every pool that is full: the one at its cut-off.
    torn = int(np.count_nonzero(basic)) - len(best)
    if torn > len(own):
        basic = np.arange(len(margins))[:, None] == margins.argmax(axis=0)
        torn = 0
    columns, rows = np.full(program.columns, AT_LOWER), np.full(program.rows, BASIC)
    rows[formulation.admission.slice][~basic[-1]] = AT_UPPER
    for place, (pool, pair) in enumerate(zip(formulation.pools, modes, strict=True)):
        columns[pool.served][basic[place, pool.group.classes]] = BASIC
        if pair:
            rows[pool.prefill_row] = rows[pool.decode_rows] = FIXED
            rows[pool.replicas_row] = AT_UPPER
        for k in pair or ():
            columns[pool.engines.start + k] = columns[pool.decodes.start + k] = BASIC
            rows[pool.slots_rows.start + k] = AT_UPPER
    for place in sorted(own, key=prices.__getitem__)[: len(own) - torn]:
        rows[formulation.pools[place].replicas_row] = BASIC
    return Basis(columns, rows)
