"""How the plan leans on each estimate, so that the loop knows when a re-solve cannot matter.

For every class: what one percent more rate, prompt or output would change in value (the
derivative of the Lagrangian at the optimum), and between which rates the same classes are
served in full, rationed and refused. Inside that range a re-solve moves limits in
proportion and changes nothing else; ``still_optimal`` tests a whole new estimate exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sluice.model.plan import Verdict
from sluice.planning.answer import Answer
from sluice.planning.certificate import certify
from sluice.planning.formulate import formulate
from sluice.planning.problem import ClassInput, Problem
from sluice.planning.program import Flags, Indices, Program, Vector
from sluice.planning.refine import at_corner, corner
from sluice.planning.solver import AT_UPPER, BASIC

_STEP = 1e-6
"""Relative change for a derivative: the Lagrangian is affine in each number, so rounding alone bounds it."""
_ROOM = 1e-9
"""Relative overshoot of a bound that is rounding."""
_PRICE_ROOM = 1e-8
"""Price of the wrong sign that is rounding, relative to the largest money term."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """One class's part in the plan, by its estimates."""

    class_name: str
    rate_percent: float
    """Money per second that one percent more arrivals are worth."""
    prompt_percent: float
    """The same for one percent longer prompts (cached share unchanged)."""
    output_percent: float
    """The same for one percent longer answers."""
    rate_low: float
    """Down to this rate the same classes are served in full, rationed and refused."""
    rate_high: float
    """Up to this rate; infinite where more of the class changes nothing."""


def sensitivities(found: Answer) -> tuple[Sensitivity, ...]:
    """The sensitivities of an optimal answer, one per class of the problem."""
    problem = found.formulation.problem
    ranges = _rate_ranges(found)
    return tuple(
        Sensitivity(
            class_name=entry.name,
            rate_percent=_derivative(found, i, _more_rate),
            prompt_percent=_derivative(found, i, _longer_prompts),
            output_percent=_derivative(found, i, _longer_answers),
            rate_low=max(0.0, entry.rate + ranges[i][0]),
            rate_high=entry.rate + ranges[i][1],
        )
        for i, entry in enumerate(problem.classes)
    )


def _more_rate(entry: ClassInput) -> ClassInput:
    return replace(entry, rate=entry.rate * (1 + _STEP))


def _longer_prompts(entry: ClassInput) -> ClassInput:
    longer = 1 + _STEP
    return replace(
        entry,
        prompt_tokens=entry.prompt_tokens * longer,
        uncached_prompt_tokens=entry.uncached_prompt_tokens * longer,
    )


def _longer_answers(entry: ClassInput) -> ClassInput:
    return replace(entry, output_tokens=entry.output_tokens * (1 + _STEP))


def _derivative(found: Answer, i: int, change: Callable[[ClassInput], ClassInput]) -> float:
    """Money per second of one percent of a change: the Lagrangian's difference at fixed plan and prices."""
    problem = found.formulation.problem
    changed = change(problem.classes[i])
    classes = (*problem.classes[:i], changed, *problem.classes[i + 1 :])
    other = formulate(replace(problem, classes=classes), paces=found.formulation.paces).program
    here, solution = found.formulation.program, found.solution
    gained = _lagrangian(other, solution.primal, solution.dual) - _lagrangian(here, solution.primal, solution.dual)
    return gained / _STEP / 100


def _lagrangian(program: Program, primal: Vector, dual: Vector) -> float:
    """C x + y (b - A x), b being the bound that each price stands on."""
    bound = np.where(dual > 0, program.row_upper, program.row_lower)
    priced = dual != 0
    slack = np.where(priced & np.isfinite(bound), bound, 0.0) - program.times(primal)
    return float(program.objective @ primal + dual[priced] @ slack[priced])


def _rate_ranges(found: Answer) -> list[tuple[float, float]]:
    """Per class: how far its rate may fall and rise before another corner of the program is optimal."""
    program, solution = found.formulation.program, found.solution
    place = corner(program, solution.basis)
    rows = found.formulation.admission
    count = len(rows.labels)
    if place is None:
        return [(0.0, 0.0)] * count
    activity = program.times(solution.primal)
    values = np.concatenate([solution.primal, activity])
    basic = solution.basis.status == BASIC
    ranges = []
    for i in range(count):
        row = rows.start + i
        if solution.basis.rows[row] == BASIC:
            # More arrivals than are served change nothing; fewer do once they are all served.
            ranges.append((float(activity[row] - program.row_upper[row]), math.inf))
            continue
        step = np.where(basic, np.concatenate(place.moved_by(row)), 0.0)
        ranges.append(_steps(values, program.low, program.high, step))
    return ranges


def _steps(values: Vector, lower: Vector, upper: Vector, step: Vector) -> tuple[float, float]:
    """How far one may go along ``step`` in either direction until a basic value meets a bound."""
    size = max(float(np.abs(step).max(initial=0.0)), 1e-300)
    falls, rises = step < -1e-12 * size, step > 1e-12 * size
    up = [
        *((lower[falls] - values[falls]) / step[falls]).tolist(),
        *((upper[rises] - values[rises]) / step[rises]).tolist(),
    ]
    down = [
        *((values[falls] - upper[falls]) / step[falls]).tolist(),
        *((values[rises] - lower[rises]) / step[rises]).tolist(),
    ]
    return -max(0.0, min(down, default=math.inf)), max(0.0, min(up, default=math.inf))


def still_optimal(found: Answer, problem: Problem) -> bool:
    """Whether the corner that was optimal before still is, for new numbers in the same structure.

    True: the same classes are served in full, rationed and refused, and a re-solve would only
    move their rates along. False: it might do more, or the structure changed.
    """
    return moved_along(found, problem) is not None


def moved_along(found: Answer, problem: Problem) -> Answer | None:
    """The answer at the corner that was optimal before; None where that is not optimal any more."""
    if problem.faults():
        return None
    formulation = formulate(problem, paces=found.formulation.paces)
    program = formulation.program
    before = found.formulation.program
    if (program.rows, program.columns) != (before.rows, before.columns):
        return None
    moved = at_corner(program, found.solution.basis)
    if moved is None:
        return None
    reduced = program.objective - program.times_transposed(moved.dual)
    activity = program.times(moved.primal)
    inside = _within(moved.primal, program.lower, program.upper, program.scale) and _within(
        activity, program.row_lower, program.row_upper, np.maximum(np.abs(activity), 1.0)
    )
    money = program.money
    holds = (
        inside
        and _signs_hold(reduced * program.scale / money, moved.basis.columns, program.lower == program.upper)
        and _signs_hold(
            moved.dual * program.row_scale / money, moved.basis.rows, program.row_lower == program.row_upper
        )
    )
    if not holds:
        return None
    return Answer(formulation, replace(moved, verdict=Verdict.OPTIMAL), certify(program, moved.primal, moved.dual))


def _within(values: Vector, lower: Vector, upper: Vector, scale: Vector) -> bool:
    return bool(((values >= lower - _ROOM * scale) & (values <= upper + _ROOM * scale)).all())


def _signs_hold(prices: Vector, status: Indices, fixed: Flags) -> bool:
    """At an upper bound a price is not negative, at a lower one not positive; at a fixed value any is right."""
    at_upper = (status == AT_UPPER) & ~fixed
    at_lower = (status != AT_UPPER) & (status != BASIC) & ~fixed
    return bool((prices[at_upper] >= -_PRICE_ROOM).all() and (prices[at_lower] <= _PRICE_ROOM).all())
