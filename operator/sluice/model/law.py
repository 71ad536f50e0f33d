"""How long one engine iteration takes (model paper 2602.02987, section 2.2, equations (1)-(3)).

An iteration runs the decode step of every sequence in the batch and, when a prompt is
being prefilled, one chunk of prompt tokens beside them. A replica that carries a chunk
is *mixed*, one that only decodes is *solo*.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationLaw:
    """The iteration-time law of one (model, accelerator, engine, parallelism).

    The paper's law at its operating batch has ``per_sequence_seconds = 0``; the
    four-parameter law ``c0 + c1*B + a*max(0, C - b0)`` sets it to ``c1`` and the mixed
    base to ``c0 - a*b0``.
    """

    solo_seconds: float
    """Decode-only iteration before the share per sequence, seconds."""
    mixed_base_seconds: float
    """Mixed iteration extrapolated to a chunk of zero tokens, seconds."""
    per_token_seconds: float
    """Growth of the mixed iteration per prompt token in the chunk, seconds/token."""
    per_sequence_seconds: float = 0.0
    """Growth of either iteration per sequence in the batch, seconds/sequence."""

    def solo(self, sequences: float) -> float:
        """Seconds of one decode-only iteration with ``sequences`` in the batch."""
        return self.solo_seconds + self.per_sequence_seconds * sequences

    def mixed(self, chunk_tokens: float, sequences: float) -> float:
        """Seconds of one iteration that prefills ``chunk_tokens`` beside the batch.

        Never below the solo time: under the knee the straight line would make a mixed
        iteration faster than a decode-only one.
        """
        line = self.mixed_base_seconds + self.per_token_seconds * chunk_tokens
        return max(self.solo_seconds, line) + self.per_sequence_seconds * sequences

    @property
    def knee_tokens(self) -> float:
        """Chunk size below which prefill is free: where the mixed line meets the solo time."""
        if self.per_token_seconds == 0:
            return 0.0
        return max(0.0, (self.solo_seconds - self.mixed_base_seconds) / self.per_token_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPoint:
    """One measured iteration: so many prompt tokens beside so many decodes of so much context took so long."""

    chunk_tokens: int
    batch: int
    context_tokens: int
    """Mean context of a decoding sequence."""
    seconds: float
