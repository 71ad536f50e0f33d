"""Pools of identical replicas, as users declare them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sluice.api.base import LABEL_PATTERN, SUBDOMAIN_PATTERN, Declared, NamedReference, Rule, list_map
from sluice.api.iteration_profile import BATCH_LIMIT, TOKENS_LIMIT
from sluice.api.prices import Money

PORT_LIMIT = 65_535
POOLS_LIMIT = 64
ADDRESS_PATTERN = r"^[0-9A-Za-z]([-0-9A-Za-z.:]*[0-9A-Za-z])?$"

DecodePlacement = Literal["SameReplica", "AnyReplica"]


class PodSelector(Declared):
    """Which Pods of the fleet's namespace are the pool's replicas."""

    match_labels: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(min_length=1, max_length=16)] = (
        Field(description="Labels that every replica carries.")
    )


class EndpointSpec(Declared):
    """One replica by its address."""

    address: str = Field(
        min_length=1, max_length=253, pattern=ADDRESS_PATTERN, description="IP address or host name of the replica."
    )
    port: int = Field(ge=1, le=PORT_LIMIT, description="Port of its OpenAI-compatible API.")


class BackendReference(Declared):
    """What a route sends the pool's share to, in the words of Gateway API backendRefs."""

    group: str = Field(default="", max_length=253, description="API group; empty for a Service.")
    kind: str = Field(default="Service", min_length=1, max_length=63, description="Service, InferencePool or Backend.")
    name: str = Field(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN, description="Name of the object.")
    namespace: str | None = Field(
        default=None,
        min_length=1,
        max_length=63,
        pattern=LABEL_PATTERN,
        description="Namespace, where it is not the fleet's; needs a ReferenceGrant there.",
    )
    port: int | None = Field(default=None, ge=1, le=PORT_LIMIT, description="Port; required for a Service.")


class PoolSpec(Declared):
    """Identical replicas: same accelerator, model and engine settings."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.podSelector) != has(self.endpoints)",
            "give exactly one of podSelector and endpoints: replicas are either selected Pods or listed addresses",
        ),
        Rule(
            "!has(self.batchedTokenBudget) || self.chunkTokens <= self.batchedTokenBudget",
            "chunkTokens must not exceed batchedTokenBudget: an iteration cannot prefill more than it may hold",
        ),
        Rule(
            "!has(self.backendRef) || self.backendRef.group != '' || self.backendRef.kind != 'Service' "
            "|| has(self.backendRef.port)",
            "backendRef.port is required for a Service",
        ),
    )

    name: str = Field(min_length=1, max_length=63, pattern=LABEL_PATTERN, description="Name, unique in the fleet.")
    pod_selector: PodSelector | None = Field(
        default=None, description="The replicas are these Pods. Give this or endpoints."
    )
    endpoints: tuple[EndpointSpec, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="The replicas are these addresses. Give this or podSelector.",
        json_schema_extra=list_map("address", "port"),
    )
    backend_ref: BackendReference | None = Field(
        default=None, description="What routes send the pool's share to. Required with dataPlane.kind EnvoyGateway."
    )
    profile_ref: NamedReference = Field(description="IterationProfile of the replicas, in the fleet's namespace.")
    slots: int = Field(
        ge=1, le=BATCH_LIMIT, description="Sequences in one replica's running batch (vLLM: --max-num-seqs)."
    )
    chunk_tokens: int = Field(ge=1, le=TOKENS_LIMIT, description="Prompt tokens prefilled per mixed iteration.")
    batched_token_budget: int | None = Field(
        default=None,
        ge=1,
        le=TOKENS_LIMIT,
        description="Tokens, prompt and decode, that one iteration may hold (vLLM: --max-num-batched-tokens). Absent: "
        "chunkTokens + slots.",
    )
    engines_per_replica: int = Field(
        default=1, ge=1, le=64, description="Engines behind one replica's address (data parallel ranks)."
    )
    decode_placement: DecodePlacement = Field(
        default="SameReplica",
        description="SameReplica: a request decodes where it was prefilled. AnyReplica: the engines move the KV cache, "
        "so decoding may happen elsewhere in the pool. Recorded; plans are the same for both so far.",
    )
    observed_law: Literal["Report", "Use"] = Field(
        default="Report",
        description="Report: the law that is observed while serving stands in the profile's status, and a condition "
        "tells when it has drifted. Use: plans are made with it.",
    )
    cost_per_hour: Money | None = Field(
        default=None, description='Money per replica and hour, a decimal string such as "2.49". Recorded for reports.'
    )
    kv_token_capacity: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Tokens that one replica's KV cache holds. Simulations use it; plans are not bounded by it so far.",
    )
