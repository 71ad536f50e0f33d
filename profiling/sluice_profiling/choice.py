"""Which law a profile should carry, and why: decided by error, said in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sluice_profiling.laws import LawFit, fit_four, fit_paper
from sluice_profiling.measurement import Measurement

GOOD_MEAN_ERROR = 0.10
"""A law that is off by more than a tenth on average should not stand for the table."""
PAPER_MINIMUM_CHUNKS = 3


class Verdict(StrEnum):
    """What the profile's law is."""

    ONE_BATCH = "OneBatch"
    """Only one batch was measured well enough: the paper's law, at that batch."""
    WHOLE_GRID = "WholeGrid"
    """The four-parameter law serves every batch measured."""
    TABLE_NEEDED = "TableNeeded"
    """No closed law serves the grid: the law holds at the operating batch, the points tell the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The law that was chosen, the other one for comparison, and the reason."""

    verdict: Verdict
    chosen: LawFit
    other: LawFit | None
    why: str


def choose(measurements: Sequence[Measurement], operating_batch: int) -> Choice:
    """Fit what can be fitted and choose; ValueError where nothing can be."""
    paper = _paper(measurements, operating_batch)
    four = _four(measurements)
    if four is None:
        if paper is None:
            raise ValueError("too few points for either law: measure more chunks, or more batches")
        return Choice(
            verdict=Verdict.ONE_BATCH,
            chosen=paper,
            other=None,
            why=f"One batch was measured, so the law holds at batch {operating_batch} (mean error {_of(paper)}).",
        )
    if four.mean_error <= GOOD_MEAN_ERROR or paper is None:
        beside = f"; the paper's law at batch {operating_batch} alone: {_of(paper)}" if paper else ""
        return Choice(
            verdict=Verdict.WHOLE_GRID,
            chosen=four,
            other=paper,
            why=f"The four-parameter law serves all {four.points} points (mean error {_of(four)}){beside}.",
        )
    return Choice(
        verdict=Verdict.TABLE_NEEDED,
        chosen=paper,
        other=four,
        why=f"The four-parameter law is off by {_of(four)} on average, so the law holds at batch "
        f"{operating_batch} alone (mean error {_of(paper)}) and the measured points stand beside it.",
    )


def _of(fit: LawFit) -> str:
    return f"{fit.mean_error:.1%}"


def _paper(measurements: Sequence[Measurement], batch: int) -> LawFit | None:
    chunks = {entry.point.chunk_tokens for entry in measurements if entry.point.batch == batch}
    return fit_paper(measurements, batch) if 0 in chunks and len(chunks) > PAPER_MINIMUM_CHUNKS else None


def _four(measurements: Sequence[Measurement]) -> LawFit | None:
    chunks = {entry.point.chunk_tokens for entry in measurements}
    batches = {entry.point.batch for entry in measurements}
    enough = len(measurements) >= 5 and len(batches) >= 2 and len(chunks) >= 3
    return fit_four(measurements) if enough else None
