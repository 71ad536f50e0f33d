"""A second, sharper look at a solution: the corner it names, computed again in one piece.

The solver stops within its tolerances. Where the certificate wants more, the corner is solved
anew from its basis: which columns and rows are at which bound says everything, and one
linear system gives the rest, with two rounds of iterative refinement in extended precision.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sluice.planning.program import Flags, Program, Vector
from sluice.planning.solver import AT_UPPER, BASIC, Solution, row_scale

_LARGEST = 3000
"""Rows above which the dense system would take longer than it is worth."""
_ROUNDS = 2
_SNAP = 1e-13
"""Relative size below which a basic value is rounding of zero."""


def refined(program: Program, solution: Solution) -> Solution | None:
    """The same corner computed again, or None where its basis is incomplete or singular."""
    columns, rows = solution.column_status == BASIC, solution.row_status == BASIC
    if program.rows > _LARGEST or not len(columns) or columns.sum() + rows.sum() != program.rows:
        return None
    size = row_scale(program)
    matrix = np.zeros((program.rows, program.columns))
    matrix[program.entry_rows, program.entry_columns] = (
        program.entries * program.scale[program.entry_columns] / size[program.entry_rows]
    )
    # Columns of the basis: those of basic variables, and minus one for every row that is free to move.
    basis = np.concatenate([matrix[:, columns], -np.eye(program.rows)[:, rows]], axis=1)
    fixed = _fixed(program, solution, columns)
    activity = _fixed_rows(program, solution, rows) / size
    target = activity - matrix[:, ~columns] @ (fixed / program.scale)[~columns]
    cost = np.concatenate([(program.objective * program.scale)[columns], np.zeros(int(rows.sum()))])
    try:
        basic, price = _solve(basis, target), _solve(basis.T, cost)
    except np.linalg.LinAlgError:
        return None
    basic[np.abs(basic) < _SNAP] = 0.0
    primal = fixed
    primal[columns] = basic[: int(columns.sum())] * program.scale[columns]
    price[rows] = 0.0
    return replace(solution, primal=primal, dual=price / size)


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
