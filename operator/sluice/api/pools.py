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


class ExternalSpec(Declared):
    """An API that is paid per token: it has no capacity of ours to plan."""

    rules: ClassVar[tuple[Rule, ...]] = ()

    prompt_per_million_tokens: Money = Field(
        description='Money it costs per million prompt tokens: a decimal string such as "0.30".'
    )
    output_per_million_tokens: Money = Field(
        description='Money it costs per million output tokens: a decimal string such as "1.20".'
    )
    first_token_milliseconds: int = Field(
        default=0, ge=0, le=3_600_000, description="Its mean time to first token, milliseconds; TTFT promises count it."
    )
    token_microseconds: int | None = Field(
        default=None,
        ge=1,
        le=3_600_000_000,
        description="Its mean time per output token, microseconds. Absent: unknown, and left out of TPOT indicators.",
    )


class PoolSpec(Declared):
    """Identical replicas: same accelerator, model and engine settings; or an external API."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.external) || has(self.podSelector) != has(self.endpoints)",
            "give exactly one of podSelector and endpoints: replicas are either selected Pods or listed addresses",
        ),
        Rule(
            "has(self.external) || (has(self.profileRef) && has(self.slots) && has(self.chunkTokens))",
            "a pool of replicas needs profileRef, slots and chunkTokens",
        ),
        Rule(
            "!has(self.external) || !(has(self.podSelector) || has(self.profileRef) || has(self.slots) "
            "|| has(self.chunkTokens) || has(self.batchedTokenBudget) || has(self.costPerHour) "
            "|| has(self.kvTokenCapacity))",
            "an external pool is paid per token and has no replicas: remove podSelector, profileRef, slots, "
            "chunkTokens, batchedTokenBudget, costPerHour and kvTokenCapacity",
        ),
        Rule(
            "self.decodePlacement == 'AnyReplica' || "
            "!(has(self.kvTransferNanosecondsPerToken) || has(self.kvTransferCostPerMillionTokens))",
            "a KV transfer needs decodePlacement AnyReplica: on the same replica nothing moves",
        ),
        Rule(
            "!has(self.batchedTokenBudget) || !has(self.chunkTokens) || self.chunkTokens <= self.batchedTokenBudget",
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
        description="The replicas are these addresses. Give this or podSelector. With external: where the API is.",
        json_schema_extra=list_map("address", "port"),
    )
    backend_ref: BackendReference | None = Field(
        default=None, description="What routes send the pool's share to. Required with dataPlane.kind EnvoyGateway."
    )
    external: ExternalSpec | None = Field(
        default=None,
        description="The pool is an API that is paid per token: it takes what is worth more than it costs.",
    )
    profile_ref: NamedReference | None = Field(
        default=None,
        description="IterationProfile of the replicas, in the fleet's namespace. Required but for an external pool.",
    )
    slots: int | None = Field(
        default=None,
        ge=1,
        le=BATCH_LIMIT,
        description="Sequences in one replica's running batch (vLLM: --max-num-seqs). Required but for an external "
        "pool.",
    )
    chunk_tokens: int | None = Field(
        default=None,
        ge=1,
        le=TOKENS_LIMIT,
        description="Prompt tokens prefilled per mixed iteration. Required but for an external pool.",
    )
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
        "so decoding may happen elsewhere in the pool. Plans differ where moving takes time or money, and where KV "
        "memory or a class's TPOT binds: on the same replica all classes share one time per token.",
    )
    kv_transfer_nanoseconds_per_token: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000_000,
        description="AnyReplica: time that a decode slot is held per prompt token while the KV cache moves to it, "
        "nanoseconds. Absent: none.",
    )
    kv_transfer_cost_per_million_tokens: Money | None = Field(
        default=None,
        description='AnyReplica: money per million prompt tokens whose KV cache moves, such as "0.01". Absent: none.',
    )
    observed_law: Literal["Report", "Use"] = Field(
        default="Report",
        description="Report: the law that is observed while serving stands in the profile's status, and a condition "
        "tells when it has drifted. Use: plans are made with it.",
    )
    cost_per_hour: Money | None = Field(
        default=None,
        description='Money per replica and hour, such as "2.49". Weighed with planning.chargeReplicas.',
    )
    kv_token_capacity: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Tokens that one replica's KV cache holds: prompts and answers of all its sequences. Absent: slots "
        "bind first.",
    )
