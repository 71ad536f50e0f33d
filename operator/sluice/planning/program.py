"""A sparse linear program as arrays, built in bulk.

Every planning question becomes one ``Program``: maximise ``objective @ x`` subject to
``row_lower <= A x <= row_upper`` and ``lower <= x <= upper``. Rows and columns come in
blocks with a number, a name and labels, so that a row can be named in a message
(``(4) slots[a100,solo]``) although nothing is spelled out while the program is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sluice.planning.lazy import lazy

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]
INFINITY = float("inf")
Numbers = float | list[float] | Vector
"""One number for all of a block, or one for each."""
Places = int | Sequence[int]


class Labels(Protocol):
    """What the rows or columns of a block are called: a list of names, or names that are spelled out when read."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, place: int, /) -> str:
        """The name of one."""


class Spelled:
    """Labels that nobody spells out before they are read."""

    __slots__ = ("_count", "_spell")

    def __init__(self, count: int, spell: Callable[[int], str]) -> None:
        self._count, self._spell = count, spell

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def __getitem__(self, place: int, /) -> str:
        """The name of one."""
        return self._spell(place)


class Block(NamedTuple):
    """A run of rows or columns of one kind."""

    name: str
    """Number and name, as in the model's statement: ``(1) admission``."""
    start: int
    labels: Labels

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
    """Row of each nonzero, in any order."""
    entry_columns: Indices
    """Column of each nonzero."""
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
            f"{block.name}[{block.labels[place]}]" for block in self.row_blocks for place in range(len(block.labels))
        ]

    def row_block(self, name: str) -> Block | None:
        """The block of rows called ``name``."""
        return next((block for block in self.row_blocks if block.name == name), None)

    def with_entries(self, entries: Vector) -> Program:
        """The same with other nonzeros in the same places; what does not depend on them is not computed again."""
        made = replace(self, entries=entries)
        made.__dict__.update(low=self.low, high=self.high, bound_sizes=self.bound_sizes)
        made.__dict__.update(scaled_objective=self.scaled_objective, money=self.money)
        return made

    @lazy
    def low(self) -> Vector:
        """Lower bounds of all columns, then of all rows: what holds for both is asked once."""
        return np.concatenate([self.lower, self.row_lower])

    @lazy
    def high(self) -> Vector:
        """Upper bounds of all columns, then of all rows."""
        return np.concatenate([self.upper, self.row_upper])

    @lazy
    def bound_sizes(self) -> Vector:
        """The smaller bound of each row, without its sign; 0 where there is none."""
        sizes = np.minimum(np.abs(self.row_lower), np.abs(self.row_upper))
        sizes[np.isinf(sizes)] = 0.0
        return sizes

    @lazy
    def row_scale(self) -> Vector:
        """Largest scaled term of each row, 1 for an empty one."""
        return np.where(self.row_sizes, self.row_sizes, 1.0)

    @lazy
    def unit_entries(self) -> Vector:
        """Every nonzero of the scaled program: columns divided by their scale, rows by their largest term."""
        unit: Vector = self.scaled_entries / self.row_scale[self.entry_rows]
        return unit

    @lazy
    def scaled_objective(self) -> Vector:
        """Money per column at its typical value."""
        scaled: Vector = self.objective * self.scale
        return scaled

    @lazy
    def money(self) -> float:
        """The largest money term of the objective at typical values; never 0."""
        return max(highest(np.abs(self.scaled_objective)), 1e-300)

    @lazy
    def scaled_entries(self) -> Vector:
        """Every nonzero times its column's scale: the terms of its row at typical values."""
        scaled: Vector = self.entries * self.scale[self.entry_columns]
        return scaled

    @lazy
    def row_sizes(self) -> Vector:
        """Largest term of each row at typical values; 0 for an empty row."""
        sizes = np.zeros(self.rows)
        np.maximum.at(sizes, self.entry_rows, np.abs(self.scaled_entries))
        return sizes

    def times(self, x: Vector) -> Vector:
        """A x."""
        return summed(self.entry_rows, self.entries * x[self.entry_columns], self.rows)

    def times_transposed(self, y: Vector) -> Vector:
        """A' y."""
        return summed(self.entry_columns, self.entries * y[self.entry_rows], self.columns)


def highest(values: Vector) -> float:
    """The largest of ``values``, 0 of none; of a few numbers in a third of the time that ``max`` takes."""
    return float(values[values.argmax()]) if len(values) else 0.0


def summed(places: Indices, values: Vector, count: int) -> Vector:
    """Sums of ``values`` by place, 0 .. count - 1."""
    sums: Vector = np.bincount(places, values, count).astype(np.float64, copy=False)
    return sums


def _name(blocks: tuple[Block, ...], index: int) -> str:
    for block in blocks:
        if index < block.stop:
            return f"{block.name}[{block.labels[index - block.start]}]"
    raise IndexError(index)


class ProgramBuilder:
    """Collects blocks and nonzeros; ``build`` makes arrays of them once.

    Plain lists: a program has a dozen small blocks, and an array per block and number costs more than they do.
    """

    def __init__(self) -> None:
        self._row_blocks: list[Block] = []
        self._column_blocks: list[Block] = []
        self._objective: list[float] = []
        self._lower: list[float] = []
        self._upper: list[float] = []
        self._scale: list[float] = []
        self._row_lower: list[float] = []
        self._row_upper: list[float] = []
        self._entry_rows: list[int] = []
        self._entry_columns: list[int] = []
        self._entries: list[float] = []

    def columns(
        self,
        name: str,
        labels: Labels,
        *,
        objective: Numbers = 0.0,
        lower: Numbers = 0.0,
        upper: Numbers = INFINITY,
        scale: Numbers = 1.0,
    ) -> int:
        """Add a block of columns; returns the index of its first."""
        start, count = len(self._objective), len(labels)
        self._column_blocks.append(Block(name, start, labels))
        self._objective += _listed(objective, count)
        self._lower += _listed(lower, count)
        self._upper += _listed(upper, count)
        self._scale += _listed(scale, count)
        return start

    def rows(
        self,
        name: str,
        labels: Labels,
        *,
        lower: Numbers = -INFINITY,
        upper: Numbers = INFINITY,
    ) -> int:
        """Add a block of rows; returns the index of its first."""
        start, count = len(self._row_lower), len(labels)
        self._row_blocks.append(Block(name, start, labels))
        self._row_lower += _listed(lower, count)
        self._row_upper += _listed(upper, count)
        return start

    def entries(self, rows: Places, columns: Sequence[int], values: Numbers) -> None:
        """Add nonzeros, one per column; a single row or value is that of all."""
        count = len(columns)
        self._entry_rows += [rows] * count if isinstance(rows, int) else rows
        self._entry_columns += columns
        self._entries += _listed(values, count)

    def entry(self, row: int, column: int, value: float) -> None:
        """Add one nonzero."""
        self._entry_rows.append(row)
        self._entry_columns.append(column)
        self._entries.append(value)

    def charge(self, column: int, cost: float) -> None:
        """Take ``cost`` per unit off the objective of a column that is there already."""
        self._objective[column] -= cost

    def build(self) -> Program:
        """The program. Nonzeros of value 0 are left out; none may be given twice."""
        rows, columns = np.array(self._entry_rows, dtype=np.int64), np.array(self._entry_columns, dtype=np.int64)
        entries = np.array(self._entries, dtype=np.float64)
        if np.count_nonzero(entries) < len(entries):
            there = entries.nonzero()
            rows, columns, entries = rows[there], columns[there], entries[there]
        return Program(
            row_blocks=tuple(self._row_blocks),
            column_blocks=tuple(self._column_blocks),
            objective=np.array(self._objective),
            lower=np.array(self._lower),
            upper=np.array(self._upper),
            scale=np.array(self._scale),
            row_lower=np.array(self._row_lower),
            row_upper=np.array(self._row_upper),
            entry_rows=rows,
            entry_columns=columns,
            entries=entries,
        )


def _listed(value: Numbers, count: int) -> list[float]:
    if isinstance(value, (float, int)):
        return [value] * count
    if isinstance(value, list):
        return value
    return value.tolist()  # type: ignore[no-any-return]  # numpy does not say that a vector becomes a flat list
