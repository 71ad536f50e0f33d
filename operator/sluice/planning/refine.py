"""The corner that a solution names, computed in one piece.

Which columns and rows lie at which bound says everything about an optimal corner; one
linear system gives the rest. Where the certificate wants more than the solver's tolerances
the corner is computed again, with two rounds of iterative refinement in extended
precision, and the same system tells how the corner moves with the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sluice.planning.program import Flags, Program, Vector
from sluice.planning.solver import AT_UPPER, BASIC, Solution, row_scale

_LARGEST = 3000
"""Rows above which the dense system would take longer than it is worth."""
_ROUNDS = 2
_SNAP = 1e-13
"""Relative size below which a basic value is rounding of zero."""


@dataclass(frozen=True)
class Corner:
    """A basis of one program, scaled: its matrix, and which columns and rows it frees."""

    program: Program
    columns: Flags
    """Basic columns."""
    rows: Flags
    """Rows whose activity is basic: those that do not bind."""
    matrix: Vector
    """All columns, scaled."""
    basis: Vector
    """Basic columns, then minus one for every basic row."""
    size: Vector
    """Scale of each row."""

    def moved_by(self, row: int) -> Vector:
        """Change of the basic columns and row activities per unit of ``row``'s bound."""
        target = np.zeros(self.program.rows)
        target[row] = 1.0 / self.size[row]
        moved = np.asarray(np.linalg.solve(self.basis, target), dtype=np.float64)
        scale = np.concatenate([self.program.scale[self.columns], self.size[self.rows]])
        change: Vector = moved * scale
        return change

    def solution(self, program: Program, solution: Solution) -> Solution:
        """Columns and prices at this corner."""
        fixed = _fixed(program, solution, self.columns)
        activity = _fixed_rows(program, solution, self.rows) / self.size
        target = activity - self.matrix[:, ~self.columns] @ (fixed / program.scale)[~self.columns]
        cost = np.concatenate([(program.objective * program.scale)[self.columns], np.zeros(int(self.rows.sum()))])
        basic, price = _solve(self.basis, target), _solve(self.basis.T, cost)
        basic[np.abs(basic) < _SNAP] = 0.0
        fixed[self.columns] = basic[: int(self.columns.sum())] * program.scale[self.columns]
        price[self.rows] = 0.0
        return replace(solution, primal=fixed, dual=price / self.size)


def corner(program: Program, solution: Solution) -> Corner | None:
    """The corner of ``solution`` in ``program``, or None where its basis is incomplete or singular."""
    columns, rows = solution.column_status == BASIC, solution.row_status == BASIC
    if program.rows > _LARGEST or not len(columns) or columns.sum() + rows.sum() != program.rows:
        return None
    size = row_scale(program)
    matrix = np.zeros((program.rows, program.columns))
    matrix[program.entry_rows, program.entry_columns] = program.scaled_entries / size[program.entry_rows]
    basis = np.concatenate([matrix[:, columns], -np.eye(program.rows)[:, rows]], axis=1)
    if np.linalg.slogdet(basis).sign == 0:
        return None
    return Corner(program, columns, rows, matrix, basis, size)


def refined(program: Program, solution: Solution) -> Solution | None:
    """The same corner computed again, or None where there is no corner to compute."""
    place = corner(program, solution)
    return None if place is None else place.solution(program, solution)


def _fixed(program: Program, solution: Solution, basic: Flags) -> Vector:
    """Every column at the bound its status names; basic ones 0 for now."""
    values = np.where(solution.column_status == AT_UPPER, program.upper, program.lower)
    values = np.where(np.isfinite(values), values, 0.0)
    values[basic] = 0.0
    return values


def _fixed_rows(program: Program, solution: Solution, basic: Flags) -> Vector:
    """Every row's activity at the bound its status names; basic ones 0: their part is in the basis."""
    values = np.where(solution.row_status == AT_UPPER, program.row_upper, program.row_lower)
    values = np.where(np.isfinite(values), values, np.where(np.isfinite(program.row_upper), program.row_upper, 0.0))
    values[basic] = 0.0
    return values


def _solve(matrix: Vector, target: Vector) -> Vector:
    """The linear system with iterative refinement: residuals in extended precision."""
    answer = np.asarray(np.linalg.solve(matrix, target), dtype=np.float64)
    exact = matrix.astype(np.longdouble)
    for _ in range(_ROUNDS):
        residual = np.asarray(target - exact @ answer.astype(np.longdouble), dtype=np.float64)
        answer += np.asarray(np.linalg.solve(matrix, residual), dtype=np.float64)
    return answer
