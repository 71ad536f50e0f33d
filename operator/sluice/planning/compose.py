"""Writes an optimal solution down as a ``Plan``: the document everybody reads.

Numbers are rounded to twelve significant digits, so that the last bits of a solve do not
make two plans of one; the plan's id is the digest of its content without id and time.
"""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime

import numpy as np

from sluice.model.plan import Band, ClassPlan, ClassPoolPlan, Plan, PoolPlan, Verdict
from sluice.planning.certificate import Certificate
from sluice.planning.decode import PoolSplit, split
from sluice.planning.explain import indices, shadow_prices
from sluice.planning.formulate import Formulation
from sluice.planning.problem import ClassInput, PoolInput
from sluice.planning.program import Vector
from sluice.planning.solver import Solution

FULL_SHARE = 0.99
"""Served share from which a class counts as planned in full and is not limited."""
IDLE_SHARE = 0.01
"""Served share below which a class only takes what would stand idle."""
_DIGITS = 12
_NOISE = 1e-12
"""Relative difference of two rates that is rounding, not refusal."""


def compose(formulation: Formulation, solution: Solution, certificate: Certificate, now: float) -> Plan:
    """The plan of a certified solution, made at ``now`` (seconds since the epoch)."""
    problem = formulation.problem
    splits = split(formulation, solution.primal)
    plan = Plan(
        plan_id="",
        fleet=problem.fleet,
        time=datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        charging=problem.charging.value,
        verdict=Verdict.OPTIMAL,
        value_per_second=_rounded(certificate.value),
        upper_bound=_rounded(certificate.upper_bound),
        pools=tuple(_pool_plan(pool, part) for pool, part in zip(problem.pools, splits, strict=True)),
        classes=_class_plans(formulation, splits),
        shadow_prices=shadow_prices(formulation, solution),
    )
    return identified(plan)


def identified(plan: Plan) -> Plan:
    """``plan`` with the id that its content demands."""
    content = plan.model_dump_json(by_alias=True, exclude={"plan_id", "time"})
    return plan.model_copy(update={"plan_id": hashlib.sha256(content.encode()).hexdigest()[:16]})


def _pool_plan(pool: PoolInput, part: PoolSplit) -> PoolPlan:
    """Mixed replicas are rounded up (the paper's M = ceil(n sum x)), idle ones count as solo."""
    per_replica = pool.engines_per_replica
    mixed = min(part.mixed / per_replica, float(pool.ready))
    return PoolPlan(
        name=pool.name,
        replicas=pool.ready,
        mixed=_rounded(mixed),
        solo=_rounded(max(0.0, pool.ready - mixed)),
        mixed_replicas=min(pool.ready, math.ceil(mixed - 1e-9)),
    )


def _class_plans(formulation: Formulation, splits: tuple[PoolSplit, ...]) -> tuple[ClassPlan, ...]:
    """One entry per class, in the problem's order."""
    data = formulation.data
    parts = np.array(
        [(part.served, part.prefill, part.decode_mixed, part.decode_solo, part.decode_queue) for part in splits]
    )
    served = parts[:, 0].sum(axis=0)
    refused = data.rate - served
    refused[refused < _NOISE * data.rate] = 0.0
    waiting = np.where(data.theta > 0, refused / np.where(data.theta > 0, data.theta, 1.0), 0.0)
    rounded = _round_all(parts)
    totals = _round_all(np.vstack([parts.sum(axis=0), waiting, indices(formulation)]))
    weights = _weights(formulation, parts[:, 0])
    return tuple(
        _class_plan(entry, totals[:, i], rounded[:, :, i], weights[i], formulation)
        for i, entry in enumerate(formulation.problem.classes)
    )


def _class_plan(
    entry: ClassInput, totals: Vector, parts: Vector, weights: tuple[int, ...], formulation: Formulation
) -> ClassPlan:
    served, prefill, mixed, solo, decode_queue, prefill_queue, index = totals.tolist()
    band = _band(served, entry.rate)
    rationed = band is not Band.FULL
    return ClassPlan(
        name=entry.name,
        band=band,
        index=index,
        rationed=rationed,
        arrival_rate=entry.rate,
        admitted_rate=served,
        prefill=prefill,
        decode_mixed=mixed,
        decode_solo=solo,
        prefill_queue=prefill_queue,
        decode_queue=decode_queue,
        in_flight_limit=_limit(entry, served, prefill + decode_queue + mixed + solo) if rationed else None,
        pools=tuple(
            ClassPoolPlan(
                pool=pool.name,
                admitted_rate=part[0],
                prefill=part[1],
                decode_mixed=part[2],
                decode_solo=part[3],
                weight_permille=weight,
            )
            for pool, part, weight in zip(formulation.problem.pools, parts.tolist(), weights, strict=True)
            if entry.may_use(pool.name)
        ),
    )


def _band(served: float, offered: float) -> Band:
    if served >= FULL_SHARE * offered:
        return Band.FULL
    return Band.IDLE_ONLY if served < IDLE_SHARE * offered else Band.RATIONED


def _limit(entry: ClassInput, served: float, in_flight: float) -> int:
    """Requests in flight by Little's law, rounded up; 0 closes a class, so only one that may be closed gets it."""
    if served <= 0 and entry.closable:
        return 0
    return max(1, math.ceil(in_flight * (1 - 1e-9)))


def _weights(formulation: Formulation, served: Vector) -> list[tuple[int, ...]]:
    """Permille of each class's traffic per pool; what the plan does not serve follows the pools' capacity."""
    capacity = np.array([pool.replicas * max(m.decode_rate for m in pool.modes) for pool in formulation.problem.pools])
    allowed = np.zeros(served.shape, dtype=bool)
    for group in (columns.group for columns in formulation.pools):
        allowed[np.ix_(np.array(group.places), group.classes)] = True
    fallback = np.where(allowed, np.where(capacity.sum() > 0, capacity, 1.0)[:, None], 0.0)
    fallback = np.where(fallback.sum(axis=0) > 0, fallback, allowed.astype(float))
    total = served.sum(axis=0)
    shares = np.where(total > _NOISE * np.maximum(formulation.data.rate, 1e-300), served, fallback)
    return permille(shares)


def permille(shares: Vector) -> list[tuple[int, ...]]:
    """Columns of ``shares`` as integers that sum to 1000, by largest remainder (the earlier pool wins a tie)."""
    exact = 1000.0 * shares / np.maximum(shares.sum(axis=0), 1e-300)
    floors = np.floor(exact + 1e-9)
    missing = np.rint(1000.0 - floors.sum(axis=0))
    order = np.argsort(-(exact - floors), axis=0, kind="stable")
    rank = np.argsort(order, axis=0, kind="stable")
    return [tuple(column) for column in (floors + (rank < missing)).astype(int).T.tolist()]


def _round_all(values: Vector) -> Vector:
    """Each number to twelve significant digits."""
    with np.errstate(divide="ignore"):
        exponent = np.where(values == 0, 0.0, np.floor(np.log10(np.abs(values))))
    factor = 10.0 ** (_DIGITS - 1 - exponent)
    return np.rint(values * factor) / factor


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
