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
from sluice.model.fleet import Charging, ExternalPrices, Fleet, Pool, WorkloadClass
from sluice.model.snapshot import PoolSupply
from sluice.planning.modes import Mode, modes_of_law
from sluice.planning.promises import Promise, PromiseKind, promises_of, remarks_on
from sluice.planning.tables import mean_context, modes_of_table


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
    """The working points that a replica may spend its time in; none for an external API."""
    cost_per_hour: float = 0.0
    """Money per replica and hour; enters the objective where the problem charges replicas."""
    kv_token_capacity: float | None = None
    """Tokens that one engine's KV cache holds; None: slots bind first."""
    decodes_move: bool = True
    """Whether a request may decode on another engine than the one that prefilled it, as the paper has it."""
    transfer_seconds_per_token: float = 0.0
    """Time a solo slot is held per prompt token while a request's KV cache moves to it."""
    transfer_cost_per_token: float = 0.0
    """Money per prompt token that moves."""
    external: ExternalPrices | None = None
    """Set: an API paid per token, with no capacity of ours."""

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
    rate_spread: float = 0.0
    """How far the rate may be off either way, relative: the box of the robust plan."""

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
        return (*self._fleet_faults(), *self._pool_faults(), *self._class_faults(), *self._promise_faults())

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
            for field, number in _pool_numbers(pool):
                if number is not None and not 0 <= number < math.inf:
                    yield Fault(
                        subject=subject, field=field, message=f"is {number}, must be a finite number, at least 0"
                    )
            if pool.engines_per_replica < 1:
                yield Fault(subject=subject, field="enginesPerReplica", message="must be at least 1")
            if pool.external is None:
                for message in _mode_faults(pool.modes):
                    yield Fault(subject=subject, field="modes", message=message)

    def _class_faults(self) -> Iterator[Fault]:
        known = {pool.name for pool in self.pools}
        for entry in self.classes:
            if _is_sound(entry):
                continue
            subject = f"WorkloadClass/{entry.name}"
            for field, number, positive in _class_numbers(entry):
                if not 0 <= number < math.inf or (positive and number == 0):
                    wanted = "above 0" if positive else "at least 0"
                    yield Fault(subject=subject, field=field, message=f"is {number}, must be a finite number {wanted}")
            if not 0 <= entry.rate_spread <= 1:
                yield Fault(subject=subject, field="rateSpread", message=f"is {entry.rate_spread}, must be 0..1")
            if entry.uncached_prompt_tokens > entry.prompt_tokens:
                yield Fault(
                    subject=subject, field="uncachedPromptTokens", message="is more than the prompt tokens altogether"
                )
        for entry in self.classes:
            for pool in entry.pools:
                if pool not in known:
                    subject = f"WorkloadClass/{entry.name}"
                    yield Fault(subject=subject, field="spec.pools", message=f"the fleet has no pool {pool!r}")

    def _promise_faults(self) -> Iterator[Fault]:
        known = {entry.name for entry in self.classes}
        own = {pool.modes for pool in self.pools if pool.external is None}
        for promise in self.promises:
            subject = f"InferenceFleet/{self.fleet.rpartition('/')[2]}"
            if promise.class_name is not None:
                subject = f"WorkloadClass/{promise.class_name}"
            if (fault := promise.fault()) is not None:
                yield Fault(subject=subject, field=promise.name, message=fault)
            elif promise.class_name is not None and promise.class_name not in known:
                yield Fault(subject=subject, field=promise.name, message="the problem has no such class")
            elif promise.kind.is_paper_form and any(len(modes) != 2 for modes in own):
                message = "the paper defines it for two modes; use served-fairness or tpot with measured tables"
                yield Fault(subject=subject, field=promise.name, message=message)
            elif promise.kind is PromiseKind.SLOT_TPOT and not promise.hard and len(own) > 1:
                message = "its penalty (48) is convex for one kind of pool only; make it hard or use tpot"
                yield Fault(subject=subject, field=promise.name, message=message)


def _mode_faults(modes: tuple[Mode, ...]) -> Iterator[str]:
    """What is wrong with a pool's working points."""
    if not any(mode.mixed for mode in modes):
        yield "no working point prefills"
    if not any(mode.batch > 0 for mode in modes):
        yield "no working point decodes"
    for mode in modes:
        if (fault := mode.fault()) is not None:
            yield f"{mode}: {fault}"


def _pool_numbers(pool: PoolInput) -> tuple[tuple[str, float | None], ...]:
    """(field, value) of every optional number of a pool."""
    external = pool.external
    return (
        ("replicas", pool.ready),
        ("costPerHour", pool.cost_per_hour),
        ("kvTokenCapacity", pool.kv_token_capacity),
        ("transferSecondsPerToken", pool.transfer_seconds_per_token),
        ("transferCostPerToken", pool.transfer_cost_per_token),
        ("external.promptTokenCost", external.prompt_token_cost if external else None),
        ("external.outputTokenCost", external.output_token_cost if external else None),
        ("external.firstTokenSeconds", external.first_token_seconds if external else None),
        ("external.tokenSeconds", external.token_seconds if external else None),
    )


def _is_sound(entry: ClassInput) -> bool:
    """Whether no number of a class is a fault, asked in one breath: it is asked of every class in every pass."""
    most = math.inf
    return (
        0 <= entry.rate < most
        and 0 <= entry.uncached_prompt_tokens <= entry.prompt_tokens < most
        and entry.prompt_tokens > 0
        and 0 < entry.output_tokens < most
        and 0 < entry.tokens_per_step < most
        and 0 <= entry.abandonment_rate < most
        and 0 <= entry.prompt_token_price < most
        and 0 <= entry.output_token_price < most
        and 0 <= entry.rate_spread <= 1
    )


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
