"""How many tokens the gate's estimates stand for, class by class, by the engines' own counts.

The gate sees a body's length and divides by bytes per token. Engines count prompt tokens as
they finish them, of all classes together. Where the mix of classes changes from one stretch of
traffic to the next, the counts tell the classes apart: each correction moves the factors as
little as explains the count (Kaczmarz 1937, the normalised least mean squares of filters).
Where the mix never changes, the sum is right, which is what budgets rest on.
"""

from __future__ import annotations

from collections.abc import Mapping

ENOUGH_TOKENS = 20_000.0
"""Estimated tokens between two corrections: some hundred prompts."""
SMOOTHING = 0.5
"""Share of what a correction would change at once."""
LEAST, MOST = 0.25, 4.0
"""A correction beyond these says that the counts are of something else."""


class Calibration:
    """The factor on every class's estimates."""

    def __init__(self) -> None:
        self.factors: dict[str, float] = {}
        self._estimated: dict[str, float] = {}
        self._counted = 0.0

    def factor(self, name: str) -> float:
        """Times the estimate of a class's prompt."""
        return self.factors.get(name, 1.0)

    def add(self, estimated: Mapping[str, float], counted: float) -> None:
        """Prompts that were estimated at so many tokens, by class, were counted as so many in all."""
        for name, tokens in estimated.items():
            self._estimated[name] = self._estimated.get(name, 0.0) + tokens
        self._counted += counted
        total = sum(self._estimated.values())
        if total < ENOUGH_TOKENS:
            return
        if LEAST <= self._counted / total <= MOST:
            self._correct(self._counted - total)
        self._estimated, self._counted = {}, 0.0

    def _correct(self, missing: float) -> None:
        """Spread what the estimates missed over the classes, those with most tokens first."""
        square = sum(tokens * tokens for tokens in self._estimated.values())
        for name, tokens in self._estimated.items():
            corrected = self.factor(name) * (1.0 + SMOOTHING * missing * tokens / square)
            self.factors[name] = min(MOST, max(LEAST, corrected))
