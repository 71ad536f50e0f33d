"""A promise's row in the program, and what writing one takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sluice.planning.class_data import ClassData
from sluice.planning.pool_rows import PoolColumns
from sluice.planning.problem import Problem
from sluice.planning.program import ProgramBuilder
from sluice.planning.promises import Promise


@dataclass(frozen=True, slots=True)
class Between:
    """Where the two shares of a fairness promise are."""

    above: slice
    """Rows that keep every class below the greatest share."""
    below: slice
    low: int
    """Column of the least share."""
    high: int


@dataclass(frozen=True, slots=True)
class PromiseRow:
    """One promise in the program."""

    promise: Promise
    row: int | None
    """Its row; None where the model needs none (theta = 0, or no demand)."""
    slack: int | None
    """Column of its violation, in its own unit; None where it must hold."""
    slope: float
    """Change of the row's bound per unit of the target (0 where the target is a coefficient)."""
    between: Between | None = None
    """For fairness: the rows and columns that hold every class between two shares."""


@dataclass(frozen=True, slots=True)
class Place:
    """What every kind of promise needs to write its row."""

    builder: ProgramBuilder
    problem: Problem
    data: ClassData
    pools: tuple[PoolColumns, ...]
    elastic: bool

    def classes_of(self, promise: Promise) -> list[int]:
        """Indices of the classes a promise is about."""
        return [i for i, entry in enumerate(self.problem.classes) if promise.class_name in {None, entry.name}]

    def slack(self, promise: Promise, row: int, per_unit: float) -> int | None:
        """Add the violation of ``promise`` to ``row``: one unit of it moves the row by ``per_unit``."""
        if promise.hard and not self.elastic:
            return None
        penalty = 0.0 if promise.hard else promise.penalty
        scale = max(promise.target, 1e-3)
        column = self.builder.columns("violation", [promise.name], objective=-penalty, scale=scale)
        self.builder.entry(row, column, per_unit)
        return column

    def finished(self, row: int, i: int, weight: float) -> None:
        """Add ``weight`` times the finished requests/s of class ``i`` to ``row``."""
        for pool in self.pools:
            for position in np.flatnonzero(pool.group.classes == i):
                self.builder.entry(row, pool.served.start + int(position), weight)
                for place in np.flatnonzero(pool.waiting_classes == position):
                    self.builder.entry(row, pool.waiting.start + int(place), -weight)
