"""The plan: one value with one schema, wherever it is shown or stored.

Status, plan ConfigMap, ``sluice plan -o json`` and the gate's feed all carry this
document. Rates are requests per second and occupancies are jobs, both of the whole
fleet. Later versions only add fields.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

SCHEMA_VERSION = "1"


Line = Annotated[str, Field(max_length=512)]
"""One entry of a list that people read: a promise's name has 253 characters at most, the words around it fewer."""


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


class ModeShare(Document):
    """Part of a pool's time spent in one working point."""

    chunk_tokens: float = Field(ge=0, description="Prompt tokens per iteration; 0: decode only.")
    batch: float = Field(ge=0, description="Sequences decoding beside the chunk.")
    seconds: float = Field(gt=0, description="Time of one iteration.")
    share: float = Field(ge=0, le=1, description="Share of the pool's time.")


class PoolPlan(Document):
    """One pool in the plan."""

    name: str = Field(max_length=63, description="Pool name.")
    replicas: int = Field(ge=0, description="Ready replicas the plan was made for.")
    mixed: float = Field(ge=0, description="Replicas that carry a prefill, as the program says (a real number).")
    solo: float = Field(ge=0, description="Replicas that only decode, as the program says (a real number).")
    mixed_replicas: int = Field(ge=0, description="Replicas to be mixed, as an integer.")
    in_use: float | None = Field(
        default=None, ge=0, description="Replicas whose time the plan fills; the others stand idle."
    )
    value_per_replica_hour: float | None = Field(
        default=None, description="Money per hour that one more replica would earn, its own cost not taken off."
    )
    chunk_tokens: float | None = Field(
        default=None, ge=0, description="Best chunk: mean over the mixed time of the plan; null without mixed time."
    )
    batch_cap: float | None = Field(
        default=None, ge=0, description="Best batch: the largest that the plan spends time in."
    )
    modes: tuple[ModeShare, ...] = Field(
        default=(), max_length=64, description="Working points the replicas spend their time in, largest share first."
    )


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
    marginal_value: float | None = Field(
        default=None, description="Money that one more offered request of the class would earn."
    )
    cut_off: float | None = Field(
        default=None,
        description="Distance to the cut-off: share by which the class's prices may fall before it is refused "
        "(positive), or must rise before it is served (negative).",
    )
    standing: str = Field(default="", max_length=256, description="The distance to the cut-off in words.")
    wait_seconds: float | None = Field(
        default=None, ge=0, description="Fluid wait for a prefill of those who are served."
    )
    ttft_seconds: float | None = Field(
        default=None, ge=0, description="Estimated mean time to first token: wait and prefill; no queueing noise."
    )
    tpot_seconds: float | None = Field(default=None, ge=0, description="Estimated mean time per output token.")


class ShadowPrice(Document):
    """What one more unit of a binding constraint would earn."""

    constraint: str = Field(max_length=253, description="The row's name in the program.")
    value: float = Field(description="Money per second and unit of the row.")
    unit: str = Field(max_length=64, description="The row's unit.")
    meaning: str = Field(max_length=512, description="The price in words.")


class PromisePlan(Document):
    """One indicator in the plan."""

    name: str = Field(max_length=253, description="Signal and class, such as ttft:chat.")
    target: float = Field(description="What was asked for: seconds or a share.")
    planned: float = Field(description="What the plan gives, in the same unit.")
    held: bool = Field(description="Whether the plan keeps it.")
    applied_target: float = Field(description="The target the plan was made with: the least relaxed that can hold.")
    price: float = Field(description="Money per second that one unit less of the target would cost at the margin.")
    meaning: str = Field(default="", max_length=512, description="The same in words.")


class ConflictPlan(Document):
    """Promises that cannot hold together, and what was done about it."""

    promises: tuple[Line, ...] = Field(max_length=64, description="A minimal set of promises that cannot all hold.")
    others: tuple[Line, ...] = Field(
        default=(),
        max_length=16,
        description="Further minimal sets, which have no promise in common with it or with each other: names, one "
        "set a line.",
    )
    remedies: tuple[Line, ...] = Field(
        default=(),
        max_length=64,
        description="For each promise of these sets: the least relaxation that alone ends its conflict, in words.",
    )
    relaxed: tuple[Line, ...] = Field(default=(), max_length=64, description="What the plan relaxed, in words.")
    cost_per_second: float = Field(
        description="Money per second that the promises cost as applied, against a plan without any."
    )


class CertificatePlan(Document):
    """Our own proof of optimality, each residual relative."""

    primal_residual: float = Field(description="Largest violation of a row, relative to its largest term.")
    dual_residual: float = Field(description="Largest price of the wrong sign, relative to its largest term.")
    gap: float = Field(description="Dual minus primal objective, relative.")


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
    promises: tuple[PromisePlan, ...] = Field(
        default=(), max_length=1024, description="Indicators the plan was made for, with their prices."
    )
    conflict: ConflictPlan | None = Field(
        default=None, description="Set where hard promises cannot hold together; the plan keeps what it can."
    )
    certificate: CertificatePlan | None = Field(default=None, description="Proof that the plan is optimal.")
    replica_cost_per_second: float | None = Field(
        default=None, ge=0, description="Money per second that the replicas in use cost, where the plan weighs it."
    )
    notes: tuple[str, ...] = Field(default=(), max_length=64, description="What was assumed.")

    def of(self, name: str) -> ClassPlan | None:
        """The plan of class ``name``."""
        return next((entry for entry in self.classes if entry.name == name), None)
