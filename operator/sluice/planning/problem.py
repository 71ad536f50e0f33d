"""What is planned: pools with replicas, classes with demand, prices and promises.

A ``Problem`` is the whole input of one solve. It knows nothing of resources, samples or
clocks; ``Problem.of`` takes the fleet, its classes, the estimated demand and the counted
replicas. Nonsense in it (a negative length, a pool without a mode) is not an exception
but a ``Fault`` that names the object and the field, so that one bad class never takes the
plan of the others with it unseen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sluice.model.demand import ClassDemand, Demand
from sluice.model.fleet import Charging, Fleet, Pool, WorkloadClass
from sluice.model.snapshot import PoolSupply
from sluice.planning.faults import Fault, faults_of
from sluice.planning.inputs import ClassInput, PoolInput
from sluice.planning.modes import Mode, modes_of_law
from sluice.planning.promises import Promise, promises_of, remarks_on
from sluice.planning.tables import mean_context, modes_of_table

__all__ = ["ClassInput", "Fault", "PoolInput", "Problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The whole input of one solve."""

    fleet: str
    """``namespace/name``."""
    charging: Charging
    pools: tuple[PoolInput, ...]
    classes: tuple[ClassInput, ...]
    promises: tuple[Promise, ...] = ()
    charge_replicas: bool = False
    """Whether the cost of replicas in use is taken off the value."""
    caution: float = 0.5
    """Weight of the worst case against the estimate where rates are uncertain, 0..1."""
    notes: tuple[str, ...] = ()
    """What was assumed while the problem was put together, for the reader of the plan."""

    @classmethod
    def of(
        cls, fleet: Fleet, classes: Iterable[WorkloadClass], demand: Demand, supplies: Iterable[PoolSupply]
    ) -> Problem:
        """The problem of ``fleet`` at ``demand``; a pool that nobody counted has no replicas."""
        ready = {supply.pool: supply.ready for supply in supplies}
        workloads = tuple(classes)
        inputs = tuple(_class_input(workload, demand.of(workload.name)) for workload in workloads)
        context = mean_context((entry.rate, entry.prompt_tokens, entry.output_tokens) for entry in inputs)
        pools, notes = [], []
        for pool in fleet.pools:
            if pool.name not in ready and pool.external is None:
                notes.append(f"Pool/{pool.name}: nobody counted its replicas; planned as 0")
            modes, remarks = _modes(pool, context)
            notes += [f"Pool/{pool.name}: {remark}" for remark in remarks]
            pools.append(_pool_input(pool, ready.get(pool.name, 0), modes))
        problem = cls(
            fleet=fleet.key,
            charging=fleet.charging,
            pools=tuple(pools),
            classes=inputs,
            promises=promises_of(fleet, workloads),
            charge_replicas=fleet.charge_replicas,
            caution=fleet.caution,
            notes=(*notes, *remarks_on(fleet, workloads)),
        )
        return problem._leaving_room(demand.unmatched_rate)

    def faults(self) -> tuple[Fault, ...]:
        """Everything that keeps this problem from being planned, in the order of its parts."""
        return faults_of(self.fleet, self.pools, self.classes, self.promises)

    def _leaving_room(self, unmatched_rate: float) -> Problem:
        """Take the capacity of traffic that matches no class off the pools, at the classes' mean lengths."""
        offered = sum(entry.rate for entry in self.classes)
        if unmatched_rate <= 0 or offered <= 0 or self.faults():
            return self
        steps = sum(entry.rate * entry.decode_steps for entry in self.classes) / offered
        prompt = sum(entry.rate * entry.uncached_prompt_tokens for entry in self.classes) / offered
        capacity = sum(pool.replicas for pool in self.pools if pool.external is None)
        if capacity <= 0:
            return self
        pools = []
        for pool in self.pools:
            if pool.external is not None:
                pools.append(pool)
                continue
            solo = max(mode.decode_rate for mode in pool.modes)
            mixed = max(pool.modes, key=lambda mode: mode.prefill_rate)
            seconds = steps / solo + prompt * (1 - mixed.decode_rate / solo) / mixed.prefill_rate
            taken = unmatched_rate * pool.replicas / capacity * seconds
            pools.append(replace(pool, reserved=min(taken, pool.replicas)))
        taken = sum(pool.reserved for pool in pools)
        note = f"{unmatched_rate:.3g} requests/s match no class: {taken:.3g} engines are left to them"
        return replace(self, pools=tuple(pools), notes=(*self.notes, note))


def _modes(pool: Pool, context_tokens: float) -> tuple[tuple[Mode, ...], tuple[str, ...]]:
    """The pool's working points, measured where there is a table, and remarks about what was left out."""
    if pool.external is not None:
        return (), ()
    if pool.points:
        return modes_of_table(pool.points, context_tokens, pool.slots, pool.chunk_tokens, pool.batched_token_budget)
    return modes_of_law(pool.law, pool.slots, pool.chunk_tokens, pool.batched_token_budget), ()


def _pool_input(pool: Pool, ready: int, modes: tuple[Mode, ...]) -> PoolInput:
    moves = pool.decode_may_move
    return PoolInput(
        name=pool.name,
        ready=ready if pool.external is None else 0,
        engines_per_replica=pool.engines_per_replica,
        modes=modes,
        cost_per_hour=pool.cost_per_hour or 0.0,
        # The user counts KV tokens per replica, the program per engine.
        kv_token_capacity=None if pool.kv_token_capacity is None else pool.kv_token_capacity / pool.engines_per_replica,
        decodes_move=moves,
        transfer_seconds_per_token=pool.transfer_seconds_per_token if moves else 0.0,
        transfer_cost_per_token=pool.transfer_cost_per_token if moves else 0.0,
        external=pool.external,
    )


def _class_input(workload: WorkloadClass, demand: ClassDemand) -> ClassInput:
    return ClassInput(
        name=workload.name,
        rate=demand.rate.value,
        prompt_tokens=demand.prompt_tokens.value,
        # Two estimates from two sources may cross by noise; what is computed is never more than what was sent.
        uncached_prompt_tokens=min(demand.uncached_prompt_tokens.value, demand.prompt_tokens.value),
        output_tokens=demand.output_tokens.value,
        tokens_per_step=workload.tokens_per_step,
        abandonment_rate=_abandonment(demand.patience_seconds),
        prompt_token_price=workload.prompt_token_price,
        output_token_price=workload.output_token_price,
        pools=workload.pools,
        closable=workload.closable,
        rate_spread=workload.rate_spread,
    )


def _abandonment(patience_seconds: float | None) -> float:
    """The paper's theta of a mean patience; infinite, and so a fault, where nobody waits at all."""
    if patience_seconds is None:
        return 0.0
    return 1.0 / patience_seconds if patience_seconds > 0 else math.inf
