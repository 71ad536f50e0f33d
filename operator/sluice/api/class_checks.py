"""What can be wrong with the classes of a fleet, each check a small function that returns findings."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sluice.api.domain import MILLI, prices
from sluice.api.indicators import PERMILLE
from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.overlap import Claims
from sluice.api.workload_class import WorkloadClassResource
from sluice.model.fleet import DataPlaneKind, Fleet, Tier, WorkloadClass
from sluice.model.reasons import ConditionType, Finding, Reason

_TIER_ORDER: Final = (Tier.PROTECTED, Tier.STANDARD, Tier.BEST_EFFORT)


def about(entry: WorkloadClassResource, condition: ConditionType, reason: Reason, message: str) -> Finding:
    """A finding whose subject is the class."""
    return Finding(condition=condition, reason=reason, message=message, subject=f"WorkloadClass/{entry.metadata.name}")


def usable(
    fleet: InferenceFleetResource, resolved: Fleet | None, own: Sequence[WorkloadClassResource]
) -> tuple[list[WorkloadClassResource], list[Finding]]:
    """The classes that can be planned, oldest first, and why the others cannot."""
    kept: list[WorkloadClassResource] = []
    findings: list[Finding] = []
    claims = Claims()
    priced = [entry.metadata.name for entry in own if prices(entry, fleet.spec) is not None]
    for entry in own:
        said = [
            *_pool_findings(entry, fleet),
            *_overlap_findings(entry, claims),
            *_unpriced_findings(entry, fleet, priced),
            *_guarantee_findings(entry, resolved),
        ]
        findings += said
        if not any(_excludes(finding) for finding in said) and _has_a_pool(entry, fleet):
            kept.append(entry)
            claims.add(entry)
    return kept, findings


def _excludes(finding: Finding) -> bool:
    """Whether the finding takes its class out of the plan; a class goes on with those of its pools that exist."""
    return finding.reason is not Reason.POOL_NOT_FOUND


def _has_a_pool(entry: WorkloadClassResource, fleet: InferenceFleetResource) -> bool:
    return not entry.spec.pools or bool({pool.name for pool in fleet.spec.pools}.intersection(entry.spec.pools))


def _pool_findings(entry: WorkloadClassResource, fleet: InferenceFleetResource) -> list[Finding]:
    known = [pool.name for pool in fleet.spec.pools]
    return [
        about(
            entry,
            ConditionType.RESOLVED_REFS,
            Reason.POOL_NOT_FOUND,
            f"spec.pools[{index}]: fleet {fleet.metadata.name} has no pool {pool}; it has {', '.join(known)}",
        )
        for index, pool in enumerate(entry.spec.pools)
        if pool not in known
    ]


def _overlap_findings(entry: WorkloadClassResource, older: Claims) -> list[Finding]:
    return [
        about(
            entry,
            ConditionType.ACCEPTED,
            Reason.OVERLAPPING_MATCH,
            f"matches requests that class {other.metadata.name} matches too ({shared}); the older class keeps them",
        )
        for other, shared in older.rivals(entry)
    ]


def _unpriced_findings(
    entry: WorkloadClassResource, fleet: InferenceFleetResource, priced: Sequence[str]
) -> list[Finding]:
    if not priced or prices(entry, fleet.spec) is not None:
        return []
    return [
        about(
            entry,
            ConditionType.ACCEPTED,
            Reason.CONTRADICTORY_PRICES,
            f"spec.prices: class {priced[0]} has prices and this one has none, so their value cannot be compared; give "
            "it prices, or default prices in the fleet's spec.pricing, or prices to no class",
        )
    ]


def _guarantee_findings(entry: WorkloadClassResource, fleet: Fleet | None) -> list[Finding]:
    """A guarantee that the class's own ceiling forbids, by Little's law on the fastest replica it may use."""
    spec = entry.spec
    ceiling = spec.in_flight_ceiling
    pools = [pool for pool in fleet.pools if not spec.pools or pool.name in spec.pools] if fleet else []
    bounded = pools and not any(pool.external for pool in pools)
    if ceiling is None or not spec.guaranteed_share_permille or not bounded:
        return []
    steps = spec.priors.output_tokens * PERMILLE / spec.tokens_per_step_permille
    seconds = min(
        spec.priors.prompt_tokens / pool.chunk_tokens * pool.law.mixed(pool.chunk_tokens, 1) + steps * pool.law.solo(1)
        for pool in pools
    )
    rate = spec.priors.milli_requests_per_second / MILLI * spec.guaranteed_share_permille / PERMILLE
    if rate * seconds <= ceiling:
        return []
    return [
        about(
            entry,
            ConditionType.ACCEPTED,
            Reason.CONTRADICTORY_PRICES,
            f"spec.guaranteedSharePermille: {rate:.3g} requests per second stay in flight for at least {seconds:.3g} s "
            f"each, which needs more than spec.inFlightCeiling {ceiling}",
        )
    ]


def tier_contradictions(kept: Sequence[WorkloadClassResource], fleet: InferenceFleetResource) -> list[Finding]:
    """Pairs whose tiers say one order and whose prices, for requests of one length, say the other."""
    ranked = [
        (_TIER_ORDER.index(entry.spec.tier), price, entry)
        for entry in kept
        if (price := prices(entry, fleet.spec)) is not None
    ]
    if len({rank for rank, _, _ in ranked}) < 2:
        return []  # the usual case, which thousands of pairs need not prove
    return [
        _contradiction(higher, lower)
        for (rank, above, higher), (lower_rank, below, lower) in itertools.permutations(ranked, 2)
        if rank < lower_rank and above != below and above[0] <= below[0] and above[1] <= below[1]
    ]


def _contradiction(higher: WorkloadClassResource, lower: WorkloadClassResource) -> Finding:
    message = (
        f"tier {higher.spec.tier} of class {higher.metadata.name} is above tier {lower.spec.tier} of class "
        f"{lower.metadata.name}, but its prices are below: raise its prices or change a tier"
    )
    finding = about(higher, ConditionType.ACCEPTED, Reason.CONTRADICTORY_PRICES, message)
    return replace(finding, blocking=True)


def without_shared_model_names(classes: Sequence[WorkloadClass]) -> tuple[list[WorkloadClass], list[Finding]]:
    """A served model name that two classes claim tells neither of them apart in the engines' metrics."""
    claimed = Counter(entry.served_model_name for entry in classes if entry.served_model_name)
    shared = {name for name, count in claimed.items() if count > 1}
    findings = [
        Finding(
            condition=ConditionType.METRICS_AVAILABLE,
            reason=Reason.PARTLY_PRIOR,
            message=f"spec.servedModelName: {entry.served_model_name} is claimed by several classes, so the engines' "
            "metrics tell none of them apart; they are not used for it",
            subject=f"WorkloadClass/{entry.name}",
        )
        for entry in classes
        if entry.served_model_name in shared
    ]
    kept = [replace(entry, served_model_name=None) if entry.served_model_name in shared else entry for entry in classes]
    return kept, findings


def gateway_findings(fleet: InferenceFleetResource, classes: Sequence[WorkloadClass]) -> list[Finding]:
    """A class whose route we make needs a Gateway to attach it to."""
    spec = fleet.spec
    if spec.data_plane.kind is not DataPlaneKind.ENVOY_GATEWAY or spec.gateway_ref:
        return []
    return [
        Finding(
            condition=ConditionType.RESOLVED_REFS,
            reason=Reason.GATEWAY_NOT_FOUND,
            message="the class has a match, so a route is made for it, but the fleet names no Gateway: set the fleet's "
            "spec.gatewayRef, or use spec.routeRef",
            subject=f"WorkloadClass/{entry.name}",
        )
        for entry in classes
        if entry.match is not None
    ]
