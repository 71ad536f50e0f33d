"""What each engine did over the window, for recalibrating the iteration-time law: one query for all replicas.

Engines are told apart by the label ``instance``, which Prometheus sets to the scraped address:
``ip:port`` for Pods and for static targets. A replica that is scraped under another name has
no sample, and its pool's law stays as declared. vLLM only: other engines do not count all
that is needed. Iterations belong to the engine and are counted once per model name, so the
largest of these counters is taken and not their sum.

Prompt tokens are counted when the first token comes, whatever becomes of the request then; the
histograms of finished requests only tell which share of them had to be computed, or what
clients that went away had cost would be missed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sluice.model.engine_sample import EngineSample
from sluice.observe.prometheus import PrometheusPort, QueryError
from sluice.observe.promql import Readings, Shape, Term, query, readings

_INSTANCE = "instance"


def _pair(name: str, metric: str) -> tuple[Term, ...]:
    """Sum and number of a histogram's observations."""
    return tuple(Term(name=f"{name}_{part}", metric=f"{metric}_{part}", key=_INSTANCE) for part in ("sum", "count"))


TERMS = (
    Term(name="generated", metric="vllm:generation_tokens_total", key=_INSTANCE, dated=True),
    Term(name="running", metric="vllm:num_requests_running", key=_INSTANCE, shape=Shape.MEAN),
    Term(name="iterations", metric="vllm:iteration_tokens_total_count", key=_INSTANCE, shape=Shape.LARGEST_RATE),
    *_pair("gap", "vllm:inter_token_latency_seconds"),
    Term(name="prompted", metric="vllm:prompt_tokens_total", key=_INSTANCE),
    *_pair("prompt", "vllm:request_prompt_tokens"),
    *_pair("computed", "vllm:request_prefill_kv_computed_tokens"),
    *_pair("prefill", "vllm:request_prefill_time_seconds"),
)


async def engine_samples(
    prometheus: PrometheusPort,
    addresses: Sequence[str],
    now: float,
    *,
    window_seconds: float,
    maximum_age_seconds: float,
) -> Mapping[str, EngineSample]:
    """The sample of every replica that has one, by address; empty where Prometheus does not answer."""
    if not addresses:
        return {}
    text = query(TERMS, addresses, window_seconds=window_seconds, maximum_age_seconds=maximum_age_seconds)
    try:
        found = readings(await prometheus.query(text, now))
    except QueryError:
        return {}  # the observer's own queries tell that Prometheus is away
    samples = {address: _sample(found, address) for address in addresses}
    return {address: sample for address, sample in samples.items() if sample is not None}


def _sample(found: Readings, address: str) -> EngineSample | None:
    """One replica's sample; None where a needed series is missing or stood still."""
    at_seconds = found.newest.get((address, "generated"))
    inter_token, prompt = _mean(found, address, "gap"), _mean(found, address, "computed")
    generated, running = found.value(address, "generated"), found.value(address, "running")
    if at_seconds is None or inter_token is None or generated is None or running is None:
        return None
    return EngineSample(
        at_seconds=at_seconds,
        inter_token_seconds=inter_token,
        running=running,
        generation_rate=generated,
        prompt_rate=(found.value(address, "prompted") or 0.0) * _computed_share(found, address),
        prompt_tokens=prompt or 0.0,
        iteration_rate=found.value(address, "iterations") or None,
        prefill_seconds=_mean(found, address, "prefill"),
    )


def _computed_share(found: Readings, address: str) -> float:
    """Share of prompt tokens that no prefix cache had; 1 where that is not told."""
    prompt, computed = found.value(address, "prompt_sum"), found.value(address, "computed_sum")
    return min(1.0, computed / prompt) if prompt and computed is not None else 1.0


def _mean(found: Readings, address: str, name: str) -> float | None:
    total, count = found.value(address, f"{name}_sum"), found.value(address, f"{name}_count")
    if total is None or not count:
        return None
    mean = total / count
    return mean if math.isfinite(mean) else None
