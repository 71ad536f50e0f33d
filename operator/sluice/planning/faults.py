"""What cannot be planned with, by object and field: nonsense is never an exception."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from sluice.planning.inputs import ClassInput, PoolInput
from sluice.planning.modes import Mode
from sluice.planning.promises import Promise, PromiseKind

Pools = tuple[PoolInput, ...]
Classes = tuple[ClassInput, ...]
Promises = tuple[Promise, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One number or reference that cannot be planned with."""

    subject: str
    """``Pool/name``, ``WorkloadClass/name`` or ``InferenceFleet/name``."""
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.field}: {self.message}"


def faults_of(fleet: str, pools: Pools, classes: Classes, promises: Promises) -> tuple[Fault, ...]:
    """Everything that keeps a problem from being planned, in the order of its parts."""
    return (
        *_fleet_faults(fleet, pools, classes),
        *_pool_faults(pools),
        *_class_faults(pools, classes),
        *_promise_faults(fleet, pools, classes, promises),
    )


def _fleet_faults(fleet: str, pools: Pools, classes: Classes) -> Iterator[Fault]:
    if not classes:
        message = "no class to plan for; apply a WorkloadClass"
        yield Fault(subject=_subject_of(fleet), field="classes", message=message)
    if not pools:
        yield Fault(subject=_subject_of(fleet), field="spec.pools", message="no pool to plan on")
    for kind, names in (
        ("pool", [pool.name for pool in pools]),
        ("class", [entry.name for entry in classes]),
    ):
        if len(set(names)) < len(names):
            for name in sorted({name for name in names if names.count(name) > 1}):
                message = f"two {kind} entries are called {name!r}"
                yield Fault(subject=_subject_of(fleet), field="name", message=message)


def _subject_of(fleet: str) -> str:
    return f"InferenceFleet/{fleet.rpartition('/')[2]}"


def _pool_faults(pools: Pools) -> Iterator[Fault]:
    for pool in pools:
        subject = f"Pool/{pool.name}"
        for field, number in _pool_numbers(pool):
            if number is not None and not 0 <= number < math.inf:
                yield Fault(subject=subject, field=field, message=f"is {number}, must be a finite number, at least 0")
        if pool.engines_per_replica < 1:
            yield Fault(subject=subject, field="enginesPerReplica", message="must be at least 1")
        if pool.external is None:
            for message in _mode_faults(pool.modes):
                yield Fault(subject=subject, field="modes", message=message)


def _class_faults(pools: Pools, classes: Classes) -> Iterator[Fault]:
    known = {pool.name for pool in pools}
    for entry in classes:
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
    for entry in classes:
        for pool in entry.pools:
            if pool not in known:
                subject = f"WorkloadClass/{entry.name}"
                yield Fault(subject=subject, field="spec.pools", message=f"the fleet has no pool {pool!r}")


def _promise_faults(fleet: str, pools: Pools, classes: Classes, promises: Promises) -> Iterator[Fault]:
    known = {entry.name for entry in classes}
    own = {pool.modes for pool in pools if pool.external is None} if promises else set()
    for promise in promises:
        subject = _subject_of(fleet)
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
