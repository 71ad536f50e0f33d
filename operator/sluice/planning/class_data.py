"""The classes' numbers as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from operator import attrgetter

import numpy as np

from sluice.planning.inputs import ClassInput
from sluice.planning.lazy import lazy
from sluice.planning.program import INFINITY, Indices, Vector

_FIELDS = (
    "rate", "rate_spread", "prompt_tokens", "uncached_prompt_tokens", "output_tokens", "tokens_per_step",
    "abandonment_rate", "prompt_token_price", "output_token_price",
)  # fmt: skip
_NUMBERS = attrgetter(*_FIELDS)


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
        numbers = np.fromiter(chain.from_iterable(map(_NUMBERS, classes)), np.float64).reshape(-1, len(_FIELDS))
        rate, spread, prompt, uncached, output, per_step, theta, prompt_price, output_price = numbers.T.copy()
        return cls(
            rate=rate,
            spread=spread,
            prompt=prompt,
            uncached=uncached,
            output=output,
            steps=output / per_step,
            theta=theta,
            prompt_value=prompt_price * prompt,
            output_value=output_price * output,
        )

    def of_members(self, members: Indices) -> ClassData:
        """The numbers of some classes, in their order; of all, these."""
        if len(members) == len(self.rate):
            return self
        return ClassData(*(getattr(self, field.name)[members] for field in fields(self)))

    @lazy
    def value(self) -> Vector:
        """Money for a complete request (the paper's w)."""
        return self.prompt_value + self.output_value

    @lazy
    def certain(self) -> bool:
        """Whether no rate has a box around it."""
        return not np.count_nonzero(self.spread)

    @lazy
    def high(self) -> Vector:
        """Rate at the high end of its box: what promises must hold for."""
        return self.rate if self.certain else self.rate * (1 + self.spread)

    @lazy
    def sought(self) -> Vector:
        """What may be asked for at most, as a scale, which cannot be 0: infinite of what nobody asks for."""
        return self.high if np.count_nonzero(self.high) == len(self.high) else np.where(self.high, self.high, INFINITY)
