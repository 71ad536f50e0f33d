"""IterationProfile (``iprof``): the measured iteration-time law of one model, accelerator, engine and parallelism.

Integer nanoseconds: the growth per prompt token is tens of microseconds, and rounding it
to whole microseconds would cost the accuracy that the fit has.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sluice.api.base import Declared, Reported, Resource, Rule, list_map
from sluice.api.conditions import Condition
from sluice.model.law import IterationLaw
from sluice.model.law import MeasuredPoint as WorkingPoint

NANOSECONDS = 1_000_000_000
ITERATION_LIMIT_NANOSECONDS = 100 * NANOSECONDS
TOKENS_LIMIT = 10_000_000
BATCH_LIMIT = 65_536


class MeasuredPoint(Declared):
    """One measured working point."""

    chunk_tokens: int = Field(ge=0, le=TOKENS_LIMIT, description="Prompt tokens in the iteration; 0: decode only.")
    batch: int = Field(ge=0, le=BATCH_LIMIT, description="Sequences that decode in the iteration.")
    context_tokens: int = Field(ge=0, le=TOKENS_LIMIT, description="Mean context per decoding sequence, tokens.")
    nanoseconds: int = Field(ge=1, le=ITERATION_LIMIT_NANOSECONDS, description="Measured time of one iteration.")


class Fit(Declared):
    """What the law was fitted on, and how well it fits. Recorded for people; planning reads the law alone."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.minimumBatch <= self.maximumBatch", "minimumBatch must not exceed maximumBatch"),
        Rule(
            "self.minimumChunkTokens <= self.maximumChunkTokens",
            "minimumChunkTokens must not exceed maximumChunkTokens",
        ),
    )

    minimum_batch: int = Field(ge=1, le=BATCH_LIMIT, description="Smallest batch measured, sequences.")
    maximum_batch: int = Field(ge=1, le=BATCH_LIMIT, description="Largest batch measured, sequences.")
    minimum_chunk_tokens: int = Field(ge=0, le=TOKENS_LIMIT, description="Smallest chunk measured, tokens.")
    maximum_chunk_tokens: int = Field(ge=0, le=TOKENS_LIMIT, description="Largest chunk measured, tokens.")
    context_tokens: int | None = Field(
        default=None, ge=0, le=TOKENS_LIMIT, description="Mean context per sequence during the measurement, tokens."
    )
    r_squared_parts_per_million: int | None = Field(
        default=None, ge=0, le=1_000_000, description="Coefficient of determination of the fit times a million."
    )
    samples: int | None = Field(default=None, ge=1, le=1_000_000_000, description="Measured iterations behind the fit.")


class Provenance(Declared):
    """Where the figures come from. Recorded for people."""

    measured_time: str | None = Field(default=None, max_length=32, description="When it was measured, RFC 3339.")
    tool: str | None = Field(default=None, max_length=128, description="What measured it, with its version.")
    source: str | None = Field(
        default=None, max_length=512, description="Publication, data set or machine that the figures come from."
    )
    licence: str | None = Field(
        default=None, max_length=64, description="Licence of the source, SPDX where it has one."
    )


class IterationProfileSpec(Declared):
    """The law of one iteration.

    It takes soloNanoseconds + perSequenceNanoseconds x B when it decodes B sequences only, and mixedBaseNanoseconds +
    perTokenNanoseconds x C + perSequenceNanoseconds x B, but never less, when it also prefills C prompt tokens.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.mixedBaseNanoseconds) != has(self.kneeTokens)",
            "give exactly one of mixedBaseNanoseconds and kneeTokens: either follows from the other",
        ),
        Rule(
            "self.planFrom == 'Law' || (has(self.points) && self.points.exists(point, point.chunkTokens > 0) "
            "&& self.points.exists(point, point.batch > 0))",
            "planFrom Points needs points: one that prefills (chunkTokens above 0) and one that decodes "
            "(batch above 0)",
        ),
    )

    model: str = Field(min_length=1, max_length=253, description="Model the engine served when it was measured.")
    accelerator: str = Field(min_length=1, max_length=128, description="Accelerator, for example H100-SXM-80GB.")
    engine: str | None = Field(default=None, max_length=128, description="Engine and version, for example vLLM 0.11.")
    tensor_parallel: int = Field(default=1, ge=1, le=1024, description="Accelerators that one engine spans.")
    solo_nanoseconds: int = Field(
        ge=1,
        le=ITERATION_LIMIT_NANOSECONDS,
        description="Decode-only iteration before the share per sequence, nanoseconds.",
    )
    mixed_base_nanoseconds: int | None = Field(
        default=None,
        ge=-ITERATION_LIMIT_NANOSECONDS,
        le=ITERATION_LIMIT_NANOSECONDS,
        description="Mixed iteration extrapolated to a chunk of zero tokens, nanoseconds. Give this or kneeTokens.",
    )
    knee_tokens: int | None = Field(
        default=None,
        ge=0,
        le=TOKENS_LIMIT,
        description="Chunk below which prefill costs nothing: where the mixed line meets the solo time. Give this or "
        "mixedBaseNanoseconds.",
    )
    per_token_nanoseconds: int = Field(
        ge=1, le=NANOSECONDS, description="Growth of a mixed iteration per prompt token in the chunk, nanoseconds."
    )
    per_sequence_nanoseconds: int = Field(
        default=0,
        ge=0,
        le=NANOSECONDS,
        description="Growth of either iteration per sequence in the batch, nanoseconds. 0: the law is "
        "meant for one batch size.",
    )
    fit: Fit | None = Field(
        default=None, description="Range, quality and size of the measurement. Recorded for people."
    )
    provenance: Provenance | None = Field(default=None, description="When and with what it was measured. For people.")
    plan_from: Literal["Law", "Points"] = Field(
        default="Law",
        description="Law: plans use the law at the pool's slots and chunk. Points: plans choose among the measured "
        "working points that the engine can run, and say the best chunk and batch; the law still serves the gate.",
    )
    points: tuple[MeasuredPoint, ...] = Field(
        default=(),
        max_length=2048,
        description="Measured working points. Plans are made with them where planFrom says so.",
        json_schema_extra=list_map("chunkTokens", "batch", "contextTokens"),
    )

    def table(self) -> tuple[WorkingPoint, ...]:
        """The measured points to plan with, in seconds; none where the law plans."""
        if self.plan_from == "Law":
            return ()
        return tuple(
            WorkingPoint(
                chunk_tokens=point.chunk_tokens,
                batch=point.batch,
                context_tokens=point.context_tokens,
                seconds=point.nanoseconds / NANOSECONDS,
            )
            for point in self.points
        )

    def law(self) -> IterationLaw:
        """The law in seconds."""
        knee_cost = self.per_token_nanoseconds * (self.knee_tokens or 0)
        base = self.mixed_base_nanoseconds
        return IterationLaw(
            solo_seconds=self.solo_nanoseconds / NANOSECONDS,
            mixed_base_seconds=(self.solo_nanoseconds - knee_cost if base is None else base) / NANOSECONDS,
            per_token_seconds=self.per_token_nanoseconds / NANOSECONDS,
            per_sequence_seconds=self.per_sequence_nanoseconds / NANOSECONDS,
        )


class ObservedLaw(Reported):
    """The law as one pool's engines keep it while serving, beside the declared one."""

    fleet: str = Field(max_length=253, description="InferenceFleet of the pool, in the profile's namespace.")
    pool: str = Field(max_length=63, description="The pool.")
    solo_nanoseconds: int = Field(ge=0, description="Observed soloNanoseconds.")
    mixed_base_nanoseconds: int = Field(description="Observed mixedBaseNanoseconds.")
    per_token_nanoseconds: int = Field(ge=0, description="Observed perTokenNanoseconds.")
    per_sequence_nanoseconds: int = Field(ge=0, description="Observed perSequenceNanoseconds.")
    drift_permille: int = Field(
        description="How much slower (above 0) or faster iterations are at the pool's slots and chunk, permille."
    )
    samples: int = Field(ge=0, description="Samples behind it when it was written.")

    @classmethod
    def of(cls, fleet: str, pool: str, law: IterationLaw, *, drift: float, samples: int) -> ObservedLaw:
        """From the law in seconds."""
        return cls(
            fleet=fleet,
            pool=pool,
            solo_nanoseconds=round(law.solo_seconds * NANOSECONDS),
            mixed_base_nanoseconds=round(law.mixed_base_seconds * NANOSECONDS),
            per_token_nanoseconds=round(law.per_token_seconds * NANOSECONDS),
            per_sequence_nanoseconds=round(law.per_sequence_seconds * NANOSECONDS),
            drift_permille=round(drift * 1000),
            samples=samples,
        )


class IterationProfileStatus(Reported):
    """What was found about the profile."""

    observed_generation: int = Field(default=0, ge=0, description="Generation of the spec that was read last.")
    conditions: tuple[Condition, ...] = Field(
        default=(), max_length=16, description="Accepted and Ready.", json_schema_extra=list_map("type")
    )
    observed: tuple[ObservedLaw, ...] = Field(
        default=(),
        max_length=256,
        description="The law as it is observed while serving, one entry a pool.",
        json_schema_extra=list_map("fleet", "pool"),
    )


class IterationProfileResource(Resource):
    """The measured iteration-time law of one model, accelerator, engine and parallelism."""

    api_version: Literal["sluice.dev/v1alpha1"] = "sluice.dev/v1alpha1"
    kind: Literal["IterationProfile"] = "IterationProfile"
    spec: IterationProfileSpec
    status: IterationProfileStatus = IterationProfileStatus()
