"""Why the plan is as it is: which rows bind, what they cost, and how close each class is to the cut-off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sluice.planning.certificate import Certificate
from sluice.planning.formulate import ADMISSION, Formulation, PoolColumns
from sluice.planning.pool_rows import MEMORY, REPLICAS
from sluice.planning.program import Vector, highest
from sluice.planning.promises import Promise, PromiseKind
from sluice.planning.solver import Solution

MOST_PRICES = 256
"""The plan's schema holds no more."""
_NEGLIGIBLE = 1e-9
"""A price is shown when its row earns more than this share of the plan's value."""
_HOUR_SECONDS = 3600.0
MOST_HOPED = 9.0
"""Rise of a price, relative, beyond which nobody changes it: more than ten times what it is."""
_TINY = 1e-7
"""Relative margin below which a class is at the cut-off."""


Price = dict[str, str | float]
"""One ``ShadowPrice`` before the plan it is part of is validated."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Prices and margins of one solution; arrays have one entry per class."""

    marginal: Vector
    """Money that one more offered request earns: the price of its admission row."""
    cut_off: Vector
    """Share by which the class's value may fall before it is refused; negative: must rise before it is served."""
    index: Vector
    """Money per unit of the resource that binds: the order inside a band."""
    replica_value: tuple[float, ...]
    """Money per second of one more engine, per group of equal pools."""
    prices: tuple[Price, ...]


def explain(formulation: Formulation, solution: Solution, certificate: Certificate) -> Explanation:
    """The prices behind a certified solution."""
    marginal = solution.dual[formulation.admission.slice]
    best = _best_margin(formulation, certificate.reduced) + marginal
    cut_off = best / np.where(formulation.data.value, formulation.data.value, np.inf)
    cut_off[np.abs(cut_off) < _TINY] = 0.0
    replicas = tuple(engine_value(formulation, columns, solution) for columns in formulation.pools)
    return Explanation(
        marginal=marginal,
        cut_off=np.minimum(cut_off, 1.0),
        index=_indices(formulation, solution.dual),
        replica_value=replicas,
        prices=_prices(formulation, solution, certificate.value, marginal, replicas),
    )


def _best_margin(formulation: Formulation, reduced: Vector) -> Vector:
    """Largest reduced cost among each class's pools: what its next request earns beyond all prices."""
    best = np.full(len(formulation.data.rate), -np.inf)
    for columns in formulation.pools:
        member, own = columns.group.classes, reduced[columns.served]
        if columns.closed:
            own = own.copy()
            own[columns.closed] = -np.inf
        best[member] = np.maximum(best[member], own)
    best[best == -np.inf] = 0.0
    return best


def engine_value(formulation: Formulation, columns: PoolColumns, solution: Solution) -> float:
    """Money per second of one more engine: its time, its KV memory, and what is counted per engine."""
    dual, group = solution.dual, columns.group
    if group.first.external is not None:
        return 0.0
    value = float(dual[columns.replicas_row])
    if columns.memory_row is not None:
        value += float(dual[columns.memory_row]) * (group.first.kv_token_capacity or 0.0)
    for entry in formulation.promises:
        if entry.between is not None and entry.promise.kind.is_paper_form:
            between = entry.between
            value += float(dual[between.above].sum() * solution.primal[between.high])
            value -= float(dual[between.below].sum() * solution.primal[between.low])
    return value


def _prices(
    formulation: Formulation, solution: Solution, value: float, marginal: Vector, replica_value: tuple[float, ...]
) -> tuple[Price, ...]:
    """The prices of the binding rows: pools, promises, then classes by what one more request of them earns."""
    program = formulation.program
    worth = max(abs(value), 1e-300) * _NEGLIGIBLE
    prices = [
        price
        for columns, engine in zip(formulation.pools, replica_value, strict=True)
        for price in _pool_prices(columns, engine, solution, worth)
    ]
    for entry in formulation.promises:
        if entry.row is not None and abs(solution.dual[entry.row]) * program.row_sizes[entry.row] > worth:
            prices.append(
                {
                    "constraint": program.row_name(entry.row),
                    "value": float(solution.dual[entry.row]),
                    **_promise_words(entry.promise, float(solution.dual[entry.row])),
                }
            )
    classes = formulation.problem.classes
    chosen = (marginal * np.maximum(formulation.data.rate, 1e-9) > worth).nonzero()[0]
    chosen = chosen[(-marginal[chosen]).argsort(kind="stable")][:MOST_PRICES]
    prices += [
        _class_price(classes[i].name, earns)
        for i, earns in zip(chosen.tolist(), marginal[chosen].tolist(), strict=True)
    ]
    return tuple(prices[:MOST_PRICES])


def _promise_words(promise: Promise, price: float) -> Price:
    """Unit and meaning of the price of a promise's row."""
    name, cost = promise.name, f"{abs(price):.4g}"
    match promise.kind:
        case PromiseKind.WAIT | PromiseKind.TTFT | PromiseKind.SERVED | PromiseKind.GUARANTEED:
            return {"unit": "money per request", "meaning": f"Each further request that {name} demands costs {cost}."}
        case PromiseKind.TPOT | PromiseKind.SLOT_TPOT:
            meaning = f"{name} binds: one decode more in the batches would earn {cost} per second."
            return {"unit": "money/s per decode", "meaning": meaning}
        case PromiseKind.SERVED_FAIRNESS:
            meaning = f"{name} binds: 0.01 more difference would earn {abs(price) / 100:.4g} per second."
            return {"unit": "money/s per served share", "meaning": meaning}
        case PromiseKind.PREFILL_FAIRNESS | PromiseKind.DECODE_FAIRNESS:
            meaning = f"{name} binds: one job per engine more difference would earn {cost} per second."
            return {"unit": "money/s per job per engine", "meaning": meaning}


def _class_price(name: str, earns: float) -> Price:
    return {
        "constraint": f"{ADMISSION}[{name}]",
        "value": earns,
        "unit": "money per request",
        "meaning": f"One more request of {name} earns {earns:.4g}: demand is the limit.",
    }


def _pool_prices(columns: PoolColumns, engine: float, solution: Solution, worth: float) -> list[Price]:
    """What the replicas and the memory of one group of pools are worth."""
    group = columns.group
    prices: list[Price] = []
    for pool in group.pools if abs(engine) * max(group.replicas, 1.0) > worth else ():
        value = engine * pool.engines_per_replica
        prices.append(
            {
                "constraint": f"{REPLICAS}[{pool.name}]",
                "value": value,
                "unit": "money/s per replica",
                "meaning": f"One more replica of {pool.name} earns {value * _HOUR_SECONDS:.4g} per hour.",
            }
        )
    if columns.memory_row is not None:
        token = float(solution.dual[columns.memory_row])
        if token * max(group.replicas, 1.0) * (group.first.kv_token_capacity or 0.0) > worth:
            prices.append(
                {
                    "constraint": f"{MEMORY}[{group.name}]",
                    "value": token,
                    "unit": "money/s per token",
                    "meaning": f"KV memory of {group.name} is full: 1000 more tokens earn "
                    f"{1000 * token * _HOUR_SECONDS:.4g} per hour.",
                }
            )
    return prices


def _indices(formulation: Formulation, dual: Vector) -> Vector:
    """Money per unit of the resource that binds, one per class.

    As a rule decode slots bind: w / (D + kappa' U), which does not depend on demand. Where a pool
    prefills all the time and decode is worth nothing, prompt tokens bind: w / U, in decode steps
    of the same time. A class that may use several pools is measured at their capacity-weighted
    mean. An API that is paid per token has no capacity to be measured by.
    """
    data = formulation.data
    cost, weight = np.zeros(len(data.rate)), np.zeros(len(data.rate))
    for columns in formulation.pools:
        group, own = columns.group, data.of_members(columns.group.classes)
        if group.first.external is not None:
            continue
        capacity = max(group.replicas, 1e-9) * group.decode_rate
        decode_price = max(0.0, highest(dual[columns.decode_rows])) * group.decode_rate
        if decode_price < _TINY * float(dual[columns.prefill_row]) * group.prefill_rate:
            each = own.uncached * (group.decode_rate / group.prefill_rate)
        else:
            each = own.steps + group.displacement * own.uncached
        cost[group.classes] += capacity * each
        weight[group.classes] += capacity
    return data.value * weight / np.where(cost, cost, np.inf)


def standing(name_of_first: bool, served_share: float, cut_off: float, promised: bool) -> str:
    """One class's distance to the cut-off in words."""
    if served_share >= 1 - 1e-9 and cut_off >= 1:
        return "served in full; capacity is left"
    if served_share >= 1 - 1e-9 and cut_off > 0:
        first = "refused first" if name_of_first else "refused"
        return f"served in full; {first} if its price falls by {cut_off:.1%}"
    if cut_off < -MOST_HOPED:
        return "refused; hopeless at present prices"
    if cut_off < 0:
        return f"refused; served once its price rises by {-cut_off:.1%}"
    if promised:
        return f"served to {served_share:.1%} because it was promised"
    return f"at the cut-off: {served_share:.1%} is served, the rest would displace what earns as much"
