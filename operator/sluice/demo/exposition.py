"""What a simulated replica counts, under vLLM's own metric names, as Prometheus text.

Names, labels and bucket bounds are those of vLLM's V1 engine
(https://docs.vllm.ai/en/stable/usage/metrics.html, ``vllm/v1/metrics/loggers.py``), so that
whoever reads a real fleet reads this one. One difference: a real engine labels its series
with the one name it was started with, this one with the name each request asked for.

Histograms take many equal observations at once: an iteration gives every sequence of
the batch the same inter-token latency.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from sluice.demo.engine import EngineSettings

_LATENCY = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_TTFT = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
    2560,
)
_TPOT = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
_ITERATION = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384)

BLOCK_TOKENS = 16
"""Tokens of one KV block, vLLM's default."""

HISTOGRAMS: dict[str, tuple[str, tuple[float, ...]]] = {
    "time_to_first_token_seconds": ("Time to first token in seconds.", _TTFT),
    "inter_token_latency_seconds": ("Inter-token latency in seconds.", _TPOT),
    "request_time_per_output_token_seconds": ("Time per output token of a request in seconds.", _TPOT),
    "e2e_request_latency_seconds": ("End-to-end latency of a request in seconds.", _LATENCY),
    "request_queue_time_seconds": ("Time in the waiting queue in seconds.", _LATENCY),
    "request_prefill_time_seconds": ("Time in prefill in seconds.", _LATENCY),
    "request_decode_time_seconds": ("Time in decode in seconds.", _LATENCY),
    "request_inference_time_seconds": ("Time in the running batch in seconds.", _LATENCY),
    "request_prompt_tokens": ("Prompt tokens of a request.", _TOKENS),
    "request_prefill_kv_computed_tokens": ("Prompt tokens of a request that had to be computed.", _TOKENS),
    "request_generation_tokens": ("Output tokens of a request.", _TOKENS),
    "iteration_tokens_total": ("Tokens of one engine iteration.", _ITERATION),
}
"""Name after ``vllm:`` -> (help, upper bounds of the buckets)."""

_COUNTERS = {
    "prompt_tokens": "Prompt tokens processed.",
    "generation_tokens": "Output tokens generated.",
    "num_preemptions": "Sequences that lost their KV memory and were computed again.",
}


@dataclass(slots=True)
class Histogram:
    """Counts per bucket, sum and number of observations."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float, times: int = 1) -> None:
        """Count ``times`` observations of ``value``."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def lines(self, name: str, labels: str) -> list[str]:
        """Its samples in Prometheus's text format."""
        cumulated, lines = 0, []
        for bound, count in zip((*self.bounds, None), self.counts, strict=True):
            cumulated += count
            edge = "+Inf" if bound is None else repr(float(bound))
            lines.append(f'{name}_bucket{{{labels},le="{edge}"}} {cumulated}')
        return [*lines, f"{name}_sum{{{labels}}} {self.total!r}", f"{name}_count{{{labels}}} {cumulated}"]


class ModelCounts:
    """All that is counted for one served model name."""

    def __init__(self) -> None:
        self.histograms = {name: Histogram(bounds) for name, (_, bounds) in HISTOGRAMS.items()}
        self.counters = dict.fromkeys(_COUNTERS, 0)
        self.successes = {"stop": 0, "length": 0, "abort": 0}
        self.running = 0
        self.waiting = 0

    def observe(self, name: str, value: float, times: int = 1) -> None:
        """Observe into the histogram ``name``."""
        self.histograms[name].observe(value, times)

    def count(self, name: str, by: int) -> None:
        """Raise the counter ``name``."""
        self.counters[name] += by


def render(models: dict[str, ModelCounts], kv_usage: float, settings: EngineSettings) -> str:
    """The text of ``/metrics``; ``kv_usage`` is the used share of the KV cache, 0..1."""
    labels = {name: f'engine="0",model_name="{name}"' for name in models}
    lines = ["# These figures come from a simulated replica: no GPU is behind them."]

    def family(name: str, kind: str, text: str, samples: list[str]) -> None:
        lines.extend((f"# HELP vllm:{name} {text}", f"# TYPE vllm:{name} {kind}", *samples))

    for name in ("running", "waiting"):
        family(
            f"num_requests_{name}",
            "gauge",
            f"Requests {name}.",
            [f"vllm:num_requests_{name}{{{labels[m]}}} {float(getattr(c, name))}" for m, c in models.items()],
        )
    family(
        "kv_cache_usage_perc",
        "gauge",
        "KV cache usage. 1 means 100 percent usage.",
        [f"vllm:kv_cache_usage_perc{{{labels[m]}}} {kv_usage!r}" for m in models],
    )
    blocks = settings.kv_token_capacity // BLOCK_TOKENS
    info = f'block_size="{BLOCK_TOKENS}",num_gpu_blocks="{blocks}",enable_prefix_caching="False",engine="0"'
    family("cache_config_info", "gauge", "Cache configuration.", [f"vllm:cache_config_info{{{info}}} 1.0"])
    for name, text in _COUNTERS.items():
        samples = [f"vllm:{name}_total{{{labels[m]}}} {float(c.counters[name])}" for m, c in models.items()]
        family(f"{name}_total", "counter", text, samples)
    family(
        "request_success_total",
        "counter",
        "Requests that ended, by reason.",
        [
            f'vllm:request_success_total{{{labels[m]},finished_reason="{reason}"}} {float(number)}'
            for m, c in models.items()
            for reason, number in c.successes.items()
        ],
    )
    for name, (text, _) in HISTOGRAMS.items():
        samples = [line for m, c in models.items() for line in c.histograms[name].lines(f"vllm:{name}", labels[m])]
        family(name, "histogram", text, samples)
    return "\n".join(lines) + "\n"
