"""Solves a ``Program`` with OR-Tools MathOpt and GLOP.

The program goes to MathOpt as one model message filled from arrays: adding ten thousand
terms one by one through Python expressions costs more than solving them. The solver sees
numbers of order one (columns divided by their scale, rows and objective by their largest
term), so its absolute tolerances mean relative ones; the answer is scaled back here and
trusted by nobody before ``certificate`` has checked it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ortools.glop import parameters_pb2 as glop_parameters
from ortools.math_opt import callback_pb2, model_parameters_pb2, model_pb2, parameters_pb2, result_pb2
from ortools.math_opt.core.python import solver as mathopt

from sluice.model.plan import Verdict
from sluice.planning.program import Program, Vector

_GLOP = parameters_pb2.SOLVER_TYPE_GLOP
_TOLERANCE = 1e-10
"""On the scaled program; a hundredth of what the certificate demands."""

_PARAMETERS = parameters_pb2.SolveParametersProto(
    glop=glop_parameters.GlopParameters(
        primal_feasibility_tolerance=_TOLERANCE,
        dual_feasibility_tolerance=_TOLERANCE,
    )
)
_VERDICTS = {
    result_pb2.TERMINATION_REASON_OPTIMAL: Verdict.OPTIMAL,
    result_pb2.TERMINATION_REASON_INFEASIBLE: Verdict.INFEASIBLE,
    # Every program here is bounded by its replicas, so of the two it can only be the first.
    result_pb2.TERMINATION_REASON_INFEASIBLE_OR_UNBOUNDED: Verdict.INFEASIBLE,
    result_pb2.TERMINATION_REASON_UNBOUNDED: Verdict.UNBOUNDED,
    result_pb2.TERMINATION_REASON_FEASIBLE: Verdict.FEASIBLE,
}


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


def solve(program: Program) -> Solution:
    """Maximise ``program``. The verdict is the solver's own word, nothing more."""
    row_scale = _row_scale(program)
    objective = program.objective * program.scale
    objective_scale = max(float(np.abs(objective).max(initial=0.0)), 1e-300)
    message = _message(program, row_scale, objective / objective_scale)
    answer = mathopt.solve(
        message,
        _GLOP,
        parameters_pb2.SolverInitializerProto(),
        _PARAMETERS,
        model_parameters_pb2.ModelSolveParametersProto(),
        None,
        callback_pb2.CallbackRegistrationProto(),
        None,
        None,
    )
    verdict = _VERDICTS.get(answer.termination.reason, Verdict.UNDECIDED)
    primal = dual = np.zeros(0)
    if answer.solutions and verdict in {Verdict.OPTIMAL, Verdict.FEASIBLE}:
        solution = answer.solutions[0]
        primal = _dense(solution.primal_solution.variable_values, program.columns) * program.scale
        dual = _dense(solution.dual_solution.dual_values, program.rows) * objective_scale / row_scale
    reason = result_pb2.TerminationReasonProto.Name(answer.termination.reason)
    return Solution(
        verdict=verdict,
        message=f"{reason} {answer.termination.detail}".strip(),
        primal=primal,
        dual=dual,
        iterations=answer.solve_stats.simplex_iterations,
    )


def _row_scale(program: Program) -> Vector:
    """Largest scaled term of each row."""
    largest = np.zeros(program.rows)
    np.maximum.at(largest, program.entry_rows, np.abs(program.entries) * program.scale[program.entry_columns])
    largest[largest == 0.0] = 1.0
    return largest


def _message(program: Program, row_scale: Vector, objective: Vector) -> model_pb2.ModelProto:
    """The scaled program as MathOpt's model message."""
    message = model_pb2.ModelProto()
    columns, rows, matrix = message.variables, message.linear_constraints, message.linear_constraint_matrix
    columns.ids.extend(range(program.columns))
    columns.lower_bounds.extend((program.lower / program.scale).tolist())
    columns.upper_bounds.extend((program.upper / program.scale).tolist())
    columns.integers.extend([False] * program.columns)
    rows.ids.extend(range(program.rows))
    rows.lower_bounds.extend((program.row_lower / row_scale).tolist())
    rows.upper_bounds.extend((program.row_upper / row_scale).tolist())
    rows.names.extend(program.row_names())
    matrix.row_ids.extend(program.entry_rows.tolist())
    matrix.column_ids.extend(program.entry_columns.tolist())
    scaled = program.entries * program.scale[program.entry_columns] / row_scale[program.entry_rows]
    matrix.coefficients.extend(scaled.tolist())
    message.objective.maximize = True
    message.objective.linear_coefficients.ids.extend(range(program.columns))
    message.objective.linear_coefficients.values.extend(objective.tolist())
    return message


def _dense(sparse: object, count: int) -> Vector:
    """A MathOpt sparse vector as an array."""
    values = np.zeros(count)
    values[list(sparse.ids)] = list(sparse.values)  # type: ignore[attr-defined]  # MathOpt's messages carry no types
    return values
