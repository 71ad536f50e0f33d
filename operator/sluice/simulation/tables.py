"""Measured iteration times as the engine takes them: a grid over (chunk, batch, context).

Files are CSV with a column for the chunk (``C``), the decode batch (``B``), the context
per sequence (``kv``) and milliseconds (``ms``); further columns (model, gpu, ...) select
rows. A point that is missing inside the grid is an error that names it: a hole filled by
guessing would be a law nobody measured.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


class TableError(ValueError):
    """A table that cannot be used, with the file and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationTable:
    """Iteration seconds on a full grid; axes ascend, chunk 0 is the decode-only iteration."""

    chunks: tuple[float, ...]
    batches: tuple[float, ...]
    contexts: tuple[float, ...]
    seconds: tuple[tuple[tuple[float, ...], ...], ...]
    """Indexed [chunk][batch][context]."""


def read_table(path: Path, select: Mapping[str, str]) -> IterationTable:
    """The rows of ``path`` whose columns equal ``select``, as a grid."""
    points: dict[tuple[float, float, float], float] = {}
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = {"C", "B", "kv", "ms", *select} - set(reader.fieldnames or ())
        if missing:
            raise TableError(f"{path}: no column {', '.join(sorted(missing))}")
        for row in reader:
            if all(row[name] == value for name, value in select.items()):
                points[float(row["C"]), float(row["B"]), float(row["kv"])] = float(row["ms"]) / 1000
    if not points:
        raise TableError(f"{path}: no row has {dict(select)}")
    axes = [tuple(sorted({point[k] for point in points})) for k in range(3)]
    for chunk in axes[0]:
        for batch in axes[1]:
            for context in axes[2]:
                if points.get((chunk, batch, context), 0.0) <= 0.0:
                    raise TableError(f"{path}: no positive time at C={chunk:g}, B={batch:g}, kv={context:g}")
    seconds = tuple(tuple(tuple(points[c, b, x] for x in axes[2]) for b in axes[1]) for c in axes[0])
    return IterationTable(chunks=axes[0], batches=axes[1], contexts=axes[2], seconds=seconds)


def flatten(tables: Sequence[IterationTable | None]) -> tuple[Any, list[int]]:
    """All tables in one array (sizes of the axes, the axes, the times), and where each begins; -1: none."""
    parts: list[float] = []
    starts: list[int] = []
    for table in tables:
        if table is None:
            starts.append(-1)
            continue
        starts.append(len(parts))
        axes = (table.chunks, table.batches, table.contexts)
        parts += [float(len(axis)) for axis in axes]
        for axis in axes:
            parts += axis
        parts += [value for layer in table.seconds for row in layer for value in row]
    return np.array(parts or [0.0]), starts
