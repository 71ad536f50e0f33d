"""A sparse linear program as arrays, built in bulk.

Every planning question becomes one ``Program``: maximise ``objective @ x`` subject to
``row_lower <= A x <= row_upper`` and ``lower <= x <= upper``. Rows and columns come in
blocks with a number, a name and labels, so that a row can be named in a message
(``(4) slots[a100,solo]``) although nothing is spelled out while the program is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]
INFINITY = float("inf")


@dataclass(frozen=True, slots=True)
class Block:
    """A run of rows or columns of one kind."""

    name: str
    """Number and name, as in the model's statement: ``(1) admission``."""
    start: int
    labels: Sequence[str]

    @property
    def stop(self) -> int:
        """One past the last index."""
        return self.start + len(self.labels)

    @property
    def slice(self) -> slice:
        """The block's place in a vector."""
        return slice(self.start, self.stop)


@dataclass(frozen=True, kw_only=True)
class Program:
    """Maximise ``objective @ x`` over ``lower <= x <= upper``, ``row_lower <= A x <= row_upper``."""

    row_blocks: tuple[Block, ...]
    column_blocks: tuple[Block, ...]
    objective: Vector
    lower: Vector
    upper: Vector
    scale: Vector
    """A typical size of each column's values: numbers the solver sees are of order one."""
    row_lower: Vector
    row_upper: Vector
    entry_rows: Indices
    """Row of each nonzero, not decreasing."""
    entry_columns: Indices
    """Column of each nonzero, increasing inside a row."""
    entries: Vector

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.row_lower)

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self.lower)

    def row_name(self, row: int) -> str:
        """``(number) name[label]`` of a row."""
        return _name(self.row_blocks, row)

    def column_name(self, column: int) -> str:
        """``name[label]`` of a column."""
        return _name(self.column_blocks, column)

    def row_names(self) -> list[str]:
        """All row names, in order."""
        return [
            f"{block.name}[{label}]" if label else block.name for block in self.row_blocks for label in block.labels
        ]

    def row_block(self, name: str) -> Block | None:
        """The block of rows called ``name``."""
        return next((block for block in self.row_blocks if block.name == name), None)

    @cached_property
    def scaled_entries(self) -> Vector:
        """Every nonzero times its column's scale: the terms of its row at typical values."""
        scaled: Vector = self.entries * self.scale[self.entry_columns]
        return scaled

    @cached_property
    def row_sizes(self) -> Vector:
        """Largest term of each row at typical values; 0 for an empty row."""
        return self.largest(np.abs(self.scaled_entries))

    def largest(self, terms: Vector) -> Vector:
        """Largest of ``terms``, one per nonzero and none negative, in each row."""
        largest = np.zeros(self.rows)
        np.maximum.at(largest, self.entry_rows, terms)
        return largest

    def times(self, x: Vector) -> Vector:
        """A x."""
        return summed(self.entry_rows, self.entries * x[self.entry_columns], self.rows)

    def times_transposed(self, y: Vector) -> Vector:
        """A' y."""
        return summed(self.entry_columns, self.entries * y[self.entry_rows], self.columns)


def summed(places: Indices, values: Vector, count: int) -> Vector:
    """Sums of ``values`` by place, 0 .. count - 1."""
    sums: Vector = np.bincount(places, values, minlength=count).astype(np.float64, copy=False)
    return sums


def _name(blocks: tuple[Block, ...], index: int) -> str:
    for block in blocks:
        if index < block.stop:
            return f"{block.name}[{block.labels[index - block.start]}]"
    raise IndexError(index)


class ProgramBuilder:
    """Collects blocks and nonzeros; ``build`` sorts them once."""

    def __init__(self) -> None:
        self._row_blocks: list[Block] = []
        self._column_blocks: list[Block] = []
        # Plain lists: a program has a dozen small blocks, and one array per block and number costs more than they do.
        self._objective: list[float] = []
        self._lower: list[float] = []
        self._upper: list[float] = []
        self._scale: list[float] = []
        self._row_lower: list[float] = []
        self._row_upper: list[float] = []
        self._entries: list[tuple[Indices, Indices, Vector]] = []
        self._few: tuple[list[int], list[int], list[float]] = ([], [], [])
        self._charges: list[tuple[int, float]] = []
        self._row_count = 0
        self._column_count = 0

    def columns(
        self,
        name: str,
        labels: Sequence[str],
        *,
        objective: float | Vector = 0.0,
        lower: float | Vector = 0.0,
        upper: float | Vector = INFINITY,
        scale: float | Vector = 1.0,
    ) -> int:
        """Add a block of columns; returns the index of its first."""
        start, count = self._column_count, len(labels)
        self._column_blocks.append(Block(name, start, labels))
        self._objective += _listed(objective, count)
        self._lower += _listed(lower, count)
        self._upper += _listed(upper, count)
        self._scale += _listed(scale, count)
        self._column_count += count
        return start

    def rows(
        self,
        name: str,
        labels: Sequence[str],
        *,
        lower: float | Vector = -INFINITY,
        upper: float | Vector = INFINITY,
    ) -> int:
        """Add a block of rows; returns the index of its first."""
        start, count = self._row_count, len(labels)
        self._row_blocks.append(Block(name, start, labels))
        self._row_lower += _listed(lower, count)
        self._row_upper += _listed(upper, count)
        self._row_count += count
        return start

    def entries(self, rows: Indices, columns: Indices, values: Vector) -> None:
        """Add nonzeros, one per position of the three arrays."""
        self._entries.append((rows, columns, values))

    def entry(self, row: int, column: int, value: float) -> None:
        """Add one nonzero."""
        self._few[0].append(row)
        self._few[1].append(column)
        self._few[2].append(value)

    def charge(self, column: int, cost: float) -> None:
        """Take ``cost`` per unit off the objective of a column that is there already."""
        self._charges.append((column, cost))

    def build(self) -> Program:
        """The program. Nonzeros of value 0 are left out; none may be given twice."""
        few_rows, few_columns, few_values = self._few
        rows = np.concatenate([*(entry[0] for entry in self._entries), np.array(few_rows, dtype=np.int64)])
        columns = np.concatenate([*(entry[1] for entry in self._entries), np.array(few_columns, dtype=np.int64)])
        values = np.concatenate([*(entry[2] for entry in self._entries), np.array(few_values, dtype=np.float64)])
        key = rows * max(1, self._column_count) + columns
        order = np.argsort(key, kind="stable")
        if not values.all():
            order = order[values[order] != 0.0]
        objective = np.array(self._objective)
        for column, cost in self._charges:
            objective[column] -= cost
        return Program(
            row_blocks=tuple(self._row_blocks),
            column_blocks=tuple(self._column_blocks),
            objective=objective,
            lower=np.array(self._lower),
            upper=np.array(self._upper),
            scale=np.array(self._scale),
            row_lower=np.array(self._row_lower),
            row_upper=np.array(self._row_upper),
            entry_rows=rows[order],
            entry_columns=columns[order],
            entries=values[order],
        )


def _listed(value: float | Vector, count: int) -> list[float]:
    return value.tolist() if isinstance(value, np.ndarray) else [value] * count
