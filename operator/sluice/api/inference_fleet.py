"""InferenceFleet (``fleet``): pools of replicas, how they are measured, and how far the operator may go."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sluice.api.base import Declared, Reported, Resource, Rule, list_map
from sluice.api.conditions import Condition
from sluice.api.fleet_settings import ControlSpec, DataPlaneSpec, GatewayReference, MetricsSpec, PlanningSpec
from sluice.api.indicators import AttainmentStatus, Indicator
from sluice.api.pools import POOLS_LIMIT, PoolSpec
from sluice.api.prices import Pricing
from sluice.model.fleet import Mode
from sluice.model.plan import CertificatePlan, ConflictPlan, Plan, PoolPlan, PromisePlan, ShadowPrice, Verdict

OBJECTIVES_LIMIT = 16
PROMISES_TOLD = 64
"""Promises in the fleet's status; every class's status has its own besides."""


class InferenceFleetSpec(Declared):
    """Pools, prices, measurement and caution of one fleet."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.dataPlane.kind != 'EnvoyGateway' || self.pools.all(pool, has(pool.backendRef))",
            "every pool needs a backendRef with dataPlane.kind EnvoyGateway: routes send traffic to it",
        ),
        Rule(
            "self.dataPlane.kind != 'EnvoyFiles' || self.pools.all(pool, !has(pool.external) || has(pool.endpoints))",
            "an external pool needs endpoints with dataPlane.kind EnvoyFiles: its share must go somewhere",
        ),
        Rule(
            "self.dataPlane.gate == 'Disabled' || self.pools.all(pool, !has(pool.external))",
            "the gate admits prefills at engines of our own: an external pool needs gate Disabled",
        ),
        Rule(
            "self.dataPlane.placement == 'Proxy' || self.pools.all(pool, !has(pool.backendRef) || "
            "pool.backendRef.kind != 'InferencePool')",
            "behind an InferencePool the endpoint picker chooses the replica: use placement Proxy",
        ),
        Rule(
            "!has(self.dataPlane.objectiveGroup) || self.pools.exists_one(pool, has(pool.backendRef) && "
            "pool.backendRef.kind == 'InferencePool')",
            "InferenceObjectives belong to one InferencePool: exactly one pool needs such a backendRef",
        ),
        Rule(
            "!has(self.objectives) || self.objectives.all(sli, !(sli.signal in ['TTFT', 'QueueWait']))",
            "TTFT and QueueWait are promised to a class: they belong to its slis",
        ),
    )

    mode: Mode = Field(
        default=Mode.OBSERVE,
        description="Observe: measure and plan, change nothing. Advise: also say what would be written. Enforce: write "
        "weights and limits. Leaving Enforce removes limits and keeps routes and the last weights.",
    )
    gateway_ref: GatewayReference | None = Field(
        default=None, description="Gateway that routes of classes with match attach to (EnvoyGateway)."
    )
    data_plane: DataPlaneSpec = Field(default=DataPlaneSpec(), description="How the plan reaches the proxies.")
    pools: tuple[PoolSpec, ...] = Field(
        min_length=1, max_length=POOLS_LIMIT, description="The pools.", json_schema_extra=list_map("name")
    )
    pricing: Pricing = Field(default=Pricing(), description="How requests earn, and default token prices.")
    planning: PlanningSpec = Field(default=PlanningSpec(), description="What plans weigh besides prices and promises.")
    metrics: MetricsSpec = Field(default=MetricsSpec(), description="Where samples come from.")
    control: ControlSpec = Field(default=ControlSpec(), description="The rhythm and the caution of the loop.")
    objectives: tuple[Indicator, ...] = Field(
        default=(),
        max_length=OBJECTIVES_LIMIT,
        description="What the fleet as a whole is promised. Plans keep hard ones and weigh the penalty of soft ones; "
        "attainment is measured against both.",
        json_schema_extra=list_map("signal", "statistic"),
    )


class PlanSummary(Reported):
    """The plan in force without its classes: those are in the classes' own status."""

    plan_id: str = Field(max_length=64, description="Digest of the plan's content.")
    time: str = Field(max_length=32, description="When it was made, RFC 3339, UTC.")
    charging: str = Field(max_length=16, description="Bundled or Separate.")
    verdict: Verdict = Field(description="What the solver's answer is worth; only Optimal is actuated.")
    value_per_second: float = Field(description="Money per second that the plan earns.")
    upper_bound: float = Field(description="Money per second that no policy can exceed.")
    pools: tuple[PoolPlan, ...] = Field(
        default=(), max_length=POOLS_LIMIT, description="The pools.", json_schema_extra=list_map("name")
    )
    shadow_prices: tuple[ShadowPrice, ...] = Field(
        default=(), max_length=256, description="Binding constraints and what one more unit of each would earn."
    )
    promises: tuple[PromisePlan, ...] = Field(
        default=(),
        max_length=PROMISES_TOLD,
        description="Promises of the fleet as a whole, and promises to classes that the plan does not keep.",
        json_schema_extra=list_map("name"),
    )
    conflict: ConflictPlan | None = Field(
        default=None,
        description="Hard promises that cannot hold together, what would do, and what is applied meanwhile.",
    )
    certificate: CertificatePlan | None = Field(default=None, description="Our own proof that the plan is optimal.")
    replica_cost_per_second: float | None = Field(
        default=None, ge=0, description="Money per second of the replicas in use, where planning.chargeReplicas is set."
    )

    @classmethod
    def of(cls, plan: Plan) -> PlanSummary:
        """The summary of ``plan``."""
        told = [promise for promise in plan.promises if is_of_fleet(promise) or not promise.held]
        return cls.model_validate(
            plan.model_dump(exclude={"classes", "schema_version", "fleet", "notes", "promises"})
            | {"promises": [promise.model_dump() for promise in told[:PROMISES_TOLD]]}
        )


def is_of_fleet(promise: PromisePlan) -> bool:
    """Whether a promise is made to no single class: its name is the kind alone."""
    return ":" not in promise.name


class AppliedObject(Reported):
    """One object or file that carries the plan."""

    target: str = Field(max_length=512, description="Kind/name or file.")
    holds: str = Field(default="", max_length=512, description="What it holds of the plan.")


class InferenceFleetStatus(Reported):
    """What was found, planned and written."""

    observed_generation: int = Field(default=0, ge=0, description="Generation of the spec that was read last.")
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=16,
        description="Accepted, ResolvedRefs, MetricsAvailable, Solved, Programmed, Effective and Ready; Stalled and "
        "Degraded only when true.",
        json_schema_extra=list_map("type"),
    )
    classes: int = Field(
        default=0, ge=0, description="Workload classes in the plan; without a plan, those that refer to the fleet."
    )
    replicas: int = Field(default=0, ge=0, description="Ready replicas over all pools.")
    value: str = Field(default="", max_length=32, description="The plan's value per second, rounded for people.")
    promises: str = Field(
        default="", max_length=32, description="Promises that the plan keeps of those made, such as 4/5."
    )
    attainment: tuple[AttainmentStatus, ...] = Field(
        default=(),
        max_length=OBJECTIVES_LIMIT,
        description="Objectives held or missed, as measured over all classes; Unknown where one with traffic is not "
        "measured.",
        json_schema_extra=list_map("signal", "statistic"),
    )
    plan: PlanSummary | None = Field(default=None, description="The plan in force.")
    applied: tuple[AppliedObject, ...] = Field(
        default=(),
        max_length=512,
        description="What was written where; empty unless the mode is Enforce.",
        json_schema_extra=list_map("target"),
    )


class InferenceFleetResource(Resource):
    """A fleet of LLM inference replicas that is held at the economic optimum of its workload mix."""

    api_version: Literal["sluice.dev/v1alpha1"] = "sluice.dev/v1alpha1"
    kind: Literal["InferenceFleet"] = "InferenceFleet"
    spec: InferenceFleetSpec
    status: InferenceFleetStatus = InferenceFleetStatus()
