"""What the loop knows of the outside: each port with at least two adapters.

The *world* is what users declared and what the cluster says about pods; the *observer*
measures; actuators (``sluice.actuate.port``) write; the *sink* shows status; the
*recorder* tells events. None of them is reached in any other way.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol

from pydantic import BaseModel

from sluice.api.resources import InferenceFleetResource, IterationProfileResource, WorkloadClassResource
from sluice.control.events import Event
from sluice.model.fleet import Fleet, WorkloadClass
from sluice.model.plan import Plan
from sluice.model.snapshot import Observation
from sluice.observe.proxies import Proxies

FleetKey = tuple[str, str]
"""(namespace, name) of a fleet that exists or that a class refers to."""

Resource = InferenceFleetResource | WorkloadClassResource | IterationProfileResource


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """One object by kind, namespace and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An object that cannot be read: what is wrong with it, in words that name the field."""

    ref: Ref
    problems: tuple[str, ...]
    uid: str = ""
    generation: int = 0
    origin: str = ""
    """File and document, where the world is a directory."""
    status: Mapping[str, Any] = field(default_factory=dict)
    """The status it bears now."""


@dataclass(frozen=True, kw_only=True)
class WorldView:
    """Everything the world holds at one moment. Immutable by agreement."""

    fleets: tuple[InferenceFleetResource, ...] = ()
    classes: tuple[WorkloadClassResource, ...] = ()
    profiles: tuple[IterationProfileResource, ...] = ()
    objects: tuple[Mapping[str, Any], ...] = ()
    """Pods, EndpointSlices, Deployments, Gateways, routes as documents."""
    refusals: tuple[Refusal, ...] = ()
    unwatched: frozenset[str] = frozenset()
    """Kinds that are not served, or that the service account may not read."""
    complete: bool = False
    """Whether ``objects`` holds every object there is (a watch), or what somebody wrote down (files)."""

    @cached_property
    def fleet_keys(self) -> frozenset[FleetKey]:
        """Fleets that exist, and those that classes refer to: both deserve a pass."""
        declared = {(fleet.metadata.namespace, fleet.metadata.name) for fleet in self.fleets}
        wanted = {(entry.metadata.namespace, entry.spec.fleet_ref.name) for entry in self.classes}
        return frozenset(declared | wanted)

    def fleet(self, key: FleetKey) -> InferenceFleetResource | None:
        """The fleet's resource, or None."""
        return next((f for f in self.fleets if (f.metadata.namespace, f.metadata.name) == key), None)

    def classes_of(self, key: FleetKey) -> tuple[WorkloadClassResource, ...]:
        """The classes that refer to the fleet, by name."""
        namespace, name = key
        mine = (e for e in self.classes if e.metadata.namespace == namespace and e.spec.fleet_ref.name == name)
        return tuple(sorted(mine, key=lambda entry: entry.metadata.name))

    def profiles_of(self, namespace: str) -> tuple[IterationProfileResource, ...]:
        """The profiles of a namespace."""
        return tuple(profile for profile in self.profiles if profile.metadata.namespace == namespace)


class World(Protocol):
    """Declared resources and cluster objects; level-based."""

    def view(self) -> WorldView:
        """The world now; cheap, never blocks."""
        ...

    async def changed(self) -> frozenset[str]:
        """Wait until something that deserves a pass changed; the namespaces it is in."""
        ...


class Observer(Protocol):
    """Measures. Own threads, own time-outs; a failure is in ``Observation.problems``, never raised."""

    async def observe(
        self, fleet: Fleet, classes: Sequence[WorkloadClass], now: float, around: Proxies | None = None
    ) -> Observation:
        """The samples of one fleet at ``now``; ``around`` is what the world tells of its proxies."""
        ...

    async def close(self) -> None:
        """End threads and connections."""
        ...


class Secrets(Protocol):
    """Reads single Secrets by name, with no right to list them."""

    async def read(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The decoded values, or None where the Secret does not exist or may not be read."""
        ...


Status = BaseModel | Mapping[str, Any]
"""A status before it goes over the wire, or as it does."""


def document(status: Status) -> dict[str, Any]:
    """A status as it goes over the wire: absent instead of null."""
    if isinstance(status, BaseModel):
        return status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dict(status)


class StatusSink(Protocol):
    """Where status is shown."""

    async def write_all(self, statuses: Mapping[Ref, Status]) -> Mapping[Ref, str]:
        """Replace the status of each object; those that could not be written, and why. The next pass tries again."""
        ...

    def lacks(self, ref: Ref) -> bool:
        """Whether what was written last has got lost, so that it must be written again."""
        ...

    async def keep_plan(self, key: FleetKey, plan: Plan, confirmed_at: float | None) -> None:
        """Put the plan where people look for it, where status is not such a place. Never raises.

        Now and then also one that stays, if it is confirmed (``actuate.confirming``); epoch seconds.
        """
        ...

    def kept_plan(self, key: FleetKey) -> Plan | None:
        """The plan that an operator before us kept; None where status is all there is."""
        ...


class Recorder(Protocol):
    """Where events are told."""

    async def publish(self, events: tuple[Event, ...]) -> None:
        """Tell each event, once. Never raises: an event that cannot be told is logged."""
        ...


class Clock(Protocol):
    """Time, injected."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


def rfc3339(now: float) -> str:
    """Epoch seconds as RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def epoch_seconds(text: str) -> float:
    """RFC 3339 as epoch seconds."""
    return datetime.fromisoformat(text).timestamp()
