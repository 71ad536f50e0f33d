"""From fleet, classes and plan to what the gate decides by. Pure.

What a class is worth and takes of an engine follows from prices, lengths and the law. A fresh
plan adds the rates at which classes are to be served, what is guaranteed to them, and bands
and index for the orders that use them. Without one these are static: by tier, then by value per token. A plan
never closes the gate, except for a class whose owner declared it closable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sluice.gate.engines import EngineTerms
from sluice.gate.keys import KeySource
from sluice.gate.terms import ClassTerms, GateTerms
from sluice.model.fleet import Fleet, GateUse, Mode, Pool, Tier, WorkloadClass
from sluice.model.gate import LONGEST_WAIT_SECONDS, WhenLate
from sluice.model.plan import Band, ClassPlan, Plan
from sluice.policy.admission import AdmissionPolicy, LaneTerms
from sluice.policy.costs import NO_COSTS, Costs, costs_of
from sluice.policy.kernels import Order
from sluice.policy.orders import MARGIN_SECONDS, TIMELY, keeping_promises

BUDGETS = 2
"""Batched-token budgets of unfinished prefill per engine: one in the iteration that runs, one for the next."""
LEAST_REQUESTS = 2
UNPLACED_BUDGETS = 4
"""Times as much where the proxy places among several engines. It counts whole answers, not prefills: with two
prefills an engine on average, an eighth of the engines would have none (e^-2) while others hold four. In the demo
that cost 5 % of value at 1 time, .6 % at 2 times, nothing at 4 times, and 4 times still keep most of the order."""
RAMP_SECONDS = 30.0
"""A replica that is new gets its whole part of placed requests after so long."""
_TIER_BAND = {Tier.PROTECTED: Band.FULL, Tier.STANDARD: Band.FULL, Tier.BEST_EFFORT: Band.IDLE_ONLY}
_TIER_ORDER = {Tier.PROTECTED: 0, Tier.STANDARD: 1, Tier.BEST_EFFORT: 2}
_TIER_RANK = {Tier.PROTECTED: 2.0, Tier.STANDARD: 1.0, Tier.BEST_EFFORT: 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What whoever runs the gate may choose."""

    policy: AdmissionPolicy = TIMELY
    budgets: float = BUDGETS
    max_waiting: int = 2000
    max_wait_seconds: float = LONGEST_WAIT_SECONDS
    enforced_permille: int = 1000
    enforced_classes: frozenset[str] = frozenset()
    """Classes that are gated; empty: all."""
    refuse_late: bool = False
    """Refuse at once what can no longer keep its promise, instead of letting it wait for idle capacity."""
    bytes_per_token: float = 4.0
    places: bool = False
    """Name the replica, whatever the fleet says."""
    ramp_seconds: float = RAMP_SECONDS


def may_hold(fleet: Fleet) -> bool:
    """Whether the fleet lets its gate hold: in Envoy's files it stays on the way when a fleet leaves Enforce."""
    return fleet.mode is Mode.ENFORCE and fleet.data_plane.gate is GateUse.ENABLED


def terms_of(
    fleet: Fleet,
    classes: Iterable[WorkloadClass],
    plan: Plan | None,
    addresses: Mapping[str, tuple[str, ...]],
    choices: Choices,
) -> GateTerms:
    """The gate's terms; ``plan`` is None where there is no fresh one; ``addresses`` by pool, ``ip:port``."""
    listed = tuple(classes)
    lanes = tuple(_lane(fleet, workload, plan.of(workload.name) if plan else None) for workload in listed)
    placed = choices.places or fleet.data_plane.gate_places
    engines = tuple(
        engine
        for pool in fleet.pools
        if not pool.external
        for engine in _engines(pool, addresses, choices, placed=placed)
    )
    planned = {entry.name: entry for entry in plan.classes} if plan else {}
    closed = frozenset(
        workload.name
        for workload in listed
        if workload.closable and workload.name in planned and planned[workload.name].in_flight_limit == 0
    )
    return GateTerms(
        classes=tuple(_class(workload, planned.get(workload.name), choices) for workload in listed),
        lanes=lanes,
        engines=engines,
        policy=_policy(fleet, lanes, choices),
        plan_id=plan.plan_id if plan else "",
        closed=closed,
        places=placed,
    )


def _lane(fleet: Fleet, workload: WorkloadClass, planned: ClassPlan | None) -> LaneTerms:
    """The plan's word about a class; the static order where it has none."""
    static = LaneTerms(
        name=workload.name,
        index=_static_index(workload),
        band=_TIER_BAND[workload.tier],
        rate=workload.prior_rate,
        arrival_rate=workload.prior_rate,
        promise_seconds=workload.ttft_promise_seconds or math.inf,
        mean_prompt_tokens=workload.prior_prompt_tokens,
        value=_value(workload),
        costs=_costs(fleet, workload),
        floor_rate=workload.guaranteed_share * workload.prior_rate,
        tier=_TIER_ORDER[workload.tier],
    )
    if planned is None:
        return static
    return replace(
        static,
        target=planned.prefill,
        queue_target=planned.prefill_queue,
        rate=planned.admitted_rate,
        arrival_rate=planned.arrival_rate,
        index=planned.index,
        band=planned.band,
        floor_rate=workload.guaranteed_share * planned.arrival_rate,
        tier=0,  # what the plan makes of tiers is in its rates and guarantees
    )


def _costs(fleet: Fleet, workload: WorkloadClass) -> Costs:
    """What a request of mean lengths takes of an engine of the first pool that the class may use."""
    usable = [pool for pool in fleet.pools if not pool.external and (not workload.pools or pool.name in workload.pools)]
    if not usable:
        return NO_COSTS
    return costs_of(usable[0], workload.prior_prompt_tokens, workload.prior_output_tokens)


def _value(workload: WorkloadClass) -> float:
    """Money per request of mean lengths."""
    return (
        workload.prompt_token_price * workload.prior_prompt_tokens
        + workload.output_token_price * workload.prior_output_tokens
    )


def _static_index(workload: WorkloadClass) -> float:
    """Tier first, then value per token, squeezed below the step between two tiers."""
    per_token = _value(workload) / max(1.0, workload.prior_prompt_tokens + workload.prior_output_tokens)
    return _TIER_RANK[workload.tier] + per_token / (1.0 + per_token) * 0.999


def _class(workload: WorkloadClass, planned: ClassPlan | None, choices: Choices) -> ClassTerms:
    patience, bounds = workload.patience_seconds or LONGEST_WAIT_SECONDS, workload.queue
    gated = not choices.enforced_classes or workload.name in choices.enforced_classes
    return ClassTerms(
        name=workload.name,
        promise_seconds=workload.ttft_promise_seconds or math.inf,
        pools=frozenset(workload.pools),
        mean_prompt_tokens=workload.prior_prompt_tokens,
        mean_output_tokens=workload.prior_output_tokens,
        bytes_per_token=choices.bytes_per_token,
        value=_value(workload),
        max_waiting=min(bounds.max_waiting or choices.max_waiting, choices.max_waiting),
        max_wait_seconds=min(bounds.max_wait_seconds or patience, choices.max_wait_seconds, LONGEST_WAIT_SECONDS),
        refuse_late=choices.refuse_late or bounds.late is WhenLate.REFUSE,
        fairness=KeySource.of(workload.fairness_key, workload.fairness_claim),
        affinity=KeySource.of(workload.affinity_key, workload.affinity_claim),
        split={share.pool: share.weight_permille / 1000.0 for share in planned.pools} if planned else {},
        closable=workload.closable,
        enforced_permille=choices.enforced_permille if gated else 0,
    )


def _engines(
    pool: Pool, addresses: Mapping[str, tuple[str, ...]], choices: Choices, *, placed: bool
) -> Iterable[EngineTerms]:
    """One account per replica; engines behind one address share it."""
    declared = tuple(str(endpoint) for endpoint in pool.endpoints)
    found = declared or addresses.get(pool.name, ())
    times = 1 if placed or len(found) <= 1 else UNPLACED_BUDGETS
    for address in found:
        yield EngineTerms(
            name=address,
            pool=pool.name,
            budget_tokens=times * choices.budgets * pool.batched_token_budget * pool.engines_per_replica,
            least_requests=times * LEAST_REQUESTS * pool.engines_per_replica,
            prefill_tokens_per_second=_prefill_rate(pool),
            kv_token_capacity=pool.kv_token_capacity,
            ramp_seconds=choices.ramp_seconds,
            slots=None if pool.decode_may_move else pool.slots * pool.engines_per_replica,
        )


def _prefill_rate(pool: Pool) -> float:
    """Prompt tokens per second of one replica at the full batch, in chunks of the planned size."""
    return pool.chunk_tokens / pool.mixed_seconds * pool.engines_per_replica


def _policy(fleet: Fleet, lanes: tuple[LaneTerms, ...], choices: Choices) -> AdmissionPolicy:
    """The chosen order; where something is promised, what can still keep its promise goes before what cannot."""
    promised = any(math.isfinite(lane.promise_seconds) for lane in lanes)
    rates = [_prefill_rate(pool) / pool.engines_per_replica for pool in fleet.pools if not pool.external]
    if not promised or not rates:
        return choices.policy
    # The fastest pool decides what is still possible: a promise is lost only when no engine could keep it.
    seconds = 1.0 / max(rates)
    if choices.policy.order is Order.TIMELY:
        return replace(choices.policy, prefill_seconds_per_token=seconds, margin_seconds=MARGIN_SECONDS)
    return keeping_promises(choices.policy, prefill_seconds_per_token=seconds, margin_seconds=MARGIN_SECONDS)
