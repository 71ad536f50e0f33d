"""Our own proof that an answer is optimal: primal feasible, dual feasible, no gap.

Nothing here asks the solver. From the program alone, a candidate x and prices y:

* *primal*: how far a row or a bound is overstepped, relative to the row's largest term;
* *dual*: how far a price or a reduced cost has the wrong sign, relative to the largest
  money term of its column; a price on a bound that does not exist counts in full;
* *gap*: dual objective minus primal objective, relative to the larger of the two.

With all three small, x is worth at most ``gap`` less than any other choice: that is the
theorem of strong duality, whoever computed the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sluice.planning.program import Program, Vector, summed

PRIMAL_TOLERANCE = 1e-9
DUAL_TOLERANCE = 1e-7
GAP_TOLERANCE = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The three residuals of one answer, each relative, and where the worst one is."""

    primal_residual: float
    dual_residual: float
    gap: float
    value: float
    """Primal objective, money per second."""
    upper_bound: float
    """Dual objective: what no plan can exceed, up to the dual residual."""
    worst_primal: str = ""
    """The row or column with the largest primal residual."""
    worst_dual: str = ""
    """The row or column with the largest dual residual."""

    @property
    def holds(self) -> bool:
        """Whether the answer may be called optimal."""
        return not self.failure

    @property
    def failure(self) -> str:
        """Which check fails and where; empty when none does. NaN fails."""
        if not self.primal_residual <= PRIMAL_TOLERANCE:
            return f"row {self.worst_primal} is violated by {self.primal_residual:.2g} of its largest term"
        if not self.dual_residual <= DUAL_TOLERANCE:
            return f"the price of {self.worst_dual} has the wrong sign by {self.dual_residual:.2g} of its largest term"
        if not self.gap <= GAP_TOLERANCE:
            return f"primal value {self.value:.9g} and dual bound {self.upper_bound:.9g} differ by {self.gap:.2g}"
        return ""


def certify(program: Program, primal: Vector, dual: Vector) -> Certificate:
    """Check ``primal`` and ``dual`` against ``program``."""
    if not (np.isfinite(primal).all() and np.isfinite(dual).all()):
        nan = float("nan")
        return Certificate(
            primal_residual=nan, dual_residual=nan, gap=nan, value=nan, upper_bound=nan, worst_primal="(not a number)"
        )
    primal_residual, worst_primal = _primal(program, primal)
    money = np.abs(program.scaled_entries * dual[program.entry_rows])
    column_money = np.abs(program.objective * program.scale)
    most = max(float(column_money.max(initial=0.0)), float(money.max(initial=0.0)), 1e-300)
    np.maximum.at(column_money, program.entry_columns, money)
    reduced = program.objective - program.times_transposed(dual)
    excess = _wrong_sign(reduced, program.lower, program.upper) * program.scale / np.maximum(column_money, 1e-6 * most)
    row_excess = _wrong_sign(dual, program.row_lower, program.row_upper) * program.row_sizes / most
    dual_residual, worst_dual = _worst(program, row_excess, excess)
    value = float(program.objective @ primal)
    bound = _bounded(dual, program.row_lower, program.row_upper) + _bounded(reduced, program.lower, program.upper)
    return Certificate(
        primal_residual=primal_residual,
        dual_residual=dual_residual,
        gap=abs(bound - value) / max(abs(value), abs(bound), 1e-9 * most),
        value=value,
        upper_bound=bound,
        worst_primal=worst_primal,
        worst_dual=worst_dual,
    )


def _primal(program: Program, primal: Vector) -> tuple[float, str]:
    """The largest primal residual, and its row or column."""
    terms = program.entries * primal[program.entry_columns]
    activity = summed(program.entry_rows, terms, program.rows)
    largest = program.largest(np.abs(terms))
    for bound in (program.row_lower, program.row_upper):
        np.maximum(largest, np.where(np.isfinite(bound), np.abs(bound), 0.0), out=largest)
    largest[largest == 0.0] = 1.0
    row_excess = np.maximum(activity - program.row_upper, program.row_lower - activity) / largest
    column_excess = np.maximum(primal - program.upper, program.lower - primal) / np.maximum(
        np.abs(primal), program.scale
    )
    return _worst(program, row_excess, column_excess)


def _wrong_sign(price: Vector, lower: Vector, upper: Vector) -> Vector:
    """How far prices sit on bounds that do not exist: positive needs an upper bound, negative a lower one."""
    above = np.where(upper < np.inf, 0.0, price)
    below = np.where(lower > -np.inf, 0.0, -price)
    return np.maximum(0.0, np.maximum(above, below))


def _bounded(price: Vector, lower: Vector, upper: Vector) -> float:
    """What the priced bounds are worth together: this part of the dual objective."""
    bound = np.where(price > 0, upper, lower)
    counted = (price != 0.0) & np.isfinite(bound)
    return float(price[counted] @ bound[counted])


def _worst(program: Program, rows: Vector, columns: Vector) -> tuple[float, str]:
    """The largest of two sets of residuals, never negative, and the name of its place. NaN is the largest."""
    worst, name = 0.0, ""
    for residuals, name_of in ((rows, program.row_name), (columns, program.column_name)):
        if residuals.size:
            place = int(np.argmax(residuals))
            if not residuals[place] <= worst:
                worst, name = float(residuals[place]), name_of(place)
    return worst, name
