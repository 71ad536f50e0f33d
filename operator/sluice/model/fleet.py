"""What the user declared, resolved: one fleet, its pools and its workload classes.

These values are what decisions are made of. They are built from custom resources by
``sluice.api.resolve``; nothing here knows Kubernetes objects, defaults or references.
Rates are per second of the whole fleet, money is in the user's own unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sluice.model.gate import NO_BOUNDS, QueueBounds
from sluice.model.law import IterationLaw, MeasuredPoint


class Mode(StrEnum):
    """How far the operator may go."""

    OBSERVE = "Observe"
    """Measure and plan; nothing is created or changed."""
    ADVISE = "Advise"
    """Also say what would be written; still nothing is created or changed."""
    ENFORCE = "Enforce"
    """Write weights and limits to the data plane."""


class Charging(StrEnum):
    """When a request earns its value (paper section 2.5)."""

    BUNDLED = "Bundled"
    """Prompt and output tokens pay when the answer is complete, equation (21)."""
    SEPARATE = "Separate"
    """Prompt tokens pay after prefill, output tokens after decode, equation (23)."""


class Tier(StrEnum):
    """The first-day way to say which class matters more, without prices."""

    PROTECTED = "Protected"
    STANDARD = "Standard"
    BEST_EFFORT = "BestEffort"


class DataPlaneKind(StrEnum):
    """Which data plane the plan is written to."""

    ENVOY_GATEWAY = "EnvoyGateway"
    ENVOY_FILES = "EnvoyFiles"
    CONFIG_MAP = "ConfigMap"


class LimitKind(StrEnum):
    """Which limit carries the plan's admission."""

    RATE = "Rate"
    """Requests per second, refused with 429; a breaker at twice the in-flight limit as a fence."""
    IN_FLIGHT = "InFlight"
    """Requests in flight, refused with 503 by the proxy's breaker."""
    BOTH = "Both"
    NONE = "None"


def usual_limit(kind: DataPlaneKind) -> LimitKind:
    """What carries admission where the user does not say.

    An Envoy that reads files moves a breaker within 20 ms and goes on counting, so it gets both:
    the breaker drains a backlog at once. Envoy Gateway takes 15 s for a breaker and counts from
    zero then: a rate limit, which acts within 0.15 s.
    """
    return LimitKind.BOTH if kind is DataPlaneKind.ENVOY_FILES else LimitKind.RATE


class GateUse(StrEnum):
    """What the gate in front of the replicas does."""

    DISABLED = "Disabled"
    SHADOW = "Shadow"
    """It sees every request, counts what it would hold, and holds nothing."""
    ENABLED = "Enabled"
    """It admits every prefill; the data plane's own limits stand open but for a fence."""


class SafePlan(StrEnum):
    """What to hold when metrics stay away longer than ``blind_after_seconds``."""

    OPEN = "Open"
    """No limits of ours; the last weights."""
    LAST_PLAN = "LastPlan"
    """Limits and weights of the last good plan."""
    PRIORS = "Priors"
    """A plan for the declared priors, limits included."""


class SliSignal(StrEnum):
    """What a service level indicator measures."""

    TTFT = "TTFT"
    TPOT = "TPOT"
    SERVED_FRACTION = "ServedFraction"
    QUEUE_WAIT = "QueueWait"
    """The waiting part of TTFT alone."""
    SERVED_FRACTION_FAIRNESS = "ServedFractionFairness"
    """Largest difference of two classes' served shares."""
    PREFILL_FAIRNESS = "PrefillFairness"
    """Largest difference of two classes' prefill occupancies per engine, paper equation (43)."""
    DECODE_FAIRNESS = "DecodeFairness"
    """Largest difference of two classes' solo decode occupancies per engine, paper equation (45)."""
    SLOT_WEIGHTED_TPOT = "SlotWeightedTPOT"
    """Iteration time averaged over slots, taken as always full: paper equation (47), for reproduction."""


class SliStatistic(StrEnum):
    """Which statistic of the signal is bounded."""

    MEAN = "Mean"
    WITHIN_FRACTION = "WithinFraction"


class Hardness(StrEnum):
    """Whether a plan may miss an indicator at a price."""

    HARD = "Hard"
    SOFT = "Soft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sli:
    """One service level indicator with its target."""

    signal: SliSignal
    statistic: SliStatistic
    target_seconds: float | None
    """Bound on TTFT or TPOT, seconds; None for a served fraction."""
    fraction: float | None
    """Served share, or the share of requests within the target; 0..1."""
    hardness: Hardness
    penalty: float
    """Money per second and unit of violation, for soft indicators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalPrices:
    """What an API that is paid per token costs; it has no capacity of ours."""

    prompt_token_cost: float
    """Money per prompt token."""
    output_token_cost: float
    """Money per output token."""
    first_token_seconds: float = 0.0
    """Its time to first token."""
    token_seconds: float | None = None
    """Its time per output token; None: unknown, and then left out of TPOT indicators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One replica's address."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRef:
    """What a route sends a pool's share to (Gateway API ``backendRefs`` fields)."""

    group: str
    kind: str
    name: str
    namespace: str | None
    port: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Identical replicas: same GPU, model and engine settings."""

    name: str
    law: IterationLaw
    slots: int
    """Sequences in one replica's running batch (the paper's B)."""
    chunk_tokens: int
    """Prompt tokens prefilled per iteration (the paper's C)."""
    batched_token_budget: int
    """Tokens, prompt and decode, that one iteration may hold."""
    engines_per_replica: int = 1
    decode_may_move: bool = False
    """Whether a request may decode on another replica than the one that prefilled it."""
    cost_per_hour: float | None = None
    """Money per replica and hour."""
    kv_token_capacity: int | None = None
    """Tokens one replica's KV cache holds; None: slots bind first."""
    points: tuple[MeasuredPoint, ...] = ()
    """Measured working points that replace the law in planning; empty: the law plans."""
    transfer_seconds_per_token: float = 0.0
    """Time a decode slot is held per prompt token while the KV cache of a request moves to it."""
    transfer_cost_per_token: float = 0.0
    """Money per prompt token whose KV cache moves between replicas."""
    external: ExternalPrices | None = None
    """Set: the pool is an API paid per token; law, slots and replicas mean nothing then."""
    backend: BackendRef | None = None
    endpoints: tuple[Endpoint, ...] = ()
    pod_selector: tuple[tuple[str, str], ...] = ()
    profile: str = ""
    use_observed_law: bool = False
    """Whether plans may use the law as it is observed while serving, instead of the declared one."""

    @property
    def mixed_seconds(self) -> float:
        """Mixed iteration at the full batch: the paper's tau."""
        return self.law.mixed(self.chunk_tokens, self.slots)

    @property
    def solo_seconds(self) -> float:
        """Decode-only iteration at the full batch: the paper's 1/gamma."""
        return self.law.solo(self.slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMatch:
    """One exact header that tells a class."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficMatch:
    """Which requests belong to a class: all headers and the path prefix must match."""

    headers: tuple[HeaderMatch, ...] = ()
    path_prefix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRef:
    """An existing HTTPRoute rule that the user owns; we set weights and policy only."""

    name: str
    rule_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadClass:
    """One class of requests as the planner sees it."""

    name: str
    uid: str = ""
    generation: int = 0
    tier: Tier = Tier.STANDARD
    guaranteed_share: float = 0.0
    """Share of the class's own demand that is served first, 0..1."""
    prompt_token_price: float
    """Money per prompt token."""
    output_token_price: float
    """Money per output token."""
    prior_rate: float
    """Requests per second of the whole fleet before anything is measured."""
    prior_prompt_tokens: float
    prior_output_tokens: float
    patience_seconds: float | None = None
    """Mean time a client waits before it goes away; None: for ever (the paper's theta = 0)."""
    deadline_seconds: float | None = None
    closable: bool = False
    """Whether the plan may close the class altogether."""
    in_flight_ceiling: int | None = None
    """A limit the user set; it holds whatever the plan says."""
    tokens_per_step: float = 1.0
    """Output tokens per decode step (above 1 with speculative decoding)."""
    pools: tuple[str, ...] = ()
    """Pools the class may use; empty: all."""
    rate_spread: float = 0.0
    """How far the rate may be off either way, relative; 0: the plan trusts the estimate."""
    slis: tuple[Sli, ...] = ()
    match: TrafficMatch | None = None
    route: RouteRef | None = None
    served_model_name: str | None = None
    """The class's own model name in the engine's metrics, where it has one."""
    fairness_id: str = ""
    """What the route writes into the fairness header; the endpoint picker's label."""
    queue: QueueBounds = NO_BOUNDS
    """What waits at the gate."""
    fairness_key: str | None = None
    """Header that tells the class's tenants apart."""
    fairness_claim: str | None = None
    """The same as a claim of a verified token, inner claims by dots."""
    affinity_key: str | None = None
    """Header that requests with a common prefix or session share."""
    affinity_claim: str | None = None
    request_timeout_seconds: float | None = None
    """The route's request time-out; None: no time-out, so that streams are not cut."""

    @property
    def abandonment_rate(self) -> float:
        """The paper's theta, per second."""
        return 0.0 if self.patience_seconds is None else 1.0 / self.patience_seconds

    @property
    def ttft_promise_seconds(self) -> float | None:
        """The class's TTFT target: what a request is promised."""
        for sli in self.slis:
            if sli.signal is SliSignal.TTFT:
                return sli.target_seconds
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """The rhythm and the caution of the loop."""

    solve_period_seconds: float = 10.0
    dwell_seconds: float = 60.0
    """Shortest time between two changes of order and weights."""
    fence_dwell_seconds: float = 600.0
    """Shortest time between two changes of a slow breaker fence."""
    dead_band: float = 0.05
    """Relative change below which nothing is written."""
    largest_step: float = 0.20
    """Largest relative tightening of a limit in one step; loosening is immediate."""
    blind_after_seconds: float = 300.0
    safe_plan: SafePlan = SafePlan.OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Where samples come from, per signal in order of preference."""

    prometheus_url: str | None = None
    credentials_secret: str | None = None
    window_seconds: float = 60.0
    maximum_age_seconds: float = 60.0
    timeout_seconds: float = 5.0
    sources: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(signal, source names in order); a signal that is absent takes the built-in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPlane:
    """How the plan reaches the proxies."""

    kind: DataPlaneKind = DataPlaneKind.CONFIG_MAP
    limit: LimitKind = LimitKind.RATE
    admin_address: str | None = None
    """``host:port`` of Envoy's admin interface, where it can be read (Envoy files)."""
    listener_port: int | None = None
    """Port of the listener (Envoy files)."""
    listener_address: str = "127.0.0.1"
    """Address the listener binds to (Envoy files); loopback unless somebody opens it on purpose."""
    gate: GateUse = GateUse.DISABLED
    gate_address: str | None = None
    """``host:port`` of the gate's process (Envoy files); under Envoy Gateway it is a Service."""
    gate_places: bool = False
    """Whether the gate names the replica for every request."""
    objective_group: str | None = None
    """API group of the InferenceObjectives that carry the plan's order; None: none are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """One inference fleet: the unit of planning and of actuation."""

    namespace: str
    name: str
    uid: str = ""
    generation: int = 0
    mode: Mode = Mode.OBSERVE
    charging: Charging = Charging.BUNDLED
    pools: tuple[Pool, ...]
    gateway: tuple[str, str] | None = None
    """(namespace, name) of the Gateway that our routes attach to."""
    data_plane: DataPlane = DataPlane()
    metrics: MetricsSettings = MetricsSettings()
    control: ControlSettings = ControlSettings()
    objectives: tuple[Sli, ...] = ()
    sacrifice_order: tuple[str, ...] = ()
    """Promises (``ttft:chat``) given up first when not all can hold; others go by tier, best effort first."""
    charge_replicas: bool = False
    """Whether the plan weighs the cost of a replica against what it earns."""
    caution: float = 0.5
    """Weight of the worst case against the estimate where rates are uncertain, 0..1."""

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"
