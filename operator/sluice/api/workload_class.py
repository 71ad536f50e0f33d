"""WorkloadClass (``wc``): one class of requests, what it needs, what it is worth, what it was promised."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sluice.api.base import (
    HEADER_PATTERN,
    LABEL_PATTERN,
    SUBDOMAIN_PATTERN,
    Declared,
    NamedReference,
    Reported,
    Resource,
    Rule,
    list_map,
    list_set,
)
from sluice.api.conditions import Condition
from sluice.api.indicators import HOUR_MILLISECONDS, PERMILLE, AttainmentStatus, Indicator
from sluice.api.iteration_profile import TOKENS_LIMIT
from sluice.api.pools import POOLS_LIMIT
from sluice.api.prices import Prices
from sluice.api.queueing import RequestKey, RequestQueue
from sluice.model.fleet import Tier
from sluice.model.plan import ClassPlan, PromisePlan
from sluice.model.signal import Source

RATE_LIMIT_MILLI = 1_000_000_000_000
"""A billion requests per second."""

PoolName = Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN)]


class HeaderMatchSpec(Declared):
    """One header with its exact value."""

    name: str = Field(
        min_length=1, max_length=256, pattern=HEADER_PATTERN, description="Header name; case does not matter."
    )
    value: str = Field(min_length=1, max_length=1024, description="Exact value.")


class MatchSpec(Declared):
    """Which requests belong to the class: all headers and the path prefix must match."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.pathPrefix) || (has(self.headers) && size(self.headers) > 0)",
            "match needs at least one of headers and pathPrefix",
        ),
    )

    headers: tuple[HeaderMatchSpec, ...] = Field(
        default=(),
        max_length=16,
        description="Headers that must be there with these values. A model name is a header that the gateway sets.",
        json_schema_extra=list_map("name"),
    )
    path_prefix: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        pattern=r"^/[^?#\s]*$",
        description="Path prefix, by whole segments.",
    )


class RouteReference(Declared):
    """A named rule of an existing HTTPRoute; we own its weights and policy only."""

    name: str = Field(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN, description="Name of the HTTPRoute.")
    rule_name: str = Field(
        min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN, description="Name of the rule in it."
    )


class Priors(Declared):
    """What is known of the class before anything is measured, and where nothing can be."""

    prompt_tokens: int = Field(ge=1, le=TOKENS_LIMIT, description="Mean prompt tokens of a request.")
    output_tokens: int = Field(ge=1, le=TOKENS_LIMIT, description="Mean output tokens of a request.")
    milli_requests_per_second: int = Field(
        ge=0,
        le=RATE_LIMIT_MILLI,
        description="Requests per 1000 seconds that arrive at the whole fleet (2500: two and a half per second).",
    )


class Timeouts(Declared):
    """Time-outs of routes that we make for the class."""

    request_milliseconds: int | None = Field(
        default=None,
        ge=1,
        le=24 * HOUR_MILLISECONDS,
        description="Request time-out, milliseconds. Absent: none, so that streams are not cut.",
    )


class WorkloadClassSpec(Declared):
    """Who the requests are, what they need, and what they are worth."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.match) != has(self.routeRef)",
            "give exactly one of match and routeRef: we either make the class's route or take an existing rule",
        ),
        Rule(
            "!self.closable || self.guaranteedSharePermille == 0",
            "a closable class cannot have a guaranteedSharePermille: closing it would break the guarantee",
        ),
        Rule(
            "!has(self.slis) || self.slis.all(sli, sli.signal in ['TTFT', 'TPOT', 'ServedFraction', 'QueueWait'])",
            "fairness signals and SlotWeightedTPOT compare classes or average over them: they belong to the fleet's "
            "objectives",
        ),
        Rule(
            "!has(self.timeouts) || !has(self.timeouts.requestMilliseconds) || !has(self.slis) || self.slis.all(sli, "
            "sli.signal != 'TTFT' || !has(sli.targetMilliseconds) || "
            "sli.targetMilliseconds < self.timeouts.requestMilliseconds)",
            "a TTFT target must be shorter than timeouts.requestMilliseconds: the route would cut what still keeps its "
            "promise",
        ),
        Rule(
            "!has(self.queue) || self.queue.late != 'Refuse' || "
            "(has(self.slis) && self.slis.exists(sli, sli.signal == 'TTFT'))",
            "queue.late Refuse needs a TTFT among the slis: without one no request is ever late",
        ),
    )

    fleet_ref: NamedReference = Field(description="InferenceFleet of the same namespace.")
    match: MatchSpec | None = Field(
        default=None, description="Which requests belong to the class; we make its route. Give this or routeRef."
    )
    route_ref: RouteReference | None = Field(
        default=None, description="An existing HTTPRoute rule that carries the class. Give this or match."
    )
    priors: Priors = Field(description="Lengths and arrivals before anything is measured.")
    patience_milliseconds: int | None = Field(
        default=None,
        ge=1,
        le=24 * HOUR_MILLISECONDS,
        description="Mean time a client waits before it goes away, milliseconds. Absent: for ever.",
    )
    tier: Tier = Field(
        default=Tier.STANDARD,
        description="Which class matters more, without prices: a token of Protected counts 100 times one of Standard, "
        "and that 100 times one of BestEffort. Prices override it.",
    )
    guaranteed_share_permille: int = Field(
        default=0,
        ge=0,
        le=PERMILLE,
        description="Share of the class's own demand to be served whatever others pay, permille.",
    )
    rate_spread_permille: int = Field(
        default=0,
        ge=0,
        le=PERMILLE,
        description="How far the arrival rate may be off either way, permille of the estimate: the plan then keeps its "
        "promises up to the high end and counts less on what may not come. 0: the estimate is trusted.",
    )
    prices: Prices | None = Field(
        default=None, description="Token prices. Absent: the fleet's default prices, else the tier's values."
    )
    slis: tuple[Indicator, ...] = Field(
        default=(),
        max_length=8,
        description="What the class is promised. Plans keep hard indicators and weigh the penalty of soft ones; "
        "attainment is measured against both.",
        json_schema_extra=list_map("signal", "statistic"),
    )
    closable: bool = Field(default=False, description="Whether the plan may close the class altogether (limit 0).")
    in_flight_ceiling: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Requests in flight that are never exceeded, whatever the plan."
    )
    pools: tuple[PoolName, ...] = Field(
        default=(),
        max_length=POOLS_LIMIT,
        description="Pools that the class may use. Empty: all.",
        json_schema_extra=list_set(),
    )
    served_model_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="The class's own model name in the engines' metrics (vLLM --served-model-name), where it has one.",
    )
    fairness_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Fairness id that marks the class at the endpoint picker. Absent: <namespace>.<name>.",
    )
    timeouts: Timeouts | None = Field(default=None, description="Time-outs of the route that we make.")
    tokens_per_step_permille: int = Field(
        default=PERMILLE,
        ge=PERMILLE,
        le=64 * PERMILLE,
        description="Output tokens per decode step times 1000: above 1000 with speculative decoding.",
    )
    deadline_seconds: int | None = Field(
        default=None,
        ge=1,
        le=30 * 86_400,
        description="Time within which a batch request must be done, seconds. Recorded; nothing acts on it so far.",
    )
    queue: RequestQueue | None = Field(
        default=None, description="The class's queue at the gate. Absent: as whoever runs the gate has set it."
    )
    fairness_key: RequestKey | None = Field(
        default=None,
        description="What tells the class's tenants apart. The gate lets them go in turns, by prompt tokens, and one "
        "of them fills at most half of the class's queue. Absent: first come, first served.",
    )
    affinity_key: RequestKey | None = Field(
        default=None,
        description="What requests with a common prefix or session share. With dataPlane.placement Gate they go to the "
        "same replica while its load is near the mean.",
    )


class EstimateStatus(Reported):
    """One estimated quantity."""

    value: float = Field(description="The estimate.")
    source: Source = Field(description="Where it comes from; Prior: declared, not measured.")
    age_seconds: float = Field(default=0.0, ge=0, description="Age of the sample when the status was written, seconds.")


class DemandStatus(Reported):
    """What the class asks for, as estimated."""

    rate: EstimateStatus = Field(description="Offered requests per second of the whole fleet, refusals included.")
    prompt_tokens: EstimateStatus = Field(description="Mean prompt tokens of a request.")
    uncached_prompt_tokens: EstimateStatus = Field(description="Mean prompt tokens that must be computed.")
    output_tokens: EstimateStatus = Field(description="Mean output tokens of a request.")
    patience_seconds: float | None = Field(
        default=None, ge=0, description="Mean patience; absent: clients wait for ever."
    )


class WorkloadClassStatus(Reported):
    """What was found, estimated, planned and written for the class."""

    observed_generation: int = Field(default=0, ge=0, description="Generation of the spec that was read last.")
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=16,
        description="Accepted, ResolvedRefs, MetricsAvailable, Solved, Programmed, Effective and Ready; Stalled and "
        "Degraded only when true.",
        json_schema_extra=list_map("type"),
    )
    demand: DemandStatus | None = Field(default=None, description="Estimated demand with sources and ages.")
    plan_id: str = Field(default="", max_length=64, description="Plan that the class's plan is part of.")
    plan: ClassPlan | None = Field(default=None, description="The class in the plan in force.")
    promises: tuple[PromisePlan, ...] = Field(
        default=(),
        max_length=16,
        description="What the class is promised: what the plan gives of it, and what it costs at the margin.",
        json_schema_extra=list_map("name"),
    )
    attainment: tuple[AttainmentStatus, ...] = Field(
        default=(),
        max_length=8,
        description="Indicators held or missed.",
        json_schema_extra=list_map("signal", "statistic"),
    )
    offered: str = Field(
        default="",
        max_length=32,
        description="Offered requests per second, rounded for people; declared where nothing measures them.",
    )
    admitted: str = Field(default="", max_length=32, description="Planned requests per second, rounded for people.")
    limit: str = Field(default="", max_length=64, description="The limit written for the class, in words; empty: none.")
    slis: str = Field(
        default="",
        max_length=64,
        description="Indicators held of those measured, such as 1/2; ?/2 where none is measured.",
    )


class WorkloadClassResource(Resource):
    """One class of inference requests: how to tell it, what it needs, what it is worth, what it was promised."""

    api_version: Literal["sluice.dev/v1alpha1"] = "sluice.dev/v1alpha1"
    kind: Literal["WorkloadClass"] = "WorkloadClass"
    spec: WorkloadClassSpec
    status: WorkloadClassStatus = WorkloadClassStatus()
