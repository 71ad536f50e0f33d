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

from dataclasses import dataclass, field

import numpy as np

from sluice.planning.program import Program, Vector, highest, summed

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
    """The row or column with the largest primal residual, where that is more than rounding."""
    worst_dual: str = ""
    """The row or column with the largest dual residual, where that is more than rounding."""
    reduced: Vector = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    """What one more unit of each column earns beyond all prices."""
    activity: Vector = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    """What each row comes to."""

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
    rows, columns = program.entry_rows, program.entry_columns
    paid, done = program.entries * dual[rows], program.entries * primal[columns]
    reduced = program.objective - summed(columns, paid, program.columns)
    activity = summed(rows, done, program.rows)
    # First all columns, then all rows: what holds for both is asked once.
    values, prices = np.concatenate([primal, activity]), np.concatenate([reduced, dual])
    if np.count_nonzero(np.isfinite(values) & np.isfinite(prices)) < len(values):
        nan = float("nan")
        return Certificate(
            primal_residual=nan, dual_residual=nan, gap=nan, value=nan, upper_bound=nan, worst_primal="(not a number)"
        )
    excess = np.maximum(values - program.high, program.low - values)
    primal_residual, worst_primal = _worst(program, excess / _largest_terms(program, primal, done), PRIMAL_TOLERANCE)
    # A positive price sits on the upper bound, a negative one on the lower; on a missing bound it has the wrong sign.
    bound = np.where(prices > 0.0, program.high, program.low)
    absent = np.isinf(bound)
    bound[absent] = 0.0
    sizes, most = _money_terms(program, paid)
    dual_residual, worst_dual = _worst(program, absent * np.abs(prices) * sizes, DUAL_TOLERANCE)
    value, upper_bound = float(program.objective.dot(primal)), float(prices.dot(bound))
    return Certificate(
        primal_residual=primal_residual,
        dual_residual=dual_residual,
        gap=abs(upper_bound - value) / max(abs(value), abs(upper_bound), 1e-9 * most),
        value=value,
        upper_bound=upper_bound,
        worst_primal=worst_primal,
        worst_dual=worst_dual,
        reduced=reduced,
        activity=activity,
    )


def _largest_terms(program: Program, primal: Vector, done: Vector) -> Vector:
    """What an excess is measured by: a column's own size, and a row's bound or the largest term ``done`` in it."""
    largest = program.bound_sizes.copy()
    np.maximum.at(largest, program.entry_rows, np.abs(done))
    largest[largest == 0.0] = 1.0
    return np.concatenate([np.maximum(np.abs(primal), program.scale), largest])


def _money_terms(program: Program, paid: Vector) -> tuple[Vector, float]:
    """Per column and row: typical size over the largest money term of the column, or of all; and that of all."""
    columns = np.abs(program.objective)
    np.maximum.at(columns, program.entry_columns, np.abs(paid))
    columns *= program.scale
    most = max(highest(columns), 1e-300)
    return np.concatenate([program.scale / np.maximum(columns, 1e-6 * most), program.row_sizes / most]), most


def _worst(program: Program, residuals: Vector, tolerance: float) -> tuple[float, str]:
    """The largest residual, never negative, and the name of its place where it is above ``tolerance``."""
    place = int(residuals.argmax())
    worst = float(residuals[place])
    if worst <= tolerance:
        return max(worst, 0.0), ""
    columns = program.columns
    return worst, program.column_name(place) if place < columns else program.row_name(place - columns)
