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

import math
from dataclasses import dataclass, field

import numpy as np

from sluice.planning.program import Program, Vector

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
    reduced: Vector = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    """What one more unit of each column earns beyond all prices."""

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
    prices = np.concatenate([program.objective - program.times_transposed(dual), dual])
    values = np.concatenate([primal, program.times(primal)])
    # One that is not finite leaves no finite sum.
    if not math.isfinite(float(values.sum() + prices.sum())):
        nan = float("nan")
        return Certificate(
            primal_residual=nan, dual_residual=nan, gap=nan, value=nan, upper_bound=nan, worst_primal="(not a number)"
        )
    primal_excess = np.maximum(values - program.high, program.low - values) / _largest_terms(program, primal)
    primal_residual, worst_primal = _worst(program, primal_excess)
    # A positive price sits on the upper bound, a negative one on the lower; on a missing bound it has the wrong sign.
    bound = np.where(prices > 0.0, program.high, program.low)
    absent = np.isinf(bound)
    missing = absent & (prices != 0.0)
    sizes, most = _money_terms(program, dual)
    dual_residual, worst_dual = _worst(program, np.where(missing, np.abs(prices), 0.0) * sizes)
    bound[absent] = 0.0
    value, upper_bound = float(program.objective @ primal), float(prices @ bound)
    return Certificate(
        primal_residual=primal_residual,
        dual_residual=dual_residual,
        gap=abs(upper_bound - value) / max(abs(value), abs(upper_bound), 1e-9 * most),
        value=value,
        upper_bound=upper_bound,
        worst_primal=worst_primal,
        worst_dual=worst_dual,
        reduced=prices[: program.columns],
    )


def _largest_terms(program: Program, primal: Vector) -> Vector:
    """What an excess is measured by: a column's own size, and a row's largest term or bound."""
    low, high = program.row_lower, program.row_upper
    bounds = np.maximum(np.where(np.isfinite(low), np.abs(low), 0.0), np.where(np.isfinite(high), np.abs(high), 0.0))
    np.maximum.at(bounds, program.entry_rows, np.abs(program.entries * primal[program.entry_columns]))
    bounds[bounds == 0.0] = 1.0
    return np.concatenate([np.maximum(np.abs(primal), program.scale), bounds])


def _money_terms(program: Program, dual: Vector) -> tuple[Vector, float]:
    """Per column and row: typical size over the largest money term of the column, or of all; and that of all."""
    money = np.abs(program.scaled_entries * dual[program.entry_rows])
    columns = np.abs(program.scaled_objective)
    most = max(float(columns.max(initial=0.0)), float(money.max(initial=0.0)), 1e-300)
    np.maximum.at(columns, program.entry_columns, money)
    return np.concatenate([program.scale / np.maximum(columns, 1e-6 * most), program.row_sizes / most]), most


def _worst(program: Program, residuals: Vector) -> tuple[float, str]:
    """The largest residual, never negative, and the name of its place."""
    place = int(residuals.argmax())
    worst = float(residuals[place])
    if worst <= 0.0:
        return 0.0, ""
    columns = program.columns
    return worst, program.column_name(place) if place < columns else program.row_name(place - columns)
