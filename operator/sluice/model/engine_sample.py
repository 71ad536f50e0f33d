"""What the engines of one pool did over one window: enough to see whether the law still holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSample:
    """Means over a window and over the pool's replicas; rates are of one replica."""

    at_seconds: float
    """End of the window, seconds since the epoch."""
    inter_token_seconds: float
    """Mean time between two tokens of an answer."""
    running: float
    """Mean sequences in the batch."""
    generation_rate: float
    """Output tokens per second."""
    prompt_rate: float
    """Computed prompt tokens per second, cached ones left out."""
    prompt_tokens: float
    """Mean computed prompt tokens of a request."""
    iteration_rate: float | None = None
    """Iterations per second, where the engine counts them."""
    prefill_seconds: float | None = None
    """Mean time from a prompt's start to its first token, where the engine tells."""
