"""A corner of a program, computed from its basis.

Which columns and rows lie at which bound says everything about a corner; one linear system
gives its values, another its prices. Most of that system is trivial: a class at home in one
pool is served as far as its row (1) allows, and rows that do not bind drop out. What is left,
the kernel, has the size of the pools and not of the classes, and is solved densely. (Where a
handful of rows bind, telling the trivial ones apart takes longer than solving them along.)

So a guessed corner is tried without a solver (``opening``), the corner of the last pass moves
along with the numbers (``sensitivity``), and where the certificate wants more than the solver's
tolerances its corner is computed again, with two rounds of refinement in extended precision.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sluice.model.plan import Verdict
from sluice.planning.program import Indices, Program, Vector, summed
from sluice.planning.solver import AT_UPPER, BASIC, Basis, Solution

LARGEST_KERNEL = 2000
"""Rows above which the dense system would take longer than it is worth."""
_FEW = 32
"""Rows that bind up to which all of them are the kernel."""
_ROUNDS = 2
_SNAP = 1e-13
"""Relative size below which a basic value is rounding of zero."""


class Corner(NamedTuple):
    """A basis of one program, scaled, in two parts: rows with one basic column each, if told apart, and the kernel."""

    program: Program
    place: Basis
    lone_rows: Indices
    """The rows with one basic column."""
    lone_columns: Indices
    """These columns, in the order of their rows."""
    lone: Vector
    """Their coefficients there."""
    kernel_rows: Indices
    """The other rows that bind."""
    kernel_columns: Indices
    """The other basic columns, as many."""
    inverse: Vector
    """Of the matrix of these rows and columns."""

    def moved_by(self, row: int) -> tuple[Vector, Vector]:
        """Change of all columns and of all row activities per unit of ``row``'s bound."""
        target = np.zeros(self.program.rows)
        target[row] = 1.0 / self.program.row_scale[row]
        change = self._columns(target) * self.program.scale
        return change, self.program.times(change)

    def solution(self, rounds: int = _ROUNDS) -> Solution:
        """Columns and prices at this corner; optimal or not, only a certificate tells."""
        program = self.program
        bound = np.where(self.place.status == AT_UPPER, program.high, program.low)
        bound[np.isinf(bound)] = 0.0
        fixed, target = bound[: program.columns], bound[program.columns :] / program.row_scale
        if np.count_nonzero(fixed):
            fixed[self.place.columns == BASIC] = 0.0
            target -= program.times(fixed) / program.row_scale
        basic, price = self._columns(target), self._prices(program.scaled_objective)
        for _ in range(rounds):
            basic += self._columns(self._missing_work(target, basic))
            price += self._prices(self._missing_money(price))
        basic[np.abs(basic) < _SNAP] = 0.0
        return Solution(
            verdict=Verdict.UNDECIDED,
            message="corner",
            primal=fixed + basic * program.scale,
            dual=price / program.row_scale,
            iterations=0,
            basis=self.place,
        )

    def _columns(self, target: Vector) -> Vector:
        """Basic columns at which the binding rows meet ``target``, scaled; all others 0."""
        program, left = self.program, target
        columns = np.zeros(program.columns)
        if len(self.lone):
            columns[self.lone_columns] = target[self.lone_rows] / self.lone
            left = target - summed(
                program.entry_rows, program.unit_entries * columns[program.entry_columns], program.rows
            )
        columns[self.kernel_columns] = self.inverse.dot(left[self.kernel_rows])
        return columns

    def _prices(self, money: Vector) -> Vector:
        """Prices of the binding rows at which every basic column earns ``money``, scaled; all others 0."""
        program = self.program
        prices = np.zeros(program.rows)
        prices[self.kernel_rows] = money[self.kernel_columns].dot(self.inverse)
        if len(self.lone):
            paid = summed(program.entry_columns, program.unit_entries * prices[program.entry_rows], program.columns)
            prices[self.lone_rows] = (money - paid)[self.lone_columns] / self.lone
        return prices

    def _missing_work(self, target: Vector, columns: Vector) -> Vector:
        """What the binding rows lack at ``columns``, summed in extended precision."""
        program, missing = self.program, target.astype(np.longdouble)
        terms = program.unit_entries.astype(np.longdouble) * columns[program.entry_columns]
        np.subtract.at(missing, program.entry_rows, terms)
        return missing.astype(np.float64)

    def _missing_money(self, prices: Vector) -> Vector:
        """What the basic columns lack at ``prices``."""
        program, missing = self.program, self.program.scaled_objective.astype(np.longdouble)
        terms = program.unit_entries.astype(np.longdouble) * prices[program.entry_rows]
        np.subtract.at(missing, program.entry_columns, terms)
        return missing.astype(np.float64)


def corner(program: Program, basis: Basis, largest: int = LARGEST_KERNEL) -> Corner | None:
    """The corner of ``basis``; None where it names no point, or its kernel is larger than ``largest``."""
    if (len(basis.columns), len(basis.rows)) != (program.columns, program.rows):
        return None
    is_basic, binds = basis.columns == BASIC, basis.rows != BASIC
    inside = (is_basic[program.entry_columns] & binds[program.entry_rows]).nonzero()[0]
    rows, columns, entries = program.entry_rows[inside], program.entry_columns[inside], program.unit_entries[inside]
    lone_rows, lone_columns, lone = rows[:0], columns[:0], entries[:0]
    if np.count_nonzero(binds) > _FEW:
        alone = (np.bincount(rows, minlength=program.rows) == 1)[rows]
        lone_rows, lone_columns, lone = rows[alone], columns[alone], entries[alone]
        is_basic[lone_columns] = False
        binds[lone_rows] = False
        within = is_basic[columns] & binds[rows]
        rows, columns, entries = rows[within], columns[within], entries[within]
    kernel_rows, kernel_columns = binds.nonzero()[0], is_basic.nonzero()[0]
    size = len(kernel_rows)
    if size != len(kernel_columns) or size > largest:
        return None
    kernel = np.zeros((size, size))
    kernel[kernel_rows.searchsorted(rows), kernel_columns.searchsorted(columns)] = entries
    try:
        inverse: Vector = np.asarray(np.linalg.inv(kernel), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None
    return Corner(
        program=program,
        place=basis,
        lone_rows=lone_rows,
        lone_columns=lone_columns,
        lone=lone,
        kernel_rows=kernel_rows,
        kernel_columns=kernel_columns,
        inverse=inverse,
    )


def at_corner(
    program: Program, basis: Basis, *, rounds: int = _ROUNDS, largest: int = LARGEST_KERNEL
) -> Solution | None:
    """Columns and prices at the corner of ``basis``, or None where there is no such corner."""
    place = corner(program, basis, largest)
    return None if place is None else place.solution(rounds)
