"""Measured values as they enter the loop: each with its source and its age.

A sample that is absent is not zero. What could not be measured is a ``Gap`` that says
why, and every consumer has to choose what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Signal(StrEnum):
    """What the loop measures per class, or per pool where it says so."""

    OFFERED_RATE = "OfferedRate"
    """First attempts per second, refusals included, of the whole fleet."""
    ADMITTED_RATE = "AdmittedRate"
    """Requests per second that reached a replica."""
    REFUSED_RATE = "RefusedRate"
    """Requests per second refused by our limits."""
    COMPLETED_RATE = "CompletedRate"
    """Answers completed per second, as engines count them: clients that went away are not among them."""
    IN_FLIGHT = "InFlight"
    """Requests inside the data plane and the engines, mean over the window."""
    PROMPT_TOKENS = "PromptTokens"
    """Mean prompt tokens of a request, cached ones included."""
    UNCACHED_PROMPT_TOKENS = "UncachedPromptTokens"
    """Mean prompt tokens that had to be computed."""
    OUTPUT_TOKENS = "OutputTokens"
    """Mean output tokens of a completed request."""
    TTFT = "TTFT"
    """Mean time to first token, seconds."""
    TTFT_WITHIN = "TTFTWithin"
    """Share of requests whose first token kept the class's promise, 0..1."""
    TPOT = "TPOT"
    """Mean time per output token after the first, seconds."""
    READY_REPLICAS = "ReadyReplicas"
    """Replicas of a pool that can serve."""


class Source(StrEnum):
    """Where a value came from; shown in status beside the value."""

    ENVOY = "Envoy"
    ENDPOINT_PICKER = "EndpointPicker"
    GATE = "Gate"
    VLLM = "vLLM"
    SGLANG = "SGLang"
    PODS = "Pods"
    ENDPOINTS = "Endpoints"
    ENDPOINT_SLICES = "EndpointSlices"
    DEPLOYMENTS = "Deployments"
    PRIOR = "Prior"
    """Nothing measured it: the user's declaration."""
    OVERRIDE = "Override"
    """A what-if given on the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured number."""

    value: float
    at_seconds: float
    """When it was true, seconds since the epoch."""
    source: Source

    def age_seconds(self, now: float) -> float:
        """Age at ``now``, never negative (clocks of two machines differ)."""
        return max(0.0, now - self.at_seconds)


class GapReason(StrEnum):
    """Why there is no sample."""

    NO_SERIES = "NoSeries"
    """The source answered, and knows no such series."""
    NOT_A_NUMBER = "NotANumber"
    """The source answered NaN or infinity: no traffic in the window, or a division by zero."""
    STALE = "Stale"
    """The newest point is older than the fleet's maximum age."""
    UNREACHABLE = "Unreachable"
    """The source did not answer in time, or refused."""
    TOO_YOUNG = "TooYoung"
    """The series exists, with fewer points in the window than a rate needs."""
    NOT_CONFIGURED = "NotConfigured"
    """No source is declared or possible for this signal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Why a signal has no sample, source by source in the order they were asked."""

    signal: Signal
    tried: tuple[tuple[Source, GapReason], ...]
    detail: str = ""
