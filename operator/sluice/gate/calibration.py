"""How many tokens the gate's estimates stand for, by the engines' own counts.

The gate sees a body's length and divides by bytes per token. Engines count prompt tokens as
they finish them. Over enough of them the ratio of both corrects the estimates: of the whole
fleet, for engines count by model and not by class.
"""

from __future__ import annotations

ENOUGH_TOKENS = 20_000.0
"""Estimated tokens between two corrections: some hundred prompts."""
SMOOTHING = 0.5
"""Share of what a correction would change at once."""
LEAST, MOST = 0.25, 4.0
"""A correction beyond these says that the counts are of something else."""


class Calibration:
    """The factor on every estimate."""

    def __init__(self) -> None:
        self.factor = 1.0
        self._estimated = 0.0
        self._counted = 0.0

    def add(self, estimated: float, counted: float) -> None:
        """Prompts that were estimated at so many tokens were counted as so many."""
        self._estimated += estimated
        self._counted += counted
        if self._estimated < ENOUGH_TOKENS:
            return
        ratio = self._counted / self._estimated
        self._estimated = self._counted = 0.0
        if LEAST <= ratio <= MOST:
            corrected = self.factor * (1.0 + SMOOTHING * (ratio - 1.0))
            self.factor = min(MOST, max(LEAST, corrected))
