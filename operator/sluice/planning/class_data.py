"""The classes' numbers as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sluice.planning.inputs import ClassInput
from sluice.planning.lazy import lazy
from sluice.planning.program import Vector


@dataclass(frozen=True)
class ClassData:
    """The classes' numbers as arrays, one entry per class."""

    rate: Vector
    spread: Vector
    prompt: Vector
    uncached: Vector
    output: Vector
    steps: Vector
    theta: Vector
    prompt_value: Vector
    """Money for a prefilled prompt."""
    output_value: Vector
    """Money for a decoded answer."""

    @classmethod
    def of(cls, classes: Sequence[ClassInput]) -> ClassData:
        """Gather the numbers of ``classes``."""
        table = np.array(
            [
                (
                    entry.rate,
                    entry.rate_spread,
                    entry.prompt_tokens,
                    entry.uncached_prompt_tokens,
                    entry.output_tokens,
                    entry.decode_steps,
                    entry.abandonment_rate,
                    entry.prompt_token_price * entry.prompt_tokens,
                    entry.output_token_price * entry.output_tokens,
                )
                for entry in classes
            ]
        ).T
        return cls(*np.ascontiguousarray(table))

    @lazy
    def value(self) -> Vector:
        """Money for a complete request (the paper's w)."""
        return self.prompt_value + self.output_value

    @lazy
    def high(self) -> Vector:
        """Rate at the high end of its box: what promises must hold for."""
        return self.rate * (1 + self.spread)
