"""Writes an optimal solution down as a ``Plan``: the document everybody reads.

Numbers are rounded to twelve significant digits, so that the last bits of a solve do not
make two plans of one; the plan's id is the digest of its content without id and time.
"""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime

import numpy as np

from sluice.model.plan import Band, ConflictPlan, Plan, Verdict
from sluice.planning.certificate import Certificate
from sluice.planning.decode import PoolSplit, split
from sluice.planning.explain import Explanation, explain, standing
from sluice.planning.formulate import Formulation
from sluice.planning.kept import kept_promises
from sluice.planning.latency import Latency, latencies
from sluice.planning.problem import ClassInput, PoolInput, Problem
from sluice.planning.program import Vector
from sluice.planning.solver import Solution

FULL_SHARE = 0.99
"""Served share from which a class counts as planned in full and is not limited."""
IDLE_SHARE = 0.01
"""Served share below which a class only takes what would stand idle."""
_DIGITS = 12
_NOISE = 2e-12
"""Relative difference of two rates that is rounding, not refusal."""
_NOBODY = 1e-300
"""Rate below which nobody comes."""
_ALL_HERE = (1000,)
"""Weights of a class where there is one pool."""
_HOUR_SECONDS = 3600.0
Document = dict[str, object]
"""A part of the plan before it is validated."""
_MOST_MODES = 64


def compose(
    formulation: Formulation,
    solution: Solution,
    certificate: Certificate,
    now: float,
    conflict: ConflictPlan | None = None,
    notes: tuple[str, ...] = (),
) -> Plan:
    """The plan of a certified solution, made at ``now`` (seconds since the epoch)."""
    problem = formulation.problem
    splits = split(formulation, solution.primal)
    explanation = explain(formulation, solution, certificate)
    times = latencies(formulation, splits)
    cost = None
    if problem.charge_replicas:
        cost = sum(
            part.busy / pool.engines_per_replica * pool.cost_per_hour / _HOUR_SECONDS
            for pool, part in zip(problem.pools, splits, strict=True)
        )
    document = {
        "plan_id": "",
        "fleet": problem.fleet,
        "time": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "charging": problem.charging.value,
        "verdict": Verdict.OPTIMAL,
        "value_per_second": _rounded(certificate.value),
        "upper_bound": _rounded(certificate.upper_bound),
        "pools": _pool_plans(formulation, splits, explanation),
        "classes": _class_plans(formulation, splits, explanation, times),
        "shadow_prices": explanation.prices,
        "promises": kept_promises(formulation, solution, splits, times),
        "conflict": conflict,
        "certificate": {
            "primal_residual": _rounded(certificate.primal_residual, 2),
            "dual_residual": _rounded(certificate.dual_residual, 2),
            "gap": _rounded(certificate.gap, 2),
        },
        "replica_cost_per_second": cost,
        "notes": (*notes, *problem.notes)[:64],
    }
    # One validation of the whole document costs a fifth of building it model by model, validated or not.
    return identified(Plan.model_validate(document))


def identified(plan: Plan) -> Plan:
    """``plan`` with the id that its content demands: the digest of all but id, time and proof."""
    content = plan.model_dump_json(by_alias=True, exclude={"plan_id", "time", "certificate"})
    return plan.model_copy(update={"plan_id": hashlib.sha256(content.encode()).hexdigest()[:16]})


def _pool_plans(
    formulation: Formulation, splits: tuple[PoolSplit, ...], explanation: Explanation
) -> tuple[Document, ...]:
    value_of = {
        place: engine
        for columns, engine in zip(formulation.pools, explanation.replica_value, strict=True)
        for place in columns.group.places
    }
    return tuple(
        _pool_plan(pool, part, value_of[place] * pool.engines_per_replica * _HOUR_SECONDS)
        for place, (pool, part) in enumerate(zip(formulation.problem.pools, splits, strict=True))
    )


def _pool_plan(pool: PoolInput, part: PoolSplit, hourly: float) -> Document:
    """Mixed replicas are rounded up (the paper's M = ceil(n sum x)), idle ones count as solo."""
    if pool.external is not None:
        return {"name": pool.name, "replicas": 0, "mixed": 0.0, "solo": 0.0, "mixed_replicas": 0}
    mixed = min(part.mixed / pool.engines_per_replica, float(pool.ready))
    shares = [
        (share, mode)
        for share, mode in zip(part.engines.tolist(), pool.modes, strict=True)
        if share > _NOISE * pool.ready
    ]
    chunk = [(share, mode.chunk_tokens) for share, mode in shares if mode.mixed]
    weight = sum(share for share, _ in chunk)
    total = max(sum(share for share, _ in shares), pool.replicas, 1e-300)
    return {
        "name": pool.name,
        "replicas": pool.ready,
        "mixed": _rounded(mixed),
        "solo": _rounded(max(0.0, pool.ready - mixed)),
        "mixed_replicas": min(pool.ready, math.ceil(mixed - 1e-9)),
        "in_use": _rounded(min(part.busy / pool.engines_per_replica, float(pool.ready))),
        "value_per_replica_hour": _rounded(hourly),
        "chunk_tokens": _rounded(sum(share * tokens for share, tokens in chunk) / weight) if weight > 0 else None,
        "batch_cap": max((mode.batch + mode.mixed for _, mode in shares), default=None),
        "modes": tuple(
            {
                "chunk_tokens": mode.chunk_tokens,
                "batch": mode.batch,
                "seconds": mode.seconds,
                "share": _rounded(min(1.0, share / total)),
            }
            for share, mode in sorted(shares, key=lambda entry: -entry[0])[:_MOST_MODES]
        ),
    }


def _class_plans(
    formulation: Formulation, splits: tuple[PoolSplit, ...], explanation: Explanation, times: Latency
) -> tuple[Document, ...]:
    """One entry per class, in the problem's order."""
    data, problem = formulation.data, formulation.problem
    count = len(splits)
    parts = np.array(
        [(part.served, part.prefill, part.decode_mixed, part.decode_solo, part.decode_queue) for part in splits]
    )
    whole = parts[0] if count == 1 else parts.sum(axis=0)
    reasons = (explanation.index, explanation.marginal, explanation.cut_off, times.wait, times.first_token, times.token)
    # Classes by row, then numbers of the whole fleet and of each pool: rounded in one go.
    numbers = _round_all(np.concatenate([whole, reasons, parts.reshape(5 * count, -1)]).T).tolist()
    shares = np.minimum(whole[0] / np.maximum(data.rate, _NOBODY), 1.0)
    shares[data.rate == 0.0] = 1.0
    words = _words(problem, shares.tolist(), explanation.cut_off.tolist())
    weights = [_ALL_HERE] * len(numbers) if count == 1 else _weights(formulation, parts[:, 0])
    names = [pool.name for pool in problem.pools]
    return tuple(
        [
            _class_plan(entry, row, _class_pools(entry, names, row[11:], weight), word)
            for entry, row, weight, word in zip(problem.classes, numbers, weights, words, strict=True)
        ]
    )


def _words(problem: Problem, shares: list[float], cut_offs: list[float]) -> list[str]:
    """Every class's distance to the cut-off."""
    served = [(cut_off, i) for i, cut_off in enumerate(cut_offs) if 0 < cut_off < 1 and shares[i] >= 1 - 1e-9]
    _, first = min(served, default=(0.0, -1))
    promised = {promise.class_name for promise in problem.promises if promise.hard}
    return [
        standing(i == first, share, cut_off, entry.name in promised)
        for i, (entry, share, cut_off) in enumerate(zip(problem.classes, shares, cut_offs, strict=True))
    ]


def _class_pools(
    entry: ClassInput, names: list[str], numbers: list[float], weights: tuple[int, ...]
) -> tuple[Document, ...]:
    """The class's part of every pool it may use; five numbers each."""
    return tuple(
        [
            {
                "pool": name,
                "admitted_rate": numbers[5 * place],
                "prefill": numbers[5 * place + 1],
                "decode_mixed": numbers[5 * place + 2],
                "decode_solo": numbers[5 * place + 3],
                "weight_permille": weights[place],
            }
            for place, name in enumerate(names)
            if not entry.pools or name in entry.pools
        ]
    )


def _class_plan(entry: ClassInput, row: list[float], pools: tuple[Document, ...], words: str) -> Document:
    served, prefill, mixed, solo, decode_queue, index, marginal, cut_off, wait, ttft, tpot = row[:11]
    rate, theta = entry.rate, entry.abandonment_rate
    refused = rate - served
    # A robust plan may reserve for more than the estimate; nobody can be admitted who is not expected.
    served = min(served, rate)
    band = _band(served, rate)
    rationed = band is not Band.FULL
    return {
        "name": entry.name,
        "band": band,
        "index": index,
        "rationed": rationed,
        "arrival_rate": rate,
        "admitted_rate": served,
        "prefill": prefill,
        "decode_mixed": mixed,
        "decode_solo": solo,
        "prefill_queue": _rounded(refused / theta) if theta > 0 and refused > _NOISE * rate else 0.0,
        "decode_queue": decode_queue,
        "in_flight_limit": _limit(entry, served, prefill + decode_queue + mixed + solo) if rationed else None,
        "pools": pools,
        "marginal_value": marginal,
        "cut_off": cut_off,
        "standing": words,
        "wait_seconds": wait,
        "ttft_seconds": ttft,
        "tpot_seconds": tpot,
    }


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
    allowed = np.zeros(served.shape)
    for group in (columns.group for columns in formulation.pools):
        capacity = [pool.replicas * group.decode_rate + 1e-12 for pool in group.pools]
        allowed[np.ix_(np.array(group.places), group.classes)] = np.array(capacity)[:, None]
    total = served.sum(axis=0)
    shares = np.where(total > _NOISE * np.maximum(formulation.data.rate, 1e-300), served, allowed)
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
    size = np.abs(values)
    exponent = np.floor(np.log10(np.where(size > 0, size, 1.0)))
    factor = 10.0 ** (_DIGITS - 1 - exponent)
    rounded: Vector = np.rint(values * factor) / factor
    return rounded


def _rounded(value: float, digits: int = _DIGITS) -> float:
    return float(f"{value:.{digits}g}")
