"""The plan: one value with one schema, wherever it is shown or stored.

Status, plan ConfigMap, ``sluice plan -o json`` and the gate's feed all carry this
document. Rates are requests per second and occupancies are jobs, both of the whole
fleet. Later versions only add fields.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

SCHEMA_VERSION = "1"


class Document(BaseModel):
    """Frozen, camelCase on the wire, and closed to unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )


class Verdict(StrEnum):
    """What the solver's answer is worth."""

    OPTIMAL = "Optimal"
    FEASIBLE = "Feasible"
    """A solution without proof of optimality (a limit was hit)."""
    INFEASIBLE = "Infeasible"
    UNBOUNDED = "Unbounded"
    UNDECIDED = "Undecided"
    """The solver gave up, or its answer failed our own check."""

    @property
    def may_actuate(self) -> bool:
        """Only an optimal solution may be written to a data plane; doubt keeps the old plan."""
        return self is Verdict.OPTIMAL


class Band(StrEnum):
    """The order in which the gate and the limits treat classes."""

    FULL = "Full"
    """Planned in full: never limited by us."""
    RATIONED = "Rationed"
    """Partly served: admitted up to the planned rate."""
    IDLE_ONLY = "IdleOnly"
    """Takes what would stand idle."""


class PoolPlan(Document):
    """One pool in the plan."""

    name: str = Field(max_length=63, description="Pool name.")
    replicas: int = Field(ge=0, description="Ready replicas the plan was made for.")
    mixed: float = Field(ge=0, description="Replicas that carry a prefill, as the program says (a real number).")
    solo: float = Field(ge=0, description="Replicas that only decode, as the program says (a real number).")
    mixed_replicas: int = Field(ge=0, description="Replicas to be mixed, as an integer.")


class ClassPoolPlan(Document):
    """One class on one pool."""

    pool: str = Field(max_length=63, description="Pool name.")
    admitted_rate: float = Field(ge=0, description="Requests per second prefilled on the pool.")
    prefill: float = Field(ge=0, description="Prefills in service.")
    decode_mixed: float = Field(ge=0, description="Decodes beside a prefill.")
    decode_solo: float = Field(ge=0, description="Decodes on replicas without a prefill.")
    weight_permille: int = Field(ge=0, le=1000, description="Share of the class's traffic; sums to 1000 per class.")


class ClassPlan(Document):
    """One class in the plan; occupancies and rates of the whole fleet."""

    name: str = Field(max_length=63, description="Class name.")
    band: Band = Field(description="Full: planned in full. Rationed: partly served. IdleOnly: only idle capacity.")
    index: float = Field(description="Value per unit of the binding resource: the order inside a band.")
    rationed: bool = Field(description="Whether the plan serves less than is offered.")
    arrival_rate: float = Field(ge=0, description="Offered requests per second.")
    admitted_rate: float = Field(ge=0, description="Planned requests per second.")
    prefill: float = Field(ge=0, description="Prefills in service.")
    decode_mixed: float = Field(ge=0, description="Decodes beside a prefill.")
    decode_solo: float = Field(ge=0, description="Decodes on replicas without a prefill.")
    prefill_queue: float = Field(ge=0, description="Requests waiting for their prefill.")
    decode_queue: float = Field(ge=0, description="Requests waiting for a decode slot.")
    in_flight_limit: int | None = Field(
        default=None,
        ge=0,
        description="Prefill, decode queue and decode together; null where the class is not rationed.",
    )
    pools: tuple[ClassPoolPlan, ...] = Field(max_length=64, description="The class's share of each pool it may use.")


class ShadowPrice(Document):
    """What one more unit of a binding constraint would earn."""

    constraint: str = Field(max_length=253, description="The row's name in the program.")
    value: float = Field(description="Money per second and unit of the row.")
    unit: str = Field(max_length=64, description="The row's unit.")
    meaning: str = Field(max_length=512, description="The price in words.")


class Plan(Document):
    """The result of one solve."""

    schema_version: str = Field(default=SCHEMA_VERSION, max_length=8, description="Version of this schema.")
    plan_id: str = Field(max_length=64, description="Digest of the plan's content: equal plans have equal ids.")
    fleet: str = Field(max_length=317, description="namespace/name of the fleet.")
    time: str = Field(max_length=32, description="When it was made, RFC 3339, UTC.")
    charging: str = Field(max_length=16, description="Bundled or Separate.")
    verdict: Verdict = Field(description="What the solver's answer is worth; only Optimal is actuated.")
    value_per_second: float = Field(description="Money per second that the plan earns.")
    upper_bound: float = Field(description="Money per second that no policy can exceed (the dual objective).")
    pools: tuple[PoolPlan, ...] = Field(max_length=64, description="The pools.")
    classes: tuple[ClassPlan, ...] = Field(max_length=4096, description="The classes.")
    shadow_prices: tuple[ShadowPrice, ...] = Field(
        default=(), max_length=256, description="Binding constraints and their prices."
    )

    def of(self, name: str) -> ClassPlan | None:
        """The plan of class ``name``."""
        return next((entry for entry in self.classes if entry.name == name), None)
