"""The IterationProfile manifest of a fit: what ``kubectl apply`` and ``sluice plan`` take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from sluice_profiling.choice import Choice
from sluice_profiling.laws import LawFit
from sluice_profiling.measurement import Measurement, Provenance

NANOSECONDS = 1_000_000_000
LARGEST_TABLE = 2048
"""Points the resource holds."""


def manifest(name: str, provenance: Provenance, choice: Choice, measurements: Sequence[Measurement]) -> str:
    """The manifest as YAML, the reason for the law as a comment above; ValueError where no plan can rest on it."""
    _refuse_free_work(choice.chosen)
    document = {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "IterationProfile",
        "metadata": {"name": name},
        "spec": _spec(provenance, choice.chosen, measurements),
    }
    comments = [choice.why, *(_told(parameter.name, choice.chosen) for parameter in choice.chosen.parameters)]
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return "".join(f"# {line}\n" for line in comments) + text


def _refuse_free_work(fit: LawFit) -> None:
    """A law by which prefill or decoding costs nothing comes of noise: a plan would admit without end by it."""
    law = fit.law
    found = (
        ("a prompt token costs", law.per_token_seconds, "a larger --largest-chunk"),
        ("a decode-only iteration takes", law.solo_seconds, "more batches"),
    )
    for what, seconds, remedy in found:
        if round(seconds * NANOSECONDS) < 1:
            raise ValueError(
                f"by this fit {what} {seconds * 1e6:.4g} us, which cannot be: the {fit.points} points "
                f"(mean error {fit.mean_error:.1%}) are too noisy or too close together; measure with {remedy} or "
                "more --minutes. The raw rows stay, and no manifest was written"
            )


def _told(name: str, fit: LawFit) -> str:
    parameter = fit.of(name)
    unit, scale = ("tokens", 1.0) if name.endswith("_tokens") else ("us", 1e6)
    label = name.removesuffix("_tokens").removesuffix("_seconds").replace("_", " ")
    return f"{label}: {parameter.value * scale:.4g} {unit}, within {parameter.half_width * scale:.2g} {unit}"


def _spec(provenance: Provenance, fit: LawFit, measurements: Sequence[Measurement]) -> dict[str, Any]:
    law, validity = fit.law, fit.validity
    return {
        "model": provenance.model,
        "accelerator": provenance.accelerator,
        "engine": provenance.engine,
        "tensorParallel": provenance.tensor_parallel,
        "soloNanoseconds": round(law.solo_seconds * NANOSECONDS),
        "mixedBaseNanoseconds": round(law.mixed_base_seconds * NANOSECONDS),
        "perTokenNanoseconds": round(law.per_token_seconds * NANOSECONDS),
        "perSequenceNanoseconds": round(law.per_sequence_seconds * NANOSECONDS),
        "fit": {
            "minimumBatch": validity.minimum_batch,
            "maximumBatch": validity.maximum_batch,
            "minimumChunkTokens": validity.minimum_chunk_tokens,
            "maximumChunkTokens": validity.maximum_chunk_tokens,
            "contextTokens": validity.context_tokens,
            "rSquaredPartsPerMillion": round(fit.r_squared * 1_000_000),
            "samples": sum(entry.samples for entry in measurements),
        },
        "provenance": _provenance(provenance),
        "points": _points(measurements),
    }


def _provenance(provenance: Provenance) -> dict[str, str]:
    measured_with = ", ".join(text for text in (provenance.libraries, provenance.driver) if text)
    source = "; ".join(text for text in (provenance.source, provenance.method, measured_with) if text)
    told = {
        "measuredTime": provenance.measured_time,
        "tool": "sluice profile",
        "source": source[:512],
        "licence": provenance.licence,
    }
    return {key: text for key, text in told.items() if text}


def _points(measurements: Sequence[Measurement]) -> list[dict[str, int]]:
    """The measured points; the last of several at one place, as a resumed run measures no place twice."""
    unique = {entry.point: entry.seconds for entry in measurements}
    return [
        {
            "chunkTokens": point.chunk_tokens,
            "batch": point.batch,
            "contextTokens": point.context_tokens,
            "nanoseconds": round(seconds * NANOSECONDS),
        }
        for point, seconds in sorted(unique.items())[:LARGEST_TABLE]
    ]
