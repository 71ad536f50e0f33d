"""Laws fitted to iteration times that others published: what ours can be laid beside.

The tables' folder is the package's own excerpt, or any folder with files of the same
names and columns. Fits here are plain relative least squares, as the tables hold no noise.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sluice_profiling.laws import LawFit, fit_four, fit_paper, relative_errors
from sluice_profiling.measurement import Measurement, Point

EXCERPT = Path(__file__).with_name("published_tables")
NAMES = ("aic_iteration_table.csv", "vidur_iteration_table.csv")
COLUMNS = frozenset({"model", "kv", "B", "C", "ms"})
"""What both tables hold."""
CONTEXT_TOKENS = 1024
LARGEST_BATCH = 128
MILLISECOND = 1e-3


@dataclass(frozen=True, slots=True, order=True)
class Setup:
    """What a published table is about."""

    model: str
    gpu: str
    tensor_parallel: int
    engine: str

    def __str__(self) -> str:
        return f"{self.model} {self.gpu} TP{self.tensor_parallel} ({self.engine})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The laws fitted to one published table."""

    setup: Setup
    four: LawFit
    pooled_mean_error: float
    """Mean relative error of the paper's law when one set of constants shall serve all batches, 0..1."""
    at_batch: tuple[tuple[int, LawFit], ...]
    """The paper's law at each batch by itself, where it is meant to be fitted."""


def load(folder: Path = EXCERPT, *, context_tokens: int = CONTEXT_TOKENS) -> dict[Setup, tuple[Measurement, ...]]:
    """The tables at one context; OSError or ValueError says what is missing, where, and what is there."""
    rows: dict[Setup, list[Measurement]] = defaultdict(list)
    contexts: set[int] = set()
    paths = [path for name in NAMES if (path := folder / name).is_file()]
    if not paths:
        raise FileNotFoundError(f"no iteration-time tables in {folder}: looked for {' and '.join(NAMES)}")
    for path in paths:
        for line, row in _rows(path):
            try:
                setup, measured = _setup(row), _measurement(row)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{line}: not a row of iteration times: {error!r}") from error
            contexts.add(measured.point.context_tokens)
            if measured.point.context_tokens == context_tokens and measured.point.batch <= LARGEST_BATCH:
                rows[setup].append(measured)
    if not rows:
        there = ", ".join(map(str, sorted(contexts)))
        raise ValueError(f"no rows in {folder} have a context of {context_tokens} tokens; there are {there or 'none'}")
    return {setup: tuple(rows[setup]) for setup in sorted(rows)}


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    with path.open(encoding="utf-8", newline="") as table:
        reader = csv.DictReader(table)
        if missing := sorted(COLUMNS - set(reader.fieldnames or ())):
            raise ValueError(f"{path}: lacks the columns {', '.join(missing)}")
        for row in reader:
            yield reader.line_num, row


def compare(setup: Setup, measurements: tuple[Measurement, ...]) -> Comparison:
    """Fit both forms to one table."""
    batches = sorted({entry.point.batch for entry in measurements})
    return Comparison(
        setup=setup,
        four=fit_four(measurements, robust=False),
        pooled_mean_error=_pooled_error(measurements),
        at_batch=tuple((batch, fit_paper(measurements, batch, robust=False)) for batch in batches),
    )


def table(comparisons: Iterable[Comparison]) -> str:
    """The comparison as a Markdown table."""
    head = (
        "| model, GPU | c0 ms | c1 ms/seq | a us/token | b0 tokens | error of four-parameter law, mean (worst) % "
        "| paper's law over all batches, mean % | paper's law at its own batch, mean (worst) % |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    return head + "".join(map(_line, comparisons))


def _line(comparison: Comparison) -> str:
    four, law = comparison.four, comparison.four.law
    own = [fit for _, fit in comparison.at_batch]
    own_mean = float(np.mean([fit.mean_error for fit in own]))
    return (
        f"| {comparison.setup} | {law.solo_seconds / MILLISECOND:.2f} | {law.per_sequence_seconds / MILLISECOND:.3f} "
        f"| {law.per_token_seconds * 1e6:.1f} | {four.of('knee_tokens').value:.0f} "
        f"| {four.mean_error:.1%} ({four.worst_error:.1%}) | {comparison.pooled_mean_error:.1%} "
        f"| {own_mean:.1%} ({max(fit.worst_error for fit in own):.1%}) |\n"
    )


def _pooled_error(measurements: tuple[Measurement, ...]) -> float:
    """Fit the paper's law as if all points were of one batch, and take its mean error."""
    one_batch = [
        Measurement(point=Point(entry.point.chunk_tokens, 1, entry.point.context_tokens), seconds=entry.seconds)
        for entry in measurements
    ]
    law = fit_paper(one_batch, 1, robust=False).law
    return float(np.abs(relative_errors(law, one_batch)).mean())


def _setup(row: Mapping[str, str]) -> Setup:
    if "gpu" in row:
        gpu = row["gpu"].removesuffix("_sxm").upper()
        return Setup(row["model"].removeprefix("Meta-"), gpu, int(row["tp"]), row["backend"])
    model, gpu, parallel = row["model"].rsplit(" ", 2)
    return Setup(model, gpu, int(parallel.removeprefix("TP")), "vidur")


def _measurement(row: Mapping[str, str]) -> Measurement:
    point = Point(int(row["C"]), int(row["B"]), int(row["kv"]))
    return Measurement(point=point, seconds=float(row["ms"]) * MILLISECOND)
