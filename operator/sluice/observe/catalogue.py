"""Which series tell which signal, source by source.

Envoy. Counted on Envoy 1.40 and 1.39 (``tests/contract/test_observe_data_plane.py`` holds it):
every attempt at an upstream ends in exactly one of ``upstream_rq_total`` (it got a
connection), ``upstream_rq_active_overflow`` (the breaker on requests),
``upstream_rq_pending_overflow`` (the breakers on connections and on waiting requests),
``upstream_cx_none_healthy`` (no endpoint) and ``upstream_rq_pending_failure_eject`` (the
connection could not be made). A retry is one more attempt and one more of
``upstream_rq_retry``, and Envoy never retries what its own breaker refused. So

    first attempts = total + both overflows + none_healthy + failure_eject - retry

counts each request once. A local rate limit refuses before the router: its 429s are in
no cluster counter and are added. ``enforced`` counts them; ``rate_limited`` would also
count what a limit in shadow mode lets through. Retries by clients are not marked in any
counter and count as new requests.

Our own gate answers before the router too: what it refuses, and what leaves its queue, is in no
cluster counter and is added. Its time to first token has the wait in it, as clients see it.

Endpoint picker (llm-d router, ``llm_d_epp_*``, label ``fairness_id``). Its older metric
names bear no class. TTFT of answers that do not stream equals their whole duration, so
only streaming ones are read.

vLLM (V1 engine) and SGLang count per served model name: only a class with a name of its
own can be told from them. vLLM's and SGLang's counters of requests count completions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sluice.model.signal import Signal, Source
from sluice.observe.promql import Shape, Term


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A signal as a sum of terms, or as a ratio of two sums."""

    dated_by: str
    """The term that must be there and whose newest point dates the result."""
    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()
    per: str | None = None
    """A term to divide by."""
    needs: tuple[str, ...] = ()
    """Further terms that must be there; all others count as zero where they are absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """The histogram that tells a share within a promise."""

    metric: str
    dated_by: str
    """The term whose newest point dates the buckets."""
    matcher: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """All that one source can tell."""

    key: str
    """The label that tells the class."""
    terms: tuple[Term, ...]
    formulas: Mapping[Signal, tuple[Formula, ...]]
    """Alternatives in order of preference (names changed between versions)."""
    first_tokens: Histogram | None = None


_CLUSTER = "envoy_cluster_name"
_LIMIT_PREFIX = "envoy_local_http_ratelimit_prefix"
LISTENER_KEY = "envoy_http_conn_manager_prefix"
LIMITED = "limited"
"""Refusals by a local rate limit, per second; its keys are stat prefixes."""
PROXIES = "proxies"
"""How many proxies have counters of the cluster."""

_GATE_CLUSTER = "proxy_cluster"
"""The gate's label for the cluster that a class's requests go to."""
_AT_THE_GATE = ("gate_refused", "gate_gone")
"""Requests that never came as far as the router."""
_FIRST_ATTEMPTS = ("total", "active_overflow", "pending_overflow", "none_healthy", "failure_eject")
_REFUSALS = ("active_overflow", "pending_overflow", LIMITED, "gate_refused")


def _counters(key: str, names: Mapping[str, str], dated: frozenset[str] = frozenset()) -> tuple[Term, ...]:
    return tuple(Term(name=name, metric=metric, key=key, dated=name in dated) for name, metric in names.items())


def _mean(numerator: str, denominator: str) -> Formula:
    return Formula(dated_by=denominator, plus=(numerator,), per=denominator, needs=(numerator,))


def _histogram(name: str, metric: str, key: str, matcher: str = "") -> tuple[Term, ...]:
    """The two terms of a histogram's mean; they are scraped together, so one of them is dated."""
    return (
        Term(name=f"{name}_sum", metric=f"{metric}_sum", key=key, matcher=matcher),
        Term(name=f"{name}_count", metric=f"{metric}_count", key=key, matcher=matcher, dated=True),
    )


ENVOY = Entry(
    key=_CLUSTER,
    terms=(
        *_counters(
            _CLUSTER,
            {
                "total": "envoy_cluster_upstream_rq_total",
                "active_overflow": "envoy_cluster_upstream_rq_active_overflow",
                "pending_overflow": "envoy_cluster_upstream_rq_pending_overflow",
                "none_healthy": "envoy_cluster_upstream_cx_none_healthy",
                "failure_eject": "envoy_cluster_upstream_rq_pending_failure_eject",
                "retry": "envoy_cluster_upstream_rq_retry",
            },
            frozenset({"total"}),
        ),
        Term(name="active", metric="envoy_cluster_upstream_rq_active", key=_CLUSTER, shape=Shape.MEAN, dated=True),
        Term(name=PROXIES, metric="envoy_cluster_upstream_rq_total", key=_CLUSTER, shape=Shape.COUNT),
        Term(name=LIMITED, metric="envoy_http_local_rate_limit_enforced", key=_LIMIT_PREFIX),
        Term(name="gate_refused", metric="sluice_gate_refused_total", key=_GATE_CLUSTER),
        Term(name="gate_gone", metric="sluice_gate_gone_total", key=_GATE_CLUSTER),
    ),
    formulas={
        Signal.OFFERED_RATE: (
            Formula(dated_by="total", plus=(*_FIRST_ATTEMPTS, LIMITED, *_AT_THE_GATE), minus=("retry",)),
        ),
        Signal.ADMITTED_RATE: (Formula(dated_by="total", plus=("total",), minus=("retry",)),),
        Signal.REFUSED_RATE: (Formula(dated_by="total", plus=_REFUSALS),),
        Signal.IN_FLIGHT: (Formula(dated_by="active", plus=("active",)),),
    },
)
FORWARDED = Formula(dated_by="total", plus=_FIRST_ATTEMPTS, minus=("retry",))
"""First attempts of a cluster, without what never reached the router."""

LISTENER = Entry(
    key=LISTENER_KEY,
    terms=_counters(
        LISTENER_KEY,
        {
            "routed": "envoy_http_rq_total",
            "no_route": "envoy_http_no_route",
            "direct": "envoy_http_rq_direct_response",
            "redirect": "envoy_http_rq_redirect",
        },
        frozenset({"routed"}),
    ),
    formulas={},
)
LISTENER_FORWARDED = Formula(dated_by="routed", plus=("routed",), minus=("no_route", "direct", "redirect"))
"""Requests that the router sent to some cluster."""
LISTENER_UNROUTED = Formula(dated_by="routed", plus=("no_route",))

GATE = Entry(
    key=_GATE_CLUSTER,
    terms=_histogram("ttft", "sluice_gate_ttft_seconds", _GATE_CLUSTER),
    formulas={Signal.TTFT: (_mean("ttft_sum", "ttft_count"),)},
    first_tokens=Histogram(metric="sluice_gate_ttft_seconds", dated_by="ttft_count"),
)

_EPP = "llm_d_epp_"
_STREAMING = 'streaming="true"'
ENDPOINT_PICKER = Entry(
    key="fairness_id",
    terms=(
        *_counters("fairness_id", {"requests": f"{_EPP}request_total"}, frozenset({"requests"})),
        Term(name="running", metric=f"{_EPP}request_running", key="fairness_id", shape=Shape.MEAN, dated=True),
        *_histogram("prompt", f"{_EPP}request_input_tokens", "fairness_id"),
        *_histogram("cached", f"{_EPP}request_cached_tokens", "fairness_id"),
        *_histogram("output", f"{_EPP}request_output_tokens", "fairness_id"),
        *_histogram("ttft", f"{_EPP}request_ttft_seconds", "fairness_id", _STREAMING),
        *_histogram("tpot", f"{_EPP}request_streaming_tpot_seconds", "fairness_id"),
    ),
    formulas={
        Signal.OFFERED_RATE: (Formula(dated_by="requests", plus=("requests",)),),
        Signal.ADMITTED_RATE: (Formula(dated_by="requests", plus=("requests",)),),
        Signal.COMPLETED_RATE: (Formula(dated_by="output_count", plus=("output_count",)),),
        Signal.IN_FLIGHT: (Formula(dated_by="running", plus=("running",)),),
        Signal.PROMPT_TOKENS: (_mean("prompt_sum", "prompt_count"),),
        Signal.UNCACHED_PROMPT_TOKENS: (
            Formula(
                dated_by="prompt_count",
                plus=("prompt_sum",),
                minus=("cached_sum",),
                per="prompt_count",
                needs=("prompt_sum", "cached_sum"),
            ),
        ),
        Signal.OUTPUT_TOKENS: (_mean("output_sum", "output_count"),),
        Signal.TTFT: (_mean("ttft_sum", "ttft_count"),),
        Signal.TPOT: (_mean("tpot_sum", "tpot_count"),),
    },
    first_tokens=Histogram(metric=f"{_EPP}request_ttft_seconds", dated_by="ttft_count", matcher=_STREAMING),
)

_MODEL = "model_name"
VLLM = Entry(
    key=_MODEL,
    terms=(
        *_counters(_MODEL, {"requests": "vllm:request_success_total"}, frozenset({"requests"})),
        Term(name="running", metric="vllm:num_requests_running", key=_MODEL, shape=Shape.MEAN, dated=True),
        Term(name="waiting", metric="vllm:num_requests_waiting", key=_MODEL, shape=Shape.MEAN),
        *_histogram("prompt", "vllm:request_prompt_tokens", _MODEL),
        *_histogram("computed", "vllm:request_prefill_kv_computed_tokens", _MODEL),
        *_histogram("output", "vllm:request_generation_tokens", _MODEL),
        *_histogram("ttft", "vllm:time_to_first_token_seconds", _MODEL),
        *_histogram("itl", "vllm:inter_token_latency_seconds", _MODEL),
        *_histogram("tpot", "vllm:request_time_per_output_token_seconds", _MODEL),
        *_histogram("old_tpot", "vllm:time_per_output_token_seconds", _MODEL),
    ),
    formulas={
        Signal.OFFERED_RATE: (Formula(dated_by="requests", plus=("requests",)),),
        Signal.ADMITTED_RATE: (Formula(dated_by="requests", plus=("requests",)),),
        Signal.COMPLETED_RATE: (Formula(dated_by="output_count", plus=("output_count",)),),
        Signal.IN_FLIGHT: (Formula(dated_by="running", plus=("running", "waiting"), needs=("waiting",)),),
        Signal.PROMPT_TOKENS: (_mean("prompt_sum", "prompt_count"),),
        Signal.UNCACHED_PROMPT_TOKENS: (_mean("computed_sum", "computed_count"),),
        Signal.OUTPUT_TOKENS: (_mean("output_sum", "output_count"),),
        Signal.TTFT: (_mean("ttft_sum", "ttft_count"),),
        # Between tokens first: a mean over tokens, as the plan means it. The second is a mean over requests.
        Signal.TPOT: (
            _mean("itl_sum", "itl_count"),
            _mean("tpot_sum", "tpot_count"),
            _mean("old_tpot_sum", "old_tpot_count"),
        ),
    },
    first_tokens=Histogram(metric="vllm:time_to_first_token_seconds", dated_by="ttft_count"),
)

SGLANG = Entry(
    key=_MODEL,
    terms=(
        *_counters(
            _MODEL,
            {
                "requests": "sglang:num_requests_total",
                "prompt_total": "sglang:prompt_tokens_total",
                "cached_total": "sglang:cached_tokens_total",
                "output_total": "sglang:generation_tokens_total",
            },
            frozenset({"requests"}),
        ),
        Term(name="running", metric="sglang:num_running_reqs", key=_MODEL, shape=Shape.MEAN, dated=True),
        Term(name="waiting", metric="sglang:num_queue_reqs", key=_MODEL, shape=Shape.MEAN),
        *_histogram("computed", "sglang:uncached_prompt_tokens_histogram", _MODEL),
        *_histogram("ttft", "sglang:time_to_first_token_seconds", _MODEL),
        *_histogram("itl", "sglang:inter_token_latency_seconds", _MODEL),
        *_histogram("old_tpot", "sglang:time_per_output_token_seconds", _MODEL),
    ),
    formulas={
        Signal.OFFERED_RATE: (Formula(dated_by="requests", plus=("requests",)),),
        Signal.ADMITTED_RATE: (Formula(dated_by="requests", plus=("requests",)),),
        Signal.COMPLETED_RATE: (Formula(dated_by="requests", plus=("requests",)),),
        Signal.IN_FLIGHT: (Formula(dated_by="running", plus=("running", "waiting"), needs=("waiting",)),),
        # Totals over requests: the histograms of lengths are off unless the server is told to keep them.
        Signal.PROMPT_TOKENS: (_mean("prompt_total", "requests"),),
        Signal.UNCACHED_PROMPT_TOKENS: (
            _mean("computed_sum", "computed_count"),
            Formula(
                dated_by="requests",
                plus=("prompt_total",),
                minus=("cached_total",),
                per="requests",
                needs=("prompt_total", "cached_total"),
            ),
        ),
        Signal.OUTPUT_TOKENS: (_mean("output_total", "requests"),),
        Signal.TTFT: (_mean("ttft_sum", "ttft_count"),),
        Signal.TPOT: (_mean("itl_sum", "itl_count"), _mean("old_tpot_sum", "old_tpot_count")),
    },
    first_tokens=Histogram(metric="sglang:time_to_first_token_seconds", dated_by="ttft_count"),
)

CATALOGUE: Mapping[Source, Entry] = {
    Source.ENVOY: ENVOY,
    Source.GATE: GATE,
    Source.ENDPOINT_PICKER: ENDPOINT_PICKER,
    Source.VLLM: VLLM,
    Source.SGLANG: SGLANG,
}

_ENGINES = (Source.ENDPOINT_PICKER, Source.VLLM, Source.SGLANG)
PREFERENCE: Mapping[Signal, tuple[Source, ...]] = {
    Signal.OFFERED_RATE: (Source.ENVOY, *_ENGINES),
    Signal.ADMITTED_RATE: (Source.ENVOY, *_ENGINES),
    Signal.REFUSED_RATE: (Source.ENVOY,),
    Signal.IN_FLIGHT: (Source.ENVOY, *_ENGINES),
    Signal.COMPLETED_RATE: _ENGINES,
    Signal.PROMPT_TOKENS: _ENGINES,
    Signal.UNCACHED_PROMPT_TOKENS: _ENGINES,
    Signal.OUTPUT_TOKENS: _ENGINES,
    Signal.TTFT: _ENGINES,
    Signal.TTFT_WITHIN: _ENGINES,
    Signal.TPOT: _ENGINES,
}
"""The built-in order of sources. Ready replicas are counted from pods, not here."""
