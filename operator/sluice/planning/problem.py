"""What is planned: pools with replicas, classes with demand, prices and promises.

A ``Problem`` is the whole input of one solve. It knows nothing of resources, samples or
clocks; ``Problem.of`` takes the fleet, its classes, the estimated demand and the counted
replicas. Nonsense in it (a negative length, a pool without a mode) is not an exception
but a ``Fault`` that names the object and the field, so that one bad class never takes the
plan of the others with it unseen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from sluice.model.demand import ClassDemand, Demand
from sluice.model.fleet import Charging, Fleet, Pool, WorkloadClass
from sluice.model.snapshot import PoolSupply
from sluice.planning.modes import Mode, modes_of_law


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One number or reference that cannot be planned with."""

    subject: str
    """``Pool/name``, ``WorkloadClass/name`` or ``InferenceFleet/name``."""
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.field}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolInput:
    """One pool as the program sees it."""

    name: str
    ready: int
    """Replicas that can serve."""
    engines_per_replica: int = 1
    reserved: float = 0.0
    """Engines' worth of capacity that traffic of no class takes."""
    modes: tuple[Mode, ...]
    """The working points that a replica may spend its time in."""

    @property
    def replicas(self) -> float:
        """Engines the plan may fill: the paper's n."""
        return max(0.0, self.ready * self.engines_per_replica - self.reserved)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassInput:
    """One class as the program sees it; rates are of the whole fleet."""

    name: str
    rate: float
    """Offered requests per second (the paper's lambda times n)."""
    prompt_tokens: float
    """Mean prompt tokens: what is paid for (the paper's P)."""
    uncached_prompt_tokens: float
    """Mean prompt tokens that must be computed: what takes prefill capacity."""
    output_tokens: float
    """Mean output tokens (the paper's D)."""
    tokens_per_step: float = 1.0
    """Output tokens per decode step; above 1 with speculative decoding."""
    abandonment_rate: float = 0.0
    """The paper's theta, per second; 0: clients wait for ever, what is not admitted is refused."""
    prompt_token_price: float
    output_token_price: float
    pools: tuple[str, ...] = ()
    """Pools the class may use; empty: all."""
    closable: bool = False

    @property
    def decode_steps(self) -> float:
        """Decode steps of one request."""
        return self.output_tokens / self.tokens_per_step

    @property
    def value(self) -> float:
        """Money for one complete request (the paper's w, equation (21))."""
        return self.prompt_token_price * self.prompt_tokens + self.output_token_price * self.output_tokens

    def may_use(self, pool: str) -> bool:
        """Whether the class may be served by ``pool``."""
        return not self.pools or pool in self.pools


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The whole input of one solve."""

    fleet: str
    """``namespace/name``."""
    charging: Charging
    pools: tuple[PoolInput, ...]
    classes: tuple[ClassInput, ...]
    notes: tuple[str, ...] = ()
    """What was assumed while the problem was put together, for the reader of the plan."""

    @classmethod
    def of(
        cls, fleet: Fleet, classes: Iterable[WorkloadClass], demand: Demand, supplies: Iterable[PoolSupply]
    ) -> Problem:
        """The problem of ``fleet`` at ``demand``; a pool that nobody counted has no replicas."""
        ready = {supply.pool: supply.ready for supply in supplies}
        inputs = tuple(_class_input(workload, demand.of(workload.name)) for workload in classes)
        pools = tuple(_pool_input(pool, ready.get(pool.name, 0)) for pool in fleet.pools)
        notes = tuple(f"Pool/{p.name}: nobody counted its replicas; planned as 0" for p in pools if p.name not in ready)
        problem = cls(fleet=fleet.key, charging=fleet.charging, pools=pools, classes=inputs, notes=notes)
        return problem._leaving_room(demand.unmatched_rate)

    def faults(self) -> tuple[Fault, ...]:
        """Everything that keeps this problem from being planned, in the order of its parts."""
        return (*self._fleet_faults(), *self._pool_faults(), *self._class_faults())

    def _leaving_room(self, unmatched_rate: float) -> Problem:
        """Take the capacity of traffic that matches no class off the pools, at the classes' mean lengths."""
        offered = sum(entry.rate for entry in self.classes)
        if unmatched_rate <= 0 or offered <= 0 or self.faults():
            return self
        steps = sum(entry.rate * entry.decode_steps for entry in self.classes) / offered
        prompt = sum(entry.rate * entry.uncached_prompt_tokens for entry in self.classes) / offered
        capacity = sum(pool.replicas for pool in self.pools)
        if capacity <= 0:
            return self
        pools = []
        for pool in self.pools:
            solo = max(mode.decode_rate for mode in pool.modes)
            mixed = max(pool.modes, key=lambda mode: mode.prefill_rate)
            seconds = steps / solo + prompt * (1 - mixed.decode_rate / solo) / mixed.prefill_rate
            taken = unmatched_rate * pool.replicas / capacity * seconds
            pools.append(replace(pool, reserved=min(taken, pool.replicas)))
        taken = sum(pool.reserved for pool in pools)
        note = f"{unmatched_rate:.3g} requests/s match no class: {taken:.3g} engines are left to them"
        return replace(self, pools=tuple(pools), notes=(*self.notes, note))

    def _fleet_faults(self) -> Iterator[Fault]:
        subject = f"InferenceFleet/{self.fleet.rpartition('/')[2]}"
        if not self.classes:
            yield Fault(subject=subject, field="classes", message="no class to plan for; apply a WorkloadClass")
        if not self.pools:
            yield Fault(subject=subject, field="spec.pools", message="no pool to plan on")
        for kind, names in (
            ("pool", [pool.name for pool in self.pools]),
            ("class", [entry.name for entry in self.classes]),
        ):
            for name in sorted(
                {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()
            ):
                yield Fault(subject=subject, field="name", message=f"two {kind} entries are called {name!r}")

    def _pool_faults(self) -> Iterator[Fault]:
        for pool in self.pools:
            subject = f"Pool/{pool.name}"
            if pool.ready < 0:
                yield Fault(subject=subject, field="replicas", message=f"is {pool.ready}, must not be negative")
            if pool.engines_per_replica < 1:
                yield Fault(subject=subject, field="enginesPerReplica", message="must be at least 1")
            if not any(mode.chunk_tokens > 0 for mode in pool.modes):
                yield Fault(subject=subject, field="modes", message="no working point prefills")
            if not any(mode.batch > 0 for mode in pool.modes):
                yield Fault(subject=subject, field="modes", message="no working point decodes")
            for mode in pool.modes:
                if (fault := mode.fault()) is not None:
                    yield Fault(subject=subject, field="modes", message=f"{mode}: {fault}")

    def _class_faults(self) -> Iterator[Fault]:
        known = {pool.name for pool in self.pools}
        for entry in self.classes:
            subject = f"WorkloadClass/{entry.name}"
            for field, number, positive in _class_numbers(entry):
                if not math.isfinite(number) or number < 0 or (positive and number == 0):
                    wanted = "above 0" if positive else "at least 0"
                    yield Fault(subject=subject, field=field, message=f"is {number}, must be a finite number {wanted}")
            if entry.uncached_prompt_tokens > entry.prompt_tokens:
                yield Fault(
                    subject=subject, field="uncachedPromptTokens", message="is more than the prompt tokens altogether"
                )
            for pool in entry.pools:
                if pool not in known:
                    yield Fault(subject=subject, field="spec.pools", message=f"the fleet has no pool {pool!r}")


def _class_numbers(entry: ClassInput) -> tuple[tuple[str, float, bool], ...]:
    """(field, value, must be positive) of every number of a class."""
    return (
        ("rate", entry.rate, False),
        ("promptTokens", entry.prompt_tokens, True),
        ("uncachedPromptTokens", entry.uncached_prompt_tokens, False),
        ("outputTokens", entry.output_tokens, True),
        ("tokensPerStep", entry.tokens_per_step, True),
        ("abandonmentRate", entry.abandonment_rate, False),
        ("promptTokenPrice", entry.prompt_token_price, False),
        ("outputTokenPrice", entry.output_token_price, False),
    )


def _pool_input(pool: Pool, ready: int) -> PoolInput:
    return PoolInput(
        name=pool.name,
        ready=ready,
        engines_per_replica=pool.engines_per_replica,
        modes=modes_of_law(pool.law, pool.slots, pool.chunk_tokens, pool.batched_token_budget),
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
    )


def _abandonment(patience_seconds: float | None) -> float:
    """The paper's theta of a mean patience; infinite, and so a fault, where nobody waits at all."""
    if patience_seconds is None:
        return 0.0
    return 1.0 / patience_seconds if patience_seconds > 0 else math.inf
