"""From resources to the domain values that decisions are made of, with a finding for everything that does not fit.

A class that cannot be used is left out and named; the others go on. What makes the fleet
as a whole unplannable is *blocking*: then the last good plan stays.

What counts as a contradiction of prices and guarantees:

* some classes of a fleet have prices and others have none at all: money and tier values have no common unit, so the
  unpriced ones are left out;
* a class of a higher tier whose prompt and output prices are both at or below those of a class of a lower tier, one
  of them truly below: of two requests of one length the plan would serve that of the lower tier first. Blocking;
* a guaranteed share that needs more requests in flight than the class's own inFlightCeiling allows, on the fastest
  replica it may use. The class is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sluice.api.class_checks import about, gateway_findings, tier_contradictions, usable, without_shared_model_names
from sluice.api.domain import class_value, fleet_value
from sluice.api.inference_fleet import InferenceFleetResource, InferenceFleetSpec
from sluice.api.iteration_profile import IterationProfileResource
from sluice.api.workload_class import WorkloadClassResource
from sluice.model.fleet import Fleet, WorkloadClass
from sluice.model.reasons import ConditionType, Finding, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A fleet ready to be planned, or the reasons why it is not."""

    fleet: Fleet | None
    """None where a pool's profile is missing."""
    classes: tuple[WorkloadClass, ...]
    findings: tuple[Finding, ...]

    @property
    def is_blocked(self) -> bool:
        """Whether planning cannot go on."""
        return self.fleet is None or any(finding.blocking for finding in self.findings)


def resolve(
    fleet: InferenceFleetResource,
    profiles: Iterable[IterationProfileResource],
    classes: Iterable[WorkloadClassResource],
) -> Resolved:
    """Resolve one fleet with the profiles and classes of its namespace; classes of other fleets are passed over."""
    namespace = fleet.metadata.namespace
    laws = {profile.metadata.name: profile for profile in profiles if profile.metadata.namespace == namespace}
    own = sorted(
        (
            entry
            for entry in classes
            if entry.metadata.namespace == namespace and entry.spec.fleet_ref.name == fleet.metadata.name
        ),
        key=lambda entry: (entry.metadata.creation_timestamp, entry.metadata.name),
    )
    missing = _missing_profiles(fleet.spec, laws)
    resolved = None if missing else fleet_value(fleet, laws)
    kept, findings = usable(fleet, resolved, own)
    built = [class_value(entry, fleet) for entry in kept]
    built, shared = without_shared_model_names(built)
    findings += [*shared, *gateway_findings(fleet, built), *tier_contradictions(kept, fleet)]
    if not built:
        findings.append(_empty(own))
    return Resolved(
        fleet=resolved,
        classes=tuple(sorted(built, key=lambda entry: entry.name)),
        findings=(*missing, *findings),
    )


def orphans(fleets: Iterable[InferenceFleetResource], classes: Iterable[WorkloadClassResource]) -> tuple[Finding, ...]:
    """A finding for every class whose fleet does not exist in its namespace."""
    known = {(fleet.metadata.namespace, fleet.metadata.name) for fleet in fleets}
    return tuple(
        about(
            entry,
            ConditionType.RESOLVED_REFS,
            Reason.FLEET_NOT_FOUND,
            f"spec.fleetRef.name: no InferenceFleet {entry.spec.fleet_ref.name} in {entry.metadata.namespace}",
        )
        for entry in classes
        if (entry.metadata.namespace, entry.spec.fleet_ref.name) not in known
    )


def _empty(own: Sequence[WorkloadClassResource]) -> Finding:
    message = "no WorkloadClass refers to this fleet"
    if own:
        message = f"none of the {len(own)} classes that refer to this fleet can be used"
    return Finding(condition=ConditionType.SOLVED, reason=Reason.EMPTY_FLEET, message=message, blocking=True)


def _missing_profiles(spec: InferenceFleetSpec, laws: Mapping[str, IterationProfileResource]) -> list[Finding]:
    return [
        Finding(
            condition=ConditionType.RESOLVED_REFS,
            reason=Reason.PROFILE_NOT_FOUND,
            message=f"spec.pools[{index}].profileRef.name: pool {pool.name} needs IterationProfile "
            f"{pool.profile_ref.name}, which does not exist in the namespace",
            blocking=True,
        )
        for index, pool in enumerate(spec.pools)
        if pool.profile_ref is not None and pool.profile_ref.name not in laws
    ]
