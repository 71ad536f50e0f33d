"""Solves a ``Program`` with OR-Tools MathOpt and GLOP.

The program goes to MathOpt as one model message filled from arrays: adding ten thousand
terms one by one through Python expressions costs more than solving them. The solver sees
numbers of order one (columns divided by their scale, rows and objective by their largest
term), so its absolute tolerances mean relative ones; the answer is scaled back here and
trusted by nobody before ``certificate`` has checked it.

A solve may start from a corner, and needs few pivots if it is a good one. That of the last pass
would do, but where several prices are right, which ones come out would depend on what was asked
before, and equal problems must give equal plans; of the passes over random instances with
promises, one in a hundred had but one answer. So the start is guessed from the problem itself
(``opening``), and what is kept of a pass is its corner, which tells when no solve is needed
(``sensitivity``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np
from ortools.glop import parameters_pb2 as glop_parameters
from ortools.math_opt import (
    callback_pb2,
    model_parameters_pb2,
    model_pb2,
    parameters_pb2,
    result_pb2,
    solution_pb2,
    sparse_containers_pb2,
)
from ortools.math_opt.core.python import solver as mathopt

from sluice.model.plan import Verdict
from sluice.planning.program import Indices, Program, Vector

_GLOP = parameters_pb2.SOLVER_TYPE_GLOP
_PLAIN = parameters_pb2.SolverInitializerProto()
_EVERYTHING = model_parameters_pb2.ModelSolveParametersProto()
_NO_CALLBACK = callback_pb2.CallbackRegistrationProto()
_TOLERANCE = 1e-10
"""On the scaled program; a hundredth of what the certificate demands."""


class Effort(Enum):
    """How the solver is set up: the usual way, and another where the first was imprecise."""

    USUAL = parameters_pb2.SolveParametersProto(
        glop=glop_parameters.GlopParameters(
            primal_feasibility_tolerance=_TOLERANCE,
            dual_feasibility_tolerance=_TOLERANCE,
            # The program comes scaled, and there is little to presolve: looking for either costs a fifth of a solve.
            use_preprocessing=False,
            use_scaling=False,
            # A twentieth to a tenth quicker than steepest edge at every size tried.
            optimization_rule=glop_parameters.GlopParameters.DEVEX,
            feasibility_rule=glop_parameters.GlopParameters.DEVEX,
        )
    )
    CAREFUL = parameters_pb2.SolveParametersProto(glop=glop_parameters.GlopParameters(use_dual_simplex=True))


BASIC = solution_pb2.BASIS_STATUS_BASIC
AT_LOWER = solution_pb2.BASIS_STATUS_AT_LOWER_BOUND
AT_UPPER = solution_pb2.BASIS_STATUS_AT_UPPER_BOUND
FIXED = solution_pb2.BASIS_STATUS_FIXED_VALUE
_VERDICTS = {
    result_pb2.TERMINATION_REASON_OPTIMAL: Verdict.OPTIMAL,
    result_pb2.TERMINATION_REASON_INFEASIBLE: Verdict.INFEASIBLE,
    # Every program here is bounded by its replicas, so of the two it can only be the first.
    result_pb2.TERMINATION_REASON_INFEASIBLE_OR_UNBOUNDED: Verdict.INFEASIBLE,
    result_pb2.TERMINATION_REASON_UNBOUNDED: Verdict.UNBOUNDED,
    result_pb2.TERMINATION_REASON_FEASIBLE: Verdict.FEASIBLE,
}


class Basis(NamedTuple):
    """Which columns and rows lie at which bound: a corner of a program, whatever its numbers."""

    columns: Indices
    """Per column: ``BASIC``, or the bound it lies at."""
    rows: Indices
    """Per row: ``BASIC`` where its bounds do not bind, or the bound that does."""

    @property
    def status(self) -> Indices:
        """Of all columns, then of all rows."""
        return np.concatenate(self)

    def message(self) -> solution_pb2.BasisProto:
        """As MathOpt takes it."""
        found = solution_pb2.BasisProto()
        for sparse, status in ((found.variable_status, self.columns), (found.constraint_status, self.rows)):
            sparse.ids.extend(range(len(status)))
            sparse.values.extend(status.tolist())
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """What the solver answered, in the program's own units."""

    verdict: Verdict
    message: str
    primal: Vector
    """A value per column; empty without a solution."""
    dual: Vector
    """Gain of the objective per unit of each row's binding bound; empty without a solution."""
    iterations: int
    basis: Basis
    """The corner it ended at; empty arrays without one."""

    def proved(self) -> Solution:
        """The same, called optimal."""
        return Solution(
            verdict=Verdict.OPTIMAL,
            message=self.message,
            primal=self.primal,
            dual=self.dual,
            iterations=self.iterations,
            basis=self.basis,
        )


NO_BASIS = Basis(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def solve(program: Program, effort: Effort = Effort.USUAL, start: Basis | None = None) -> Solution:
    """Maximise ``program``, from the corner ``start`` on. The verdict is the solver's own word, nothing more."""
    message = _message(program)
    wanted = _EVERYTHING
    if start is not None:
        wanted = model_parameters_pb2.ModelSolveParametersProto(initial_basis=start.message())
    answer = mathopt.solve(message, _GLOP, _PLAIN, effort.value, wanted, None, _NO_CALLBACK, None, None)
    verdict = _VERDICTS.get(answer.termination.reason, Verdict.UNDECIDED)
    primal = dual = np.zeros(0)
    basis = NO_BASIS
    if answer.solutions and verdict is not Verdict.INFEASIBLE:
        solution = answer.solutions[0]
        primal = _dense(solution.primal_solution.variable_values, program.columns) * program.scale
        dual = _dense(solution.dual_solution.dual_values, program.rows) * program.money / program.row_scale
        basis = Basis(
            np.array(solution.basis.variable_status.values, dtype=np.int64),
            np.array(solution.basis.constraint_status.values, dtype=np.int64),
        )
    reason = result_pb2.TerminationReasonProto.Name(answer.termination.reason)
    return Solution(
        verdict=verdict,
        message=f"{reason} {answer.termination.detail}".strip(),
        primal=primal,
        dual=dual,
        basis=basis,
        iterations=answer.solve_stats.simplex_iterations,
    )


def _message(program: Program) -> model_pb2.ModelProto:
    """The scaled program as MathOpt's model message."""
    size = program.row_scale
    message = model_pb2.ModelProto()
    columns, rows, matrix = message.variables, message.linear_constraints, message.linear_constraint_matrix
    columns.ids.extend(range(program.columns))
    columns.lower_bounds.extend((program.lower / program.scale).tolist())
    columns.upper_bounds.extend((program.upper / program.scale).tolist())
    columns.integers.extend([False] * program.columns)
    rows.ids.extend(range(program.rows))
    rows.lower_bounds.extend((program.row_lower / size).tolist())
    rows.upper_bounds.extend((program.row_upper / size).tolist())
    rows.names.extend(program.row_names())
    # MathOpt takes nonzeros row by row, and column by column in each.
    order = np.argsort(program.entry_rows * program.columns + program.entry_columns, kind="stable")
    matrix.row_ids.extend(program.entry_rows[order].tolist())
    matrix.column_ids.extend(program.entry_columns[order].tolist())
    matrix.coefficients.extend(program.unit_entries[order].tolist())
    message.objective.maximize = True
    message.objective.linear_coefficients.ids.extend(range(program.columns))
    message.objective.linear_coefficients.values.extend((program.scaled_objective / program.money).tolist())
    return message


def _dense(sparse: sparse_containers_pb2.SparseDoubleVectorProto, count: int) -> Vector:
    """A MathOpt sparse vector as an array; as a rule it has every value, in order."""
    given = np.array(sparse.values, dtype=np.float64)
    if len(given) == count:
        return given
    values = np.zeros(count)
    values[np.array(sparse.ids, dtype=np.int64)] = given
    return values
