"""Why the plan is as it is: which rows bind, what they cost, and which class goes first."""

from __future__ import annotations

import numpy as np

from sluice.model.plan import ShadowPrice
from sluice.planning.formulate import REPLICAS, Formulation
from sluice.planning.groups import PoolGroup
from sluice.planning.program import Vector
from sluice.planning.solver import Solution

_MOST_PRICES = 256
"""The plan's schema holds no more."""
_NEGLIGIBLE = 1e-9
"""A price is shown when its row earns more than this share of the plan's value."""


def shadow_prices(formulation: Formulation, solution: Solution) -> tuple[ShadowPrice, ...]:
    """The prices of the binding rows: pools first, then classes by what one more request of them earns."""
    worth = max(float(formulation.program.objective @ solution.primal), 0.0) * _NEGLIGIBLE
    prices = []
    for columns in formulation.pools:
        per_engine = float(solution.dual[columns.replicas_row])
        for pool in columns.group.pools if per_engine * max(columns.group.replicas, 1.0) > worth else ():
            value = per_engine * pool.engines_per_replica
            prices.append(
                ShadowPrice(
                    constraint=f"{REPLICAS}[{pool.name}]",
                    value=value,
                    unit="money/s per replica",
                    meaning=f"One more replica of {pool.name} earns {value * 3600:.4g} per hour.",
                )
            )
    duals = solution.dual[formulation.admission.slice]
    rates = formulation.data.rate
    chosen = np.flatnonzero(duals * np.maximum(rates, 1e-9) > worth)
    for i in chosen[np.argsort(-duals[chosen], kind="stable")][: _MOST_PRICES - len(prices)]:
        name = formulation.problem.classes[i].name
        prices.append(
            ShadowPrice(
                constraint=formulation.program.row_name(int(i)),
                value=float(duals[i]),
                unit="money per request",
                meaning=f"One more request of {name} earns {duals[i]:.4g}: demand limits it, not capacity.",
            )
        )
    return tuple(prices)


def displacement(pool: PoolGroup) -> float:
    """Decode steps that one computed prompt token displaces in ``pool`` (the paper's kappa' = kappa tau / C)."""
    solo = max(mode.decode_rate for mode in pool.modes)
    mixed = max(pool.modes, key=lambda mode: mode.prefill_rate)
    return max(0.0, solo - mixed.decode_rate) / mixed.prefill_rate


def indices(formulation: Formulation) -> Vector:
    """Money per unit of the resource that binds, one per class: the order inside a band.

    Usually decode slots bind: w / (D + kappa' U), which does not depend on demand. Where
    every engine prefills all the time and decode is free, prompt tokens bind: w / U. A class
    that may use several pools is measured at their capacity-weighted mean.
    """
    data = formulation.data
    cost, weight = np.zeros(len(data.rate)), np.zeros(len(data.rate))
    for pool in (columns.group for columns in formulation.pools):
        capacity = max(pool.replicas, 1e-9) * max(mode.decode_rate for mode in pool.modes)
        member = pool.classes
        cost[member] += capacity * (data.steps[member] + displacement(pool) * data.uncached[member])
        weight[member] += capacity
    value = data.prompt_value + data.output_value
    return value * weight / np.maximum(cost, 1e-300)
