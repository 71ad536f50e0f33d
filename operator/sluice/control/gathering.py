"""The first step of a pass: from the world and the measurements to a snapshot. Pure.

Three parts, because two of them need what only others can tell: ``declare`` resolves the
resources, ``look_around`` counts replicas and proxies (what was written before tells which
rate limits are in force), and ``gather`` adds what was measured. With hundreds of classes
each takes long enough to be kept off the event loop.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.resolve import Resolved, resolve
from sluice.api.supply import count
from sluice.api.workload_class import WorkloadClassResource
from sluice.control import ports, surroundings
from sluice.control.observing import Measured
from sluice.control.ports import FleetKey, Refusal, WorldView
from sluice.learning.pools import LawMemory, recalibrate_fleet
from sluice.model.decision import Targets
from sluice.model.fleet import Fleet
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.snapshot import PoolSupply, Snapshot
from sluice.observe.proxies import Proxies

Declaration = tuple[tuple[object, object, object], ...]
"""Type, metadata and spec of a fleet, its profiles and its classes: all that resolving depends on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One fleet as the world declares it at one moment."""

    key: FleetKey
    view: WorldView
    resource: InferenceFleetResource
    classes: tuple[WorkloadClassResource, ...]
    resolved: Resolved
    declaration: Declaration = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with the declarations."""
        return (*self.resolved.findings, *_refused(self.view, self.key, self.classes))

    def is_current(self, view: WorldView) -> bool:
        """Whether ``view`` still declares the same: what was thought about it may be carried out."""
        if view is self.view:
            return True
        now = view.fleet(self.key)
        if now is None or now.spec != self.resource.spec:
            return False
        fresh = {(entry.metadata.name, entry.metadata.uid): entry.spec for entry in view.classes_of(self.key)}
        return fresh == {(entry.metadata.name, entry.metadata.uid): entry.spec for entry in self.classes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A fleet that could be resolved, and what stands around it."""

    declared: Declared
    fleet: Fleet
    supplies: tuple[PoolSupply, ...]
    around: Proxies
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The step's result."""

    declared: Declared
    fleet: Fleet
    """With the laws to plan with, which may be the observed ones."""
    supplies: tuple[PoolSupply, ...]
    measured: Measured
    snapshot: Snapshot


def declare(
    view: WorldView, key: FleetKey, resource: InferenceFleetResource, before: Declared | None = None
) -> Declared:
    """Resolve what ``view`` declares of the fleet; the same as was declared ``before`` is not resolved again."""
    classes, profiles = view.classes_of(key), view.profiles_of(key[0])
    everything: tuple[ports.Resource, ...] = (resource, *profiles, *classes)
    declaration = tuple((type(entry), entry.metadata, entry.spec) for entry in everything)
    if before is not None and before.key == key and before.declaration == declaration:
        return replace(before, view=view, resource=resource, classes=classes)
    resolved = resolve(resource, profiles, classes)
    return Declared(key=key, view=view, resource=resource, classes=classes, resolved=resolved, declaration=declaration)


def look_around(declared: Declared, fleet: Fleet, in_force: Targets | None) -> Site:
    """Count replicas and proxies of ``fleet``, the resolved one; ``in_force`` is what they hold by our orders."""
    view, workloads = declared.view, declared.resolved.classes
    complete = view.complete and "Pod" not in view.unwatched
    supplies, uncounted = count(fleet, view.objects, complete=complete)
    around = surroundings.proxies(view, fleet, workloads, in_force)
    return Site(
        declared=declared,
        fleet=fleet,
        supplies=supplies,
        around=replace(
            around,
            replicas=tuple(address for supply in supplies for address in supply.addresses),
            pool_of=_pool_of(supplies),
        ),
        findings=(
            *declared.findings,
            *uncounted,
            *surroundings.findings(view, fleet, workloads),
        ),
    )


def _pool_of(supplies: tuple[PoolSupply, ...]) -> dict[str, str]:
    """Address to pool, without addresses that several pools claim."""
    claims = Counter(address for supply in supplies for address in supply.addresses)
    return {address: supply.pool for supply in supplies for address in supply.addresses if claims[address] == 1}


def gather(
    site: Site, measured: Measured, laws: LawMemory, proxies_before: int, now: float
) -> tuple[Gathered, LawMemory]:
    """The snapshot at ``now`` (seconds since the epoch), and the laws as observed so far.

    ``proxies_before`` divides the limits where nobody can count the ready proxies.
    """
    fleet, drifted, laws = recalibrate_fleet(site.fleet, site.supplies, measured.observation.engines, laws, now)
    counted = site.around.ready  # an observation that is late was asked for when there were others
    if counted is None:
        counted = measured.observation.proxies_ready
    uncounted = surroundings.uncounted_proxies(fleet, proxies_before) if not counted else ()
    snapshot = Snapshot(
        now=now,
        fleet=fleet,
        classes=site.declared.resolved.classes,
        supplies=site.supplies,
        observation=replace(measured.observation, proxies_ready=counted or proxies_before),
        findings=(*site.findings, *measured.findings, *drifted, *uncounted),
    )
    gathered = Gathered(
        declared=site.declared, fleet=fleet, supplies=site.supplies, measured=measured, snapshot=snapshot
    )
    return gathered, laws


def _refused(view: WorldView, key: FleetKey, classes: tuple[WorkloadClassResource, ...]) -> tuple[Finding, ...]:
    """Edits of this fleet's objects that were refused: the last good version stays in force."""
    names = {entry.metadata.name for entry in classes}
    return tuple(
        _refusal(entry)
        for entry in view.refusals
        if entry.ref.namespace == key[0]
        and (
            (entry.ref.kind == "InferenceFleet" and entry.ref.name == key[1])
            or (entry.ref.kind == "WorkloadClass" and entry.ref.name in names)
        )
    )


def _refusal(entry: Refusal) -> Finding:
    return Finding(
        condition=ConditionType.ACCEPTED,
        reason=Reason.INVALID,
        message="; ".join(entry.problems),
        subject=f"{entry.ref.kind}/{entry.ref.name}",
    )
