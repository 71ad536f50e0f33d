"""Working points of a replica: how much prefill and decode one iteration does, and its time.

The program plans the share of time that replicas spend in each mode. The paper's replica
has two: *mixed* (one chunk of C prompt tokens beside B - 1 decodes, in tau seconds) and
*solo* (B decodes, in 1/gamma seconds).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sluice.model.law import IterationLaw


@dataclass(frozen=True, slots=True)
class Mode:
    """One working point."""

    chunk_tokens: float
    """Prompt tokens prefilled per iteration; 0: decode only."""
    batch: float
    """Sequences decoding beside the chunk."""
    seconds: float
    """Time of one iteration."""

    @property
    def mixed(self) -> bool:
        """Whether the replica carries a prefill."""
        return self.chunk_tokens > 0

    @property
    def prefill_rate(self) -> float:
        """Prompt tokens per second of one replica in this mode."""
        return self.chunk_tokens / self.seconds

    @property
    def decode_rate(self) -> float:
        """Decode steps per second of one replica in this mode, all slots taken."""
        return self.batch / self.seconds

    def __str__(self) -> str:
        return f"chunk {self.chunk_tokens:g}, batch {self.batch:g}"

    def fault(self) -> str | None:
        """What is wrong with the point, or None."""
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            return f"iteration time is {self.seconds}, must be above 0"
        if not (math.isfinite(self.chunk_tokens) and self.chunk_tokens >= 0):
            return f"chunk is {self.chunk_tokens}, must be at least 0"
        if not (math.isfinite(self.batch) and self.batch >= 0):
            return f"batch is {self.batch}, must be at least 0"
        return None


def modes_of_law(law: IterationLaw, slots: int, chunk_tokens: int, batched_token_budget: int) -> tuple[Mode, Mode]:
    """The paper's two modes of one law at its full batch: mixed, solo.

    The engine's token budget holds the decodes of the batch too, so the chunk is what the
    budget leaves beside B - 1 decodes, at most ``chunk_tokens``.
    """
    chunk = min(chunk_tokens, batched_token_budget - (slots - 1))
    return (
        Mode(chunk, slots - 1, law.mixed(chunk, slots)),
        Mode(0, slots, law.solo(slots)),
    )
