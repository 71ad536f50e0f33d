"""The program of a fleet whose requests stay, as a function of its paces.

A pace enters the rows (7), (10) and (16) alone, each of its coefficients in proportion to it. So the
program is stated once and then moved along with the paces. Three programs come of it:

* ``at`` given paces, which is the program that ``formulate`` states for them;
* ``relaxed``, with memory and token times as if every iteration were the fastest, and without (16).
  No plan earns more than it, at no pace, nor where decodes may move;
* ``linearised`` around paces and a plan, with the paces as columns. A pace times what is served is
  replaced by its tangent: what Newton's method would solve next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from sluice.planning.formulate import Formulation, PoolColumns, formulate
from sluice.planning.groups import equal_pools
from sluice.planning.lazy import lazy
from sluice.planning.pace import fastest, slowest, stays
from sluice.planning.problem import Problem
from sluice.planning.program import Block, Program, Vector, summed
from sluice.planning.promises import PromiseKind
from sluice.planning.solver import AT_LOWER, BASIC, Basis

_APART = sqrt(2.0)
"""Where a token time was promised, the multiple of the slowest iterations at which the program is stated: row (10)
may have no coefficient at the slowest themselves."""

_APPRECIABLE = 1e-6
"""Relative excess that no proof would take for rounding."""

_VANISHED = 1e-11
"""Relative size below which what is left of a coefficient is rounding."""


@dataclass(frozen=True)
class Paced:
    """One problem's program, and how its nonzeros grow with the paces of the groups that are tied."""

    formulation: Formulation
    """At ``stated``."""
    tied: tuple[PoolColumns, ...]
    """The groups with a pace; every vector here has one entry for each."""
    stated: Vector
    lowest: Vector
    """Their fastest iterations, seconds: no mean is below."""
    highest: Vector

    @lazy
    def timed_rows(self) -> tuple[int, ...]:
        """The rows (10)."""
        return tuple(
            entry.row
            for entry in self.formulation.promises
            if entry.row is not None and entry.promise.kind is PromiseKind.TPOT and entry.promise.class_name is not None
        )

    @lazy
    def slopes(self) -> tuple[Vector, ...]:
        """Change of every nonzero per second of one group's pace."""
        return tuple(_slopes(self.formulation, columns, self.timed_rows) for columns in self.tied)

    @classmethod
    def of(cls, problem: Problem, cuts: Sequence[float] = ()) -> Paced:
        """The program of ``problem``, in which some group must be tied."""
        groups = zip(equal_pools(problem), stays(problem), strict=True)
        timed = any(promise.kind is PromiseKind.TPOT for promise in problem.promises)
        apart = _APART if timed else 1.0
        first = formulate(
            problem, cuts=cuts, paces=[apart * slowest(group) if staying else None for group, staying in groups]
        )
        tied = tuple(columns for columns in first.pools if columns.pace is not None)
        lowest = np.array([fastest(columns.group) for columns in tied])
        highest = np.array([slowest(columns.group) for columns in tied])
        return cls(first, tied, apart * highest, lowest, highest)

    def program(self, paces: Vector) -> Program:
        """The program at ``paces``."""
        program = self.formulation.program
        entries = program.entries.copy()
        for pace, stated, slope in zip(paces.tolist(), self.stated.tolist(), self.slopes, strict=True):
            entries += (pace - stated) * slope
        there = np.abs(entries) > _VANISHED * np.abs(program.entries)
        if there.all():
            return program.with_entries(entries)
        # A class decodes exactly as fast as it was promised.
        return replace(
            program,
            entry_rows=program.entry_rows[there],
            entry_columns=program.entry_columns[there],
            entries=entries[there],
        )

    def at(self, paces: Vector) -> Formulation:
        """The formulation at ``paces``."""
        if (paces == self.stated).all():
            return self.formulation
        return self._with(self.program(paces), paces)

    def relaxed(self) -> Formulation:
        """The formulation that no plan outdoes."""
        program = self.program(self.lowest)
        free = program.row_upper.copy()
        free[self._pace_rows] = np.inf
        return self._with(replace(program, row_upper=free), self.lowest)

    def linearised(self, paces: Vector, primal: Vector) -> Program:
        """The program around ``paces`` and a plan, with the change of every pace as one more column."""
        program, count, whole = self.program(paces), len(paces), self.formulation.program
        rows, columns, entries = [program.entry_rows], [program.entry_columns], [program.entries]
        for place, slope in enumerate(self.slopes):
            change = summed(whole.entry_rows, slope * primal[whole.entry_columns], whole.rows)
            touched = np.flatnonzero(change)
            rows.append(touched)
            columns.append(np.full(len(touched), program.columns + place))
            entries.append(change[touched])
        labels = [columns_.group.name for columns_ in self.tied]
        return replace(
            program,
            column_blocks=(*program.column_blocks, Block("change of pace", program.columns, labels)),
            objective=np.append(program.objective, np.zeros(count)),
            lower=np.append(program.lower, self.lowest - paces),
            upper=np.append(program.upper, self.highest - paces),
            scale=np.append(program.scale, np.maximum(self.width, self.lowest * 1e-3)),
            entry_rows=np.concatenate(rows),
            entry_columns=np.concatenate(columns),
            entries=np.concatenate(entries),
        )

    def quickest(self, primal: Vector) -> Vector:
        """A plan with the same decodes in as short iterations as its engines' slots allow.

        The relaxed program does not tell which it takes. Where decode steps have a price all slots are full
        and nothing moves; idle engines decode too unless they cost.
        """
        primal = primal.copy()
        for columns in self.tied:
            group, engines = columns.group, primal[columns.engines]
            solo = max(
                (k for k, mode in enumerate(group.modes) if not mode.mixed and mode.batch > 0),
                key=lambda k: group.modes[k].decode_rate,
                default=None,
            )
            if solo is not None and not self.formulation.problem.charge_replicas:
                engines[solo] += max(0.0, group.replicas - float(engines.sum()))
            left = float(sum(primal[columns.decodes][k] / mode.seconds for k, mode in enumerate(group.modes)))
            for k in sorted(range(len(group.modes)), key=lambda k: (group.modes[k].seconds, group.modes[k].mixed)):
                mode = group.modes[k]
                taken = min(left, mode.decode_rate * float(engines[k]))
                primal[columns.decodes.start + k] = taken * mode.seconds
                left -= taken
        return primal

    def is_priced(self, dual: Vector) -> bool:
        """Whether memory or a promised token time has a price, so that a pace matters."""
        rows = [columns.memory_row for columns in self.tied if columns.memory_row is not None]
        return bool(dual[[*rows, *self.timed_rows]].any())

    def matters(self, dual: Vector) -> bool:
        """Whether any row with a pace has a price; where none has, no plan earns more, wherever requests decode."""
        return self.is_priced(dual) or bool(dual[self._pace_rows].any())

    def is_overfilled(self, primal: Vector, paces: Vector) -> bool:
        """Whether a plan takes more memory or more time per token at ``paces`` than there is or was promised."""
        program = self.formulation.program
        done = program.times(primal)
        for pace, stated, slope in zip(paces.tolist(), self.stated.tolist(), self.slopes, strict=True):
            done += (pace - stated) * summed(program.entry_rows, slope * primal[program.entry_columns], program.rows)
        rows = [*(columns.memory_row for columns in self.tied if columns.memory_row is not None), *self.timed_rows]
        most = program.row_upper[rows]
        return bool((done[rows] > most + _APPRECIABLE * np.maximum(most, program.row_scale[rows])).any())

    @property
    def width(self) -> Vector:
        """Seconds between the fastest and the slowest pace."""
        return self.highest - self.lowest

    def with_paces(self, basis: Basis) -> Basis:
        """A corner of a program at given paces as one of a linearised program, to start from."""
        count = self.formulation.program.columns + len(self.tied)
        return Basis(np.append(basis.columns, np.full(count - len(basis.columns), AT_LOWER)), basis.rows)

    def without_paces(self, basis: Basis) -> Basis:
        """The reverse: where a pace is held by its rows, one of them has room once the pace is given."""
        count, rows = self.formulation.program.columns, basis.rows.copy()
        for columns, status in zip(self.tied, basis.columns[count:].tolist(), strict=True):
            held = [row for row in (columns.pace_row, columns.memory_row, *self.timed_rows) if row is not None]
            if status == BASIC and (binding := [row for row in held if rows[row] != BASIC]):
                rows[binding[0]] = BASIC
        return Basis(basis.columns[:count], rows)

    @property
    def _pace_rows(self) -> list[int]:
        return [columns.pace_row for columns in self.tied if columns.pace_row is not None]

    def _with(self, program: Program, paces: Vector) -> Formulation:
        given = iter(paces.tolist())
        pools = tuple(
            columns if columns.pace is None else replace(columns, pace=next(given))
            for columns in self.formulation.pools
        )
        return replace(self.formulation, program=program, pools=pools)


def _slopes(formulation: Formulation, columns: PoolColumns, timed: Sequence[int]) -> Vector:
    """Change of every nonzero per second of the pace of ``columns``: of z and s in the rows (7), (10) and (16)."""
    data, program = formulation.data, formulation.program
    member = columns.group.classes
    leaving = member[columns.waiting_classes]
    steps, held = np.zeros(program.columns), np.zeros(program.columns)
    steps[columns.served], steps[columns.waiting] = data.steps[member], -data.steps[leaving]
    resident = data.prompt + data.output / 2
    held[columns.served] = data.steps[member] * resident[member]
    held[columns.waiting] = -data.steps[leaving] * resident[leaving]
    slopes = np.zeros(len(program.entries))
    weights = [(columns.pace_row, -steps), (columns.memory_row, held), *((row, steps) for row in timed)]
    for row, weight in weights:
        if row is not None:
            own = program.entry_rows == row
            slopes[own] = weight[program.entry_columns[own]]
    return slopes
