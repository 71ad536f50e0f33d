"""What a request takes of an engine, in seconds of the engine, by what may be scarce there.

The rows of the model page, section 2.3, per request and with the measured law: an engine
that always has a prompt chunk spends the chunk's time and the sequence's part of every
iteration it is in (prefill row); one whose slots, or whose KV memory, are all taken spends
its decode steps times its share of them, and holds everybody else up while it is prefilled
(token row).
"""

from __future__ import annotations

from dataclasses import dataclass

from sluice.model.fleet import Pool

KV_SHARE = 0.9
"""Of the KV memory that a gate fills, as ``sluice.gate.engines`` has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Engine-seconds per request of mean lengths."""

    busy_seconds: float = 0.0
    """Where unfinished prefill is what keeps engines closed."""
    hold_seconds: float = 0.0
    """Where slots do."""
    memory_seconds: float = 0.0
    """Where KV memory does."""


NO_COSTS = Costs()
"""Where nobody knows the law."""


def costs_of(pool: Pool, prompt_tokens: float, output_tokens: float) -> Costs:
    """The costs of one request on a replica of ``pool``."""
    law, chunks = pool.law, prompt_tokens / pool.chunk_tokens
    resident = prompt_tokens + output_tokens / 2.0
    batch = float(pool.slots)
    if pool.kv_token_capacity:
        batch = max(1.0, min(batch, KV_SHARE * pool.kv_token_capacity / resident))
    solo, mixed = law.solo(batch), law.mixed(pool.chunk_tokens, batch)

    def taken(share: float) -> float:
        return (output_tokens * solo * share + chunks * (mixed - solo * (1.0 - share))) / pool.engines_per_replica

    busy = chunks * law.mixed(pool.chunk_tokens, 0) + output_tokens * law.per_sequence_seconds
    return Costs(
        busy_seconds=busy / pool.engines_per_replica,
        hold_seconds=taken(1.0 / pool.slots),
        memory_seconds=taken(resident / (KV_SHARE * pool.kv_token_capacity)) if pool.kv_token_capacity else 0.0,
    )
