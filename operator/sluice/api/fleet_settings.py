"""How a fleet is measured, driven and written: the parts of its spec besides pools and prices."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sluice.api.base import (
    LABEL_PATTERN,
    SUBDOMAIN_PATTERN,
    Declared,
    NamedReference,
    Rule,
    list_map,
    list_set,
)
from sluice.api.indicators import PERMILLE
from sluice.api.pools import PORT_LIMIT
from sluice.model.fleet import DataPlaneKind, LimitKind, SafePlan

MeasuredSignal = Literal[
    "OfferedRate",
    "AdmittedRate",
    "RefusedRate",
    "InFlight",
    "PromptTokens",
    "UncachedPromptTokens",
    "OutputTokens",
    "TTFT",
    "TTFTWithin",
    "TPOT",
]
MetricSource = Literal["Envoy", "Gate", "EndpointPicker", "vLLM", "SGLang"]
GateState = Literal["Disabled", "Shadow", "Enabled"]
Chooser = Literal["Proxy", "Gate"]
ObjectiveGroup = Literal["llm-d.ai", "inference.networking.x-k8s.io"]


class GatewayReference(Declared):
    """A Gateway of the Gateway API."""

    name: str = Field(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN, description="Name of the Gateway.")
    namespace: str | None = Field(
        default=None, min_length=1, max_length=63, pattern=LABEL_PATTERN, description="Absent: the fleet's namespace."
    )


class DataPlaneSpec(Declared):
    """How the plan reaches the proxies."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.kind == 'EnvoyFiles' || (!has(self.adminAddress) && !has(self.listenerPort))",
            "adminAddress and listenerPort belong to kind EnvoyFiles",
        ),
        Rule("self.kind != 'EnvoyFiles' || has(self.listenerPort)", "kind EnvoyFiles needs listenerPort"),
        Rule(
            "self.gate == 'Disabled' || self.kind != 'ConfigMap'",
            "gate Shadow and gate Enabled need a proxy that calls the gate: kind EnvoyGateway or EnvoyFiles",
        ),
        Rule(
            "self.gate == 'Disabled' || self.kind != 'EnvoyFiles' || has(self.gateAddress)",
            "the gate needs gateAddress with kind EnvoyFiles",
        ),
        Rule(
            "self.kind == 'EnvoyFiles' || !has(self.gateAddress)",
            "gateAddress belongs to kind EnvoyFiles",
        ),
        Rule(
            "self.placement == 'Proxy' || self.gate == 'Enabled'",
            "placement Gate needs gate Enabled: a gate that only counts names no replica",
        ),
        Rule(
            "!has(self.objectiveGroup) || self.kind == 'EnvoyGateway'",
            "objectiveGroup belongs to kind EnvoyGateway: its routes name the objectives",
        ),
    )

    kind: DataPlaneKind = Field(
        default=DataPlaneKind.CONFIG_MAP,
        description="EnvoyGateway: HTTPRoutes and BackendTrafficPolicies. EnvoyFiles: files that an Envoy watches. "
        "ConfigMap: the plan alone, for any other data plane.",
    )
    limit: LimitKind | None = Field(
        default=None,
        description="Rate: requests per second, refused with 429, and a breaker at twice the in-flight limit as a "
        "fence. InFlight: requests in flight, refused with 503. Both, or None. Absent: Both with kind EnvoyFiles, "
        "where a breaker moves at once; else Rate.",
    )
    gate: GateState = Field(
        default="Disabled",
        description="Admission of single prefills at the proxy by the process sluice gate. Shadow: it counts what it "
        "would hold, and holds nothing. Enabled: limits stand open but for a fence at 1.2 times the fleet's slots.",
    )
    gate_address: str | None = Field(
        default=None,
        min_length=3,
        max_length=259,
        pattern=r"^[0-9A-Za-z]([-0-9A-Za-z.]*[0-9A-Za-z])?:[0-9]{1,5}$",
        description="EnvoyFiles: host:port of the gate's process.",
    )
    placement: Chooser = Field(
        default="Proxy",
        description="Who chooses the replica of a gated request. Proxy: the load balancer, under the plan's weights. "
        "Gate: affinity first, then the plan's split of pools, then the least unfinished prompt tokens.",
    )
    objective_group: ObjectiveGroup | None = Field(
        default=None,
        description="API group (v1alpha2) of the InferenceObjectives by which the plan's order reaches the flow "
        "control of llm-d's endpoint picker: llm-d.ai since its release 0.8. Absent: none are written.",
    )
    admin_address: str | None = Field(
        default=None,
        min_length=3,
        max_length=259,
        pattern=r"^[0-9A-Za-z]([-0-9A-Za-z.]*[0-9A-Za-z])?:[0-9]{1,5}$",
        description="EnvoyFiles: host:port of Envoy's admin interface, from which enforcement is read back.",
    )
    listener_port: int | None = Field(
        default=None, ge=1, le=PORT_LIMIT, description="EnvoyFiles: port that Envoy serves requests on."
    )


class SignalSources(Declared):
    """Where one signal is looked for, in this order."""

    signal: MeasuredSignal = Field(description="The signal.")
    order: Annotated[tuple[MetricSource, ...], Field(min_length=1, max_length=5)] = Field(
        description="Sources, the preferred one first; what none of them gives comes from the class's priors.",
        json_schema_extra=list_set(),
    )


class MetricsSpec(Declared):
    """Where samples come from and how old they may be."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.credentialsSecretRef) || has(self.prometheusUrl)",
            "credentialsSecretRef needs prometheusUrl",
        ),
    )

    prometheus_url: str | None = Field(
        default=None,
        max_length=512,
        pattern=r"^https?://[^\s]+$",
        description="Base URL of Prometheus. Absent: nothing is measured there, demand is what classes declare.",
    )
    credentials_secret_ref: NamedReference | None = Field(
        default=None,
        description="Secret in the fleet's namespace with key token, or keys username and password, for Prometheus.",
    )
    sources: tuple[SignalSources, ...] = Field(
        default=(),
        max_length=16,
        description="Order of sources for signals that shall not take the built-in order.",
        json_schema_extra=list_map("signal"),
    )
    window_seconds: int = Field(default=60, ge=5, le=3600, description="Window of rates and means, seconds.")
    maximum_age_seconds: int = Field(
        default=60, ge=5, le=3600, description="Older samples count as missing, never as zero; seconds."
    )
    timeout_seconds: int = Field(default=5, ge=1, le=60, description="Time-out of one query, seconds.")


PROMISE_PATTERN = (
    r"^((ttft|tpot|wait|served|guaranteed):[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
    r"|tpot|served|served-fairness|prefill-fairness|decode-fairness|slot-tpot)$"
)
PromiseName = Annotated[str, Field(min_length=1, max_length=253, pattern=PROMISE_PATTERN)]


class PlanningSpec(Declared):
    """What plans weigh besides prices and promises."""

    rules: ClassVar[tuple[Rule, ...]] = ()

    charge_replicas: bool = Field(
        default=False,
        description="Whether costPerHour of the replicas that a plan fills is taken off its value: what earns less "
        "than its replica costs is then refused.",
    )
    caution_permille: int = Field(
        default=500,
        ge=0,
        le=PERMILLE,
        description="Weight of the worst case against the estimate where classes have a rateSpreadPermille, permille.",
    )
    sacrifice_order: tuple[PromiseName, ...] = Field(
        default=(),
        max_length=64,
        description="Promises, as status.plan.promises names them (ttft:chat), that give way first where not all hard "
        "ones can hold. Others follow by tier, BestEffort first; names that nobody promised are passed over.",
        json_schema_extra=list_set(),
    )


class ControlSpec(Declared):
    """The rhythm and the caution of the loop."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.solvePeriodSeconds <= self.dwellSeconds && self.dwellSeconds <= self.fenceDwellSeconds",
            "solvePeriodSeconds must not exceed dwellSeconds, nor dwellSeconds fenceDwellSeconds",
        ),
    )

    solve_period_seconds: int = Field(default=10, ge=1, le=600, description="Time between two solves, seconds.")
    dwell_seconds: int = Field(
        default=60, ge=1, le=3600, description="Shortest time between two changes of order and weights, seconds."
    )
    fence_dwell_seconds: int = Field(
        default=600, ge=1, le=86_400, description="Shortest time between two changes of a breaker fence, seconds."
    )
    dead_band_permille: int = Field(
        default=50, ge=0, le=500, description="Relative change below which nothing is written, permille."
    )
    largest_step_permille: int = Field(
        default=200,
        ge=1,
        le=1000,
        description="Largest relative tightening of a limit in one step, permille; loosening is immediate.",
    )
    blind_after_seconds: int = Field(
        default=300, ge=10, le=86_400, description="Without fresh samples for so long, safePlan takes over; seconds."
    )
    safe_plan: SafePlan = Field(
        default=SafePlan.OPEN,
        description="What is held when blind. Open: no limits. LastPlan: the plan in force. Priors: a plan for the "
        "declared priors.",
    )
