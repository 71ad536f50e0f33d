"""Which of several equal optima is taken, so that plans do not jump between them.

The rule, in this order: the plan whose busiest pool is least busy; then the class, and
after it the pool, whose name comes first is served more. Equal pools never tie, because they
are planned as one (``groups``), and the decode split is canonical (``decode``); what is
left are classes that earn the same, and fleets with room to spare, where every way to
spread the work earns the same and a corner of the program would fill one pool and leave
the other idle.

The rule is a second program on the first one's optimal face: whatever has a price stays
where it is. The prices of the first prove the second's answer optimal too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sluice.planning.certificate import Certificate
from sluice.planning.formulate import Formulation
from sluice.planning.program import Block, Flags, Indices, Program, Vector
from sluice.planning.solver import Solution, solve

_FREE = 1e-9
"""Relative price below which a row or bound does not hold the optimum in place."""
_AT = 1e-9
"""Relative distance from a bound that counts as lying on it."""
_PAPER_MODES = 2
"""Mixed and solo."""
_ORDER_WEIGHT = 1e-3
"""Weight of the order of names against the load of the busiest pool."""


def untied(formulation: Formulation, solution: Solution, certificate: Certificate) -> Vector | None:
    """The optimum that the rule prefers, or None where the first is the only one or the rule has no answer."""
    program = formulation.program
    free = _FREE * program.money
    free_column = np.abs(certificate.reduced) * program.scale <= free
    if not _may_tie(formulation, solution, certificate, free_column):
        return None
    face = _face(program, solution, free_column, np.abs(solution.dual) * program.row_sizes <= free)
    whole = _with_load(formulation, face)
    settled, moves = _held(whole)
    answer = solve(_rest(whole, settled, moves))
    if not answer.verdict.may_actuate:
        return None
    settled[moves] = answer.primal
    return settled[: program.columns]


def _may_tie(formulation: Formulation, solution: Solution, certificate: Certificate, free_column: Flags) -> bool:
    """Whether another optimum is possible that would be another plan."""
    program, primal, pools = formulation.program, solution.primal, formulation.pools
    room = np.minimum(primal - program.lower, program.upper - primal)
    loose = free_column & (room <= _AT * program.scale)
    if len(pools) > 1 or len(pools[0].group.modes) != _PAPER_MODES:
        return bool(np.count_nonzero(loose))
    # With one pool of two modes, how engines spend their time does not change the plan; only who is served does.
    if np.count_nonzero(loose[pools[0].served]):
        return True
    rows = formulation.admission.slice
    most = program.row_upper[rows]
    unpriced = (solution.dual[rows] == 0.0) & (most > 0.0) & (most - certificate.activity[rows] <= _AT * most)
    return bool(np.count_nonzero(unpriced))


def _face(program: Program, solution: Solution, free_column: Flags, free_row: Flags) -> Program:
    """The program with everything that has a price held where it is, and no objective."""
    primal = solution.primal
    near_lower = np.abs(primal - program.lower) <= np.abs(primal - program.upper)
    bound = np.where(near_lower, program.lower, program.upper)
    row_bound = np.where(solution.dual > 0, program.row_upper, program.row_lower)
    return replace(
        program,
        objective=np.zeros(program.columns),
        lower=np.where(free_column, program.lower, bound),
        upper=np.where(free_column, program.upper, bound),
        row_lower=np.where(free_row, program.row_lower, row_bound),
        row_upper=np.where(free_row, program.row_upper, row_bound),
    )


def _with_load(formulation: Formulation, face: Program) -> Program:
    """The face with the load of the busiest pool as a column, to be minimised, and the order of names."""
    objective = face.objective.copy()
    names = sorted(range(len(formulation.problem.classes)), key=lambda i: formulation.problem.classes[i].name)
    rank = np.zeros(len(names))
    rank[names] = np.arange(len(names))
    pools = sorted(formulation.pools, key=lambda columns: columns.group.name)
    for place, columns in enumerate(pools):
        weight = (1 + 1 / (1 + rank[columns.group.classes])) * (1 + 1 / (2 + place))
        objective[columns.served] = _ORDER_WEIGHT * weight / face.scale[columns.served] / max(len(names), 1)
    rows: list[int] = []
    columns_: list[int] = []
    values: list[float] = []
    labels: list[str] = []
    for columns in formulation.pools:
        if columns.group.replicas > 0:
            modes = range(columns.engines.start, columns.engines.stop)
            rows += [face.rows + len(labels)] * (len(modes) + 1)
            columns_ += [*modes, face.columns]
            values += [1.0 / columns.group.replicas] * len(modes) + [-1.0]
            labels.append(columns.group.name)
    count = len(labels)
    return Program(
        row_blocks=(*face.row_blocks, Block("load", face.rows, labels)),
        column_blocks=(*face.column_blocks, Block("highest load", face.columns, ["fleet"])),
        objective=np.append(objective, -1.0),
        lower=np.append(face.lower, 0.0),
        upper=np.append(face.upper, np.inf),
        scale=np.append(face.scale, 1.0),
        row_lower=np.append(face.row_lower, np.full(count, -np.inf)),
        row_upper=np.append(face.row_upper, np.zeros(count)),
        entry_rows=np.append(face.entry_rows, np.array(rows, dtype=np.int64)),
        entry_columns=np.append(face.entry_columns, np.array(columns_, dtype=np.int64)),
        entries=np.append(face.entries, np.array(values)),
    )


def _held(whole: Program) -> tuple[Vector, Indices]:
    """The columns' values where they are given, 0 of the others; and these, which may move.

    Given are those between equal bounds, and then those that an equation leaves no choice: as a rule nearly all.
    """
    values, may_move = np.where(whole.lower < whole.upper, 0.0, whole.lower), whole.lower < whole.upper
    moving = may_move[whole.entry_columns]
    alone = (np.bincount(whole.entry_rows[moving], minlength=whole.rows) == 1) & (whole.row_lower == whole.row_upper)
    single = (moving & alone[whole.entry_rows]).nonzero()[0]
    rows, columns = whole.entry_rows[single], whole.entry_columns[single]
    there = (whole.row_upper - whole.times(values))[rows] / whole.entries[single]
    values[columns] = np.clip(there, whole.lower[columns], whole.upper[columns])
    may_move[columns] = False
    return values, may_move.nonzero()[0]


def _rest(whole: Program, held: Vector, moves: Indices) -> Program:
    """The program of the columns that may move, beside those that are ``held``."""
    place = np.full(whole.columns, -1)
    place[moves] = np.arange(len(moves))
    inside = (place[whole.entry_columns] >= 0).nonzero()[0]
    is_row = np.zeros(whole.rows, dtype=bool)
    is_row[whole.entry_rows[inside]] = True
    rows = is_row.nonzero()[0]
    taken = whole.times(held)[rows]
    return Program(
        row_blocks=(Block("face", 0, [whole.row_name(row) for row in rows.tolist()]),),
        column_blocks=(Block("face", 0, [whole.column_name(column) for column in moves.tolist()]),),
        objective=whole.objective[moves],
        lower=whole.lower[moves],
        upper=whole.upper[moves],
        scale=whole.scale[moves],
        row_lower=whole.row_lower[rows] - taken,
        row_upper=whole.row_upper[rows] - taken,
        entry_rows=rows.searchsorted(whole.entry_rows[inside]),
        entry_columns=place[whole.entry_columns[inside]],
        entries=whole.entries[inside],
    )
