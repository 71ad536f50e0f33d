"""The three custom resources of the group, and what the API server must know of each kind."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel

from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.iteration_profile import IterationProfileResource
from sluice.api.workload_class import WorkloadClassResource
from sluice.model.naming import GROUP, VERSION

API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "sluice"
NAME_MAX_LENGTH: Final = 63
"""Names become label values, header values and cluster names."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of ``kubectl get``."""

    name: str
    path: str
    type: str = "string"
    description: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of the group."""

    resource: type[BaseModel]
    plural: str
    short_name: str
    columns: tuple[Column, ...]

    @property
    def name(self) -> str:
        """The kind, as in manifests."""
        return str(self.resource.model_fields["kind"].default)

    @property
    def singular(self) -> str:
        """The singular that kubectl accepts."""
        return self.name.lower()


def _condition(type_: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{field}'


_READY = Column("Ready", _condition("Ready", "status"), description="Whether everything that applies is in order.")
_REASON = Column("Reason", _condition("Ready", "reason"), description="Why it is ready or not.")
_MESSAGE = Column("Message", _condition("Ready", "message"), description="The same in words.", wide=True)
_AGE = Column("Age", ".metadata.creationTimestamp", "date", "Time since creation.")

PROFILE: Final = Kind(
    resource=IterationProfileResource,
    plural="iterationprofiles",
    short_name="iprof",
    columns=(
        Column("Model", ".spec.model", description="Model that was measured."),
        Column("Accelerator", ".spec.accelerator", description="Accelerator that was measured."),
        Column("Ready", _condition("Ready", "status"), description="Whether the profile can be used."),
        Column("Solo ns", ".spec.soloNanoseconds", "integer", "Decode-only iteration.", wide=True),
        Column("Per token ns", ".spec.perTokenNanoseconds", "integer", "Growth per prompt token.", wide=True),
        Column("Per sequence ns", ".spec.perSequenceNanoseconds", "integer", "Growth per sequence.", wide=True),
        _AGE,
    ),
)
FLEET: Final = Kind(
    resource=InferenceFleetResource,
    plural="inferencefleets",
    short_name="fleet",
    columns=(
        _READY,
        _REASON,
        Column("Mode", ".spec.mode", description="How far the operator may go."),
        Column("Classes", ".status.classes", "integer", "Workload classes in the plan."),
        Column("Replicas", ".status.replicas", "integer", "Ready replicas over all pools."),
        Column("Value/s", ".status.value", description="The plan's value per second."),
        Column("Promises", ".status.promises", description="Promises that the plan keeps of those made.", wide=True),
        Column("Data plane", ".spec.dataPlane.kind", description="Where the plan is written.", wide=True),
        Column("Effective", _condition("Effective", "status"), description="Whether it is obeyed.", wide=True),
        Column("Plan", ".status.plan.planId", description="Plan in force.", wide=True),
        _MESSAGE,
        _AGE,
    ),
)
CLASS: Final = Kind(
    resource=WorkloadClassResource,
    plural="workloadclasses",
    short_name="wc",
    columns=(
        Column("Fleet", ".spec.fleetRef.name", description="The class's fleet."),
        _READY,
        _REASON,
        Column("Band", ".status.plan.band", description="Full, Rationed or IdleOnly."),
        Column("Offered/s", ".status.offered", description="Offered requests per second."),
        Column("Admitted/s", ".status.admitted", description="Planned requests per second."),
        Column("Limit", ".status.limit", description="The limit written; empty: none."),
        Column("SLIs", ".status.slis", description="Indicators held of those measured."),
        Column("Standing", ".status.plan.standing", description="Distance to the cut-off in words.", wide=True),
        Column("Tier", ".spec.tier", description="The class's tier.", wide=True),
        Column("Plan", ".status.planId", description="Plan in force.", wide=True),
        _MESSAGE,
        _AGE,
    ),
)
KINDS: Final = MappingProxyType({kind.name: kind for kind in (PROFILE, FLEET, CLASS)})

__all__ = [
    "API_VERSION",
    "CATEGORY",
    "CLASS",
    "FLEET",
    "KINDS",
    "NAME_MAX_LENGTH",
    "PROFILE",
    "Column",
    "InferenceFleetResource",
    "IterationProfileResource",
    "Kind",
    "WorkloadClassResource",
]
