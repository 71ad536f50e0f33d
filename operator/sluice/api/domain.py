"""The plain half of resolving: fields of resources to fields of domain values, units included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sluice.api.indicators import PERMILLE, Indicator
from sluice.api.inference_fleet import InferenceFleetResource, InferenceFleetSpec
from sluice.api.iteration_profile import NANOSECONDS, IterationProfileResource
from sluice.api.pools import ExternalSpec, PoolSpec
from sluice.api.prices import TIER_TOKEN_VALUES, per_token
from sluice.api.queueing import RequestQueue
from sluice.api.workload_class import MatchSpec, WorkloadClassResource
from sluice.model.fleet import (
    BackendRef,
    ControlSettings,
    DataPlane,
    Endpoint,
    ExternalPrices,
    Fleet,
    GateUse,
    HeaderMatch,
    LimitKind,
    MetricsSettings,
    Pool,
    RouteRef,
    Sli,
    TrafficMatch,
    WorkloadClass,
    usual_limit,
)
from sluice.model.gate import NO_BOUNDS, QueueBounds
from sluice.model.law import IterationLaw

MILLI: Final = 1000.0
MICRO: Final = 1_000_000.0
NO_LAW: Final = IterationLaw(solo_seconds=1.0, mixed_base_seconds=1.0, per_token_seconds=0.0)
"""In place of a law where there are no iterations of ours to time."""


def fleet_value(fleet: InferenceFleetResource, laws: Mapping[str, IterationProfileResource]) -> Fleet:
    """The fleet; ``laws`` holds every profile that its pools name."""
    spec, metadata = fleet.spec, fleet.metadata
    gateway = spec.gateway_ref
    return Fleet(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        generation=metadata.generation,
        mode=spec.mode,
        charging=spec.pricing.charging,
        pools=tuple(_pool(pool, laws) for pool in spec.pools),
        gateway=(gateway.namespace or metadata.namespace, gateway.name) if gateway else None,
        data_plane=DataPlane(
            kind=spec.data_plane.kind,
            # An enabled gate admits by itself: limits beside it would refuse what it would let wait.
            limit=LimitKind.NONE
            if spec.data_plane.gate == "Enabled"
            else spec.data_plane.limit or usual_limit(spec.data_plane.kind),
            admin_address=spec.data_plane.admin_address,
            listener_port=spec.data_plane.listener_port,
            gate=GateUse(spec.data_plane.gate),
            gate_address=spec.data_plane.gate_address,
            gate_places=spec.data_plane.placement == "Gate",
            objective_group=spec.data_plane.objective_group,
        ),
        metrics=_metrics(spec),
        control=_control(spec),
        objectives=tuple(_sli(indicator) for indicator in spec.objectives),
        sacrifice_order=spec.planning.sacrifice_order,
        charge_replicas=spec.planning.charge_replicas,
        caution=spec.planning.caution_permille / PERMILLE,
    )


def _pool(pool: PoolSpec, laws: Mapping[str, IterationProfileResource]) -> Pool:
    """The pool; what an external API lacks stands as one slot of one token, which nothing plans with."""
    backend = pool.backend_ref
    profile = laws[pool.profile_ref.name] if pool.profile_ref is not None else None
    slots, chunk = pool.slots or 1, pool.chunk_tokens or 1
    return Pool(
        name=pool.name,
        law=profile.spec.law() if profile is not None else NO_LAW,
        slots=slots,
        chunk_tokens=chunk,
        batched_token_budget=pool.batched_token_budget or chunk + slots,
        engines_per_replica=pool.engines_per_replica,
        decode_may_move=pool.decode_placement == "AnyReplica",
        cost_per_hour=None if pool.cost_per_hour is None else float(pool.cost_per_hour),
        kv_token_capacity=pool.kv_token_capacity,
        points=profile.spec.table() if profile is not None else (),
        transfer_seconds_per_token=(pool.kv_transfer_nanoseconds_per_token or 0) / NANOSECONDS,
        transfer_cost_per_token=per_token(pool.kv_transfer_cost_per_million_tokens or "0"),
        external=_external(pool.external) if pool.external is not None else None,
        backend=BackendRef(
            group=backend.group,
            kind=backend.kind,
            name=backend.name,
            namespace=backend.namespace,
            port=backend.port,
        )
        if backend
        else None,
        endpoints=tuple(Endpoint(address=entry.address, port=entry.port) for entry in pool.endpoints or ()),
        pod_selector=tuple(sorted(pool.pod_selector.match_labels.items())) if pool.pod_selector else (),
        profile=profile.metadata.name if profile is not None else "",
        use_observed_law=pool.observed_law == "Use",
    )


def _external(spec: ExternalSpec) -> ExternalPrices:
    token = spec.token_microseconds
    return ExternalPrices(
        prompt_token_cost=per_token(spec.prompt_per_million_tokens),
        output_token_cost=per_token(spec.output_per_million_tokens),
        first_token_seconds=spec.first_token_milliseconds / MILLI,
        token_seconds=None if token is None else token / MICRO,
    )


def _metrics(spec: InferenceFleetSpec) -> MetricsSettings:
    metrics = spec.metrics
    return MetricsSettings(
        prometheus_url=metrics.prometheus_url,
        credentials_secret=metrics.credentials_secret_ref.name if metrics.credentials_secret_ref else None,
        window_seconds=float(metrics.window_seconds),
        maximum_age_seconds=float(metrics.maximum_age_seconds),
        timeout_seconds=float(metrics.timeout_seconds),
        sources=tuple((entry.signal, tuple(entry.order)) for entry in metrics.sources),
    )


def _control(spec: InferenceFleetSpec) -> ControlSettings:
    control = spec.control
    return ControlSettings(
        solve_period_seconds=float(control.solve_period_seconds),
        dwell_seconds=float(control.dwell_seconds),
        fence_dwell_seconds=float(control.fence_dwell_seconds),
        dead_band=control.dead_band_permille / PERMILLE,
        largest_step=control.largest_step_permille / PERMILLE,
        blind_after_seconds=float(control.blind_after_seconds),
        safe_plan=control.safe_plan,
    )


def _sli(indicator: Indicator) -> Sli:
    difference = indicator.difference_permille
    share = indicator.fraction_permille if difference is None else difference
    return Sli(
        signal=indicator.signal,
        statistic=indicator.statistic,
        target_seconds=None if indicator.target_milliseconds is None else indicator.target_milliseconds / MILLI,
        fraction=None if share is None else share / PERMILLE,
        hardness=indicator.hardness,
        penalty=float(indicator.penalty or 0),
    )


def class_value(entry: WorkloadClassResource, fleet: InferenceFleetResource) -> WorkloadClass:
    """The class as the planner sees it; pools that the fleet lacks are dropped."""
    spec, metadata = entry.spec, entry.metadata
    prompt_price, output_price = prices(entry, fleet.spec) or (TIER_TOKEN_VALUES[spec.tier],) * 2
    known = {pool.name for pool in fleet.spec.pools}
    timeout = spec.timeouts.request_milliseconds if spec.timeouts else None
    return WorkloadClass(
        name=metadata.name,
        uid=metadata.uid,
        generation=metadata.generation,
        tier=spec.tier,
        guaranteed_share=spec.guaranteed_share_permille / PERMILLE,
        prompt_token_price=prompt_price,
        output_token_price=output_price,
        prior_rate=spec.priors.milli_requests_per_second / MILLI,
        prior_prompt_tokens=float(spec.priors.prompt_tokens),
        prior_output_tokens=float(spec.priors.output_tokens),
        patience_seconds=None if spec.patience_milliseconds is None else spec.patience_milliseconds / MILLI,
        deadline_seconds=None if spec.deadline_seconds is None else float(spec.deadline_seconds),
        closable=spec.closable,
        in_flight_ceiling=spec.in_flight_ceiling,
        tokens_per_step=spec.tokens_per_step_permille / PERMILLE,
        pools=tuple(pool for pool in spec.pools if pool in known),
        rate_spread=spec.rate_spread_permille / PERMILLE,
        slis=tuple(_sli(indicator) for indicator in spec.slis),
        match=_match(spec.match) if spec.match else None,
        route=RouteRef(name=spec.route_ref.name, rule_name=spec.route_ref.rule_name) if spec.route_ref else None,
        served_model_name=spec.served_model_name,
        fairness_id=spec.fairness_id or f"{metadata.namespace}.{metadata.name}",
        queue=_queue(spec.queue) if spec.queue else NO_BOUNDS,
        fairness_key=spec.fairness_key.header if spec.fairness_key else None,
        fairness_claim=spec.fairness_key.claim if spec.fairness_key else None,
        affinity_key=spec.affinity_key.header if spec.affinity_key else None,
        affinity_claim=spec.affinity_key.claim if spec.affinity_key else None,
        request_timeout_seconds=None if timeout is None else timeout / MILLI,
    )


def _queue(spec: RequestQueue) -> QueueBounds:
    wait = spec.max_wait_milliseconds
    return QueueBounds(
        max_waiting=spec.max_waiting,
        max_wait_seconds=None if wait is None else wait / MILLI,
        late=spec.late,
    )


def _match(spec: MatchSpec) -> TrafficMatch:
    return TrafficMatch(
        headers=tuple(HeaderMatch(name=header.name, value=header.value) for header in spec.headers),
        path_prefix=spec.path_prefix,
    )


def prices(entry: WorkloadClassResource, fleet: InferenceFleetSpec) -> tuple[float, float] | None:
    """Money per prompt and per output token: the class's own, else the fleet's default, else None."""
    own = entry.spec.prices or fleet.pricing
    if own.prompt_per_million_tokens is None or own.output_per_million_tokens is None:
        return None
    return per_token(own.prompt_per_million_tokens), per_token(own.output_per_million_tokens)
