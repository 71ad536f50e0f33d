"""Conditions and their reasons: one table for status, events, documents and tests.

The string below each reason tells what to do about it; ``crds/README.md`` is generated
from these strings.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ConditionType(StrEnum):
    """The conditions on our resources."""

    ACCEPTED = "Accepted"
    """The spec is understood and consistent."""
    RESOLVED_REFS = "ResolvedRefs"
    """Everything the spec points to exists."""
    METRICS_AVAILABLE = "MetricsAvailable"
    """Demand is measured, not only declared."""
    SOLVED = "Solved"
    """There is an optimal plan for the present demand."""
    PROGRAMMED = "Programmed"
    """The plan was written to the data plane."""
    EFFECTIVE = "Effective"
    """The data plane does what was written."""
    READY = "Ready"
    """All of the above that apply."""
    STALLED = "Stalled"
    """Only a change of the spec can help. Present only when true."""
    DEGRADED = "Degraded"
    """Running on an old plan, or blind. Present only when true."""
    DRIFTED = "Drifted"
    """Engines are faster or slower than their profile says. Present only when true."""


class Reason(StrEnum):
    """Why a condition has its status."""

    def __new__(cls, value: str, remedy: str = "") -> Reason:
        """A string member that carries its remedy beside its value."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.remedy = remedy
        return member

    remedy: str
    """What it means and what to do, for the person who reads it."""

    ACCEPTED = "Accepted", "The spec is understood."
    INVALID = "Invalid", "The spec contradicts itself; the message names the field."
    CONTRADICTORY_PRICES = "ContradictoryPrices", "Prices or guarantees contradict each other; the message names both."
    OVERLAPPING_MATCH = (
        "OverlappingMatch",
        "Two classes match the same requests; the older keeps them. Part them.",
    )
    EMPTY_FLEET = "EmptyFleet", "No WorkloadClass refers to this fleet yet. Apply one."
    PENDING = "Pending", "The first pass has not finished."

    RESOLVED = "Resolved", "Every reference resolves."
    PROFILE_NOT_FOUND = "ProfileNotFound", "A pool names an IterationProfile that the namespace lacks. Apply it."
    FLEET_NOT_FOUND = "FleetNotFound", "The class names an InferenceFleet that the namespace lacks. Apply it."
    POOL_NOT_FOUND = "PoolNotFound", "The class allows a pool that the fleet lacks. The message lists those it has."
    ROUTE_NOT_FOUND = "RouteNotFound", "The class names an HTTPRoute or a rule in it that does not exist."
    GATEWAY_NOT_FOUND = (
        "GatewayNotFound",
        "The fleet names no Gateway, or one that is not there. Set gatewayRef.",
    )
    SECRET_NOT_FOUND = "SecretNotFound", "The credentials Secret for Prometheus is missing, or lacks its keys."
    REPLICAS_UNKNOWN = (
        "ReplicasUnknown",
        "Nothing tells the pool's replicas. List endpoints or declare its Pods.",
    )

    MEASURED = "Measured", "All signals that the plan needs are measured."
    PARTLY_PRIOR = "PartlyPrior", "Some signals come from declared priors; the message names them."
    NO_SAMPLES = "NoSamples", "Prometheus answers, but no source has fresh samples. Check the scrape targets."
    METRICS_STALE = "MetricsStale", "The newest samples are older than the maximum age. Check the scrape targets."
    PROMETHEUS_UNREACHABLE = "PrometheusUnreachable", "Prometheus does not answer. The last plan stays meanwhile."
    PROMETHEUS_REFUSED = (
        "PrometheusRefused",
        "Prometheus refuses our credentials. Check the Secret that the fleet names.",
    )
    PROXIES_MISCOUNTED = (
        "ProxiesMiscounted",
        "Prometheus holds counters of more or fewer proxies than are ready: rates are off by that share. "
        "Check that every proxy is scraped exactly once.",
    )
    NOT_CONFIGURED = "NotConfigured", "The fleet declares no Prometheus; demand is what the classes declare."
    UNMATCHED_TRAFFIC = "UnmatchedTraffic", "Requests match no class. They take capacity that the plan must leave them."

    OPTIMAL = "Optimal", "The plan is optimal for the estimated demand."
    NO_REPLICAS = "NoReplicas", "No pool has a ready replica. The last plan stays."
    INFEASIBLE = (
        "Infeasible",
        "Hard promises cannot hold together; the message says which, and what is applied meanwhile. Add replicas, or "
        "relax a promise as status.plan.conflict.remedies says.",
    )
    SOLVER_FAILED = "SolverFailed", "The solver gave no optimal answer. The last plan stays."
    CERTIFICATE_FAILED = "CertificateFailed", "The solver's answer failed our own check. The last plan stays."

    PROGRAMMED = "Programmed", "The data plane holds the plan."
    NOT_ENFORCING = "NotEnforcing", "The mode is Observe or Advise: nothing is written."
    WRITE_FAILED = "WriteFailed", "Writing to the data plane failed; the message has the cause."
    NOT_PERMITTED = "NotPermitted", "The service account may not write an object; the message names verb and kind."
    FIELD_CONFLICT = "FieldConflict", "Another field manager owns a field we set; the message names it."

    GATEWAY_REFUSED = (
        "GatewayRefused",
        "The gateway does not take a route or a policy that we wrote; the message has its own words. Often another "
        "policy has the same target.",
    )

    OBEYED = "Obeyed", "Measured shares and limits agree with the plan."
    LIMIT_NOT_ENFORCED = "LimitNotEnforced", "The data plane enforces another limit than the plan's."
    WEIGHTS_NOT_FOLLOWED = "WeightsNotFollowed", "Measured shares differ from the plan's weights."
    NOT_VERIFIED = "NotVerified", "Nothing tells what the data plane does: no counters, or no traffic yet."

    LAW_DRIFTED = (
        "LawDrifted",
        "A pool's engines are faster or slower than its IterationProfile says; the message tells by how much. "
        "Profile the engine again, or let the pool use the observed law.",
    )

    READY = "Ready", "Planned, written and obeyed."
    BLIND = "Blind", "No fresh samples for longer than blindAfterSeconds: the safe plan is held."
    HELD = "Held", "An older plan stays in force; the message says why."
    PROXIES_UNCOUNTED = (
        "ProxiesUncounted",
        "No ready proxy of the Gateway is seen: limits are divided by the number last counted, or not at all, and "
        "several proxies may admit several times the plan. Name their namespace (chart value rbac.proxyNamespaces).",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact about one object that a user should know."""

    condition: ConditionType
    reason: Reason
    message: str
    subject: str = ""
    """``Kind/name`` of the object it is about; empty: the fleet."""
    blocking: bool = False
    """Whether planning cannot go on with it."""
