"""A corner of a program, computed from its basis.

Which columns and rows lie at which bound says everything about a corner; one linear system
gives its values, another its prices. Most of that system is trivial: a class at home in one
pool is served as far as its row (1) allows, and rows that do not bind drop out. What is left,
the kernel, has the size of the pools and not of the classes, and is solved densely.

So a guessed corner is tried without a solver (``opening``), the corner of the last pass moves
along with the numbers (``sensitivity``), and where the certificate wants more than the solver's
tolerances its corner is computed again, with two rounds of refinement in extended precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sluice.model.plan import Verdict
from sluice.planning.program import Indices, Program, Vector, summed
from sluice.planning.solver import AT_UPPER, BASIC, Basis, Solution

LARGEST_KERNEL = 2000
"""Rows above which the dense system would take longer than it is worth."""
_ROUNDS = 2
_SNAP = 1e-13
"""Relative size below which a basic value is rounding of zero."""


@dataclass(frozen=True)
class Corner:
    """A basis of one program, scaled, in two parts: rows with one basic column each, and the kernel."""

    program: Program
    place: Basis
    columns: Indices
    """Basic columns: those of the kernel, then those alone in their rows."""
    lone_rows: Indices
    """The rows with one basic column, in the order of these columns."""
    lone: Vector
    """The coefficients of these columns in their rows."""
    kernel_rows: Indices
    inverse: Vector
    """Of the square matrix of the other rows that bind, by the other basic columns."""

    def moved_by(self, row: int) -> tuple[Vector, Vector]:
        """Change of all columns and of all row activities per unit of ``row``'s bound."""
        target = np.zeros(self.program.rows)
        target[row] = 1.0 / self.program.row_scale[row]
        change = self._columns(target) * self.program.scale
        return change, self.program.times(change)

    def solution(self, rounds: int = _ROUNDS) -> Solution:
        """Columns and prices at this corner; optimal or not, only a certificate tells."""
        program = self.program
        values = self._fixed()
        fixed, activity = values[: program.columns], values[program.columns :]
        target = activity / program.row_scale
        if fixed.any():
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
        program, inner = self.program, len(self.kernel_rows)
        columns = np.zeros(program.columns)
        columns[self.columns[inner:]] = target[self.lone_rows] / self.lone
        if inner:
            taken = summed(program.entry_rows, program.unit_entries * columns[program.entry_columns], program.rows)
            left = (target - taken)[self.kernel_rows]
            columns[self.columns[:inner]] = self.inverse @ left
        return columns

    def _prices(self, money: Vector) -> Vector:
        """Prices of the binding rows at which every basic column earns ``money``, scaled; all others 0."""
        program, inner = self.program, len(self.kernel_rows)
        prices = np.zeros(program.rows)
        if inner:
            prices[self.kernel_rows] = money[self.columns[:inner]] @ self.inverse
        paid = summed(program.entry_columns, program.unit_entries * prices[program.entry_rows], program.columns)
        prices[self.lone_rows] = (money - paid)[self.columns[inner:]] / self.lone
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

    def _fixed(self) -> Vector:
        """Every column, then every row's activity, at the finite bound its status names; basic ones 0."""
        program, place = self.program, self.place
        status = np.concatenate([place.columns, place.rows])
        values = np.where(status == AT_UPPER, program.high, program.low)
        values[(status == BASIC) | np.isinf(values)] = 0.0
        return values


def corner(program: Program, basis: Basis, largest: int = LARGEST_KERNEL) -> Corner | None:
    """The corner of ``basis``; None where it names no point, or its kernel is larger than ``largest``."""
    if (len(basis.columns), len(basis.rows)) != (program.columns, program.rows):
        return None
    is_basic, binds = basis.columns == BASIC, basis.rows != BASIC
    rows, columns = program.entry_rows, program.entry_columns
    inside = is_basic[columns] & binds[rows]
    alone = (np.bincount(rows[inside], minlength=program.rows) == 1)[rows] & inside
    lone_rows, lone_columns = rows[alone], columns[alone]
    is_basic[lone_columns] = False
    binds[lone_rows] = False
    kernel_rows, kernel_columns = np.flatnonzero(binds), np.flatnonzero(is_basic)
    if len(kernel_rows) != len(kernel_columns) or len(kernel_rows) > largest:
        return None
    within = is_basic[columns] & binds[rows]
    kernel = np.zeros((len(kernel_rows), len(kernel_rows)))
    places = kernel_rows.searchsorted(rows[within]), kernel_columns.searchsorted(columns[within])
    kernel[places] = program.unit_entries[within]
    try:
        inverse: Vector = np.asarray(np.linalg.inv(kernel), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None
    return Corner(
        program=program,
        place=basis,
        columns=np.concatenate([kernel_columns, lone_columns]),
        lone_rows=lone_rows,
        lone=program.unit_entries[alone],
        kernel_rows=kernel_rows,
        inverse=inverse,
    )


def at_corner(
    program: Program, basis: Basis, *, rounds: int = _ROUNDS, largest: int = LARGEST_KERNEL
) -> Solution | None:
    """Columns and prices at the corner of ``basis``, or None where there is no such corner."""
    place = corner(program, basis, largest)
    return None if place is None else place.solution(rounds)
