"""Requests that stay on the engine that prefilled them: one iteration time for all its classes.

Where decodes may move, a router can give one class the engines without prefills and another the
rest. Where they stay, all sequences of an engine share its iterations, so every class takes the
pool's own mean time per decode step. That time (the *pace*) is a product of two variables in the
rows (7) and (10). With the pace of every pool given, the rows are linear again and the pool keeps
to it by a row of its own, (16). So the plan is found in up to three steps:

1. The ``opening`` guesses a corner without prices for memory and token times, so it is the same at
   all paces. If it is proved at the slowest iterations, no pace earns more.
2. The relaxed program (``paced``): no plan earns more. If its answer holds with shared iterations
   too, as it does where neither memory nor a class's token time binds, it is the plan.
3. Else ``pace_search`` looks for the best paces, each step one linear program. A small fleet of one
   pool without promised token times goes there from the guess, without the second step.

Each step is proved like any plan. The paces themselves are a local choice, and how much is lost by
it at most stands between value and upper bound.
"""

from __future__ import annotations

from sluice.planning.class_data import ClassData
from sluice.planning.decode import PoolSplit, split
from sluice.planning.formulate import Formulation
from sluice.planning.groups import PoolGroup, equal_pools
from sluice.planning.latency import latencies
from sluice.planning.problem import Problem
from sluice.planning.program import Vector
from sluice.planning.promises import PromiseKind

_ROOM = 1e-6
"""Relative excess that is rounding."""


def stays(problem: Problem) -> tuple[bool, ...]:
    """Per group of equal pools: whether its rows depend on a pace that its classes share; empty where none does."""
    if all(pool.decodes_move or pool.external is not None for pool in problem.pools):
        return ()
    # The paper's decode fairness compares classes by where they decode: it means nothing without a choice.
    if any(promise.kind is PromiseKind.DECODE_FAIRNESS for promise in problem.promises):
        return ()
    timed = any(p.kind is PromiseKind.TPOT and p.class_name is not None for p in problem.promises)
    return tuple(
        group.first.external is None
        and not group.first.decodes_move
        and (timed or group.first.kv_token_capacity is not None)
        for group in equal_pools(problem)
    )


def excesses(formulation: Formulation, primal: Vector) -> tuple[str, ...]:
    """Which rows (7) and (10) do not hold where every class takes its pool's own time per token, in words."""
    if not any(staying := stays(formulation.problem)):
        return ()
    splits = split(formulation, primal)
    found = []
    for columns, shared in zip(formulation.pools, staying, strict=True):
        group = columns.group
        capacity = group.replicas * (group.first.kv_token_capacity or 0.0) if shared else 0.0
        if capacity == 0:
            continue
        held = sum(resident_tokens(formulation.data, group, splits[place]) for place in group.places)
        if held > capacity * (1 + _ROOM):
            found.append(f"KV memory of {group.name} would be filled to {held / capacity:.1%}")
    seconds = latencies(formulation, splits).token
    names = [entry.name for entry in formulation.problem.classes]
    for entry in formulation.promises:
        promise = entry.promise
        if promise.kind is PromiseKind.TPOT and promise.class_name is not None:
            missed = 0.0 if entry.slack is None else float(primal[entry.slack])
            planned = float(seconds[names.index(promise.class_name)])
            if planned > (promise.target + missed) * (1 + _ROOM):
                found.append(f"{promise.name} would be {planned * 1000:.3g} ms")
    return tuple(found)


def resident_tokens(data: ClassData, group: PoolGroup, part: PoolSplit) -> float:
    """Tokens in one pool's KV caches under a plan: the left side of row (7), no cache on its way."""
    prefill = part.served * data.uncached / group.prefill_rate * (data.prompt - data.uncached / 2)
    decodes = (part.decode_mixed + part.decode_solo) * (data.prompt + data.output / 2)
    return float((prefill + decodes + part.decode_queue * data.prompt).sum())


def fastest(group: PoolGroup) -> float:
    """The shortest iteration that decodes."""
    return min(mode.seconds for mode in group.modes if mode.batch > 0)


def slowest(group: PoolGroup) -> float:
    """The longest iteration that decodes."""
    return max(mode.seconds for mode in group.modes if mode.batch > 0)


def tied(value: float, best: float) -> str:
    """What a reader must know of a plan with shared iterations."""
    return (
        "requests stay on the engine that prefilled them, so its classes share one time per token; "
        f"if decodes could move the plan would earn at most {max(0.0, best - value):.4g} per second more"
    )


def at_best(over: tuple[str, ...]) -> str:
    """What a reader must know of a plan that no shared iterations allow."""
    return (
        "requests stay on the engine that prefilled them, and no plan found keeps every promise so; planned as if "
        "decodes could move: " + "; ".join(over)
    )
