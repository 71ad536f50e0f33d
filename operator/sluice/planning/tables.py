"""Measured iteration-time tables as they are: (chunk, batch, context) -> seconds, no law between.

Every measured (chunk, batch) pair becomes one mode. The context is not a choice but a
consequence of the work, so each pair is read at the mean context of the demand: between
two measured contexts by straight line, below the smallest at the smallest (a little too
slow), and above the largest not at all. A pair that lacks a neighbour is a hole: it is
left out and named, because a guess between other pairs would be a law again. A pair that was
never measured is one only where the table is a grid otherwise; prompts and decodes measured
apart are no grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sluice.model.law import MeasuredPoint
from sluice.planning.modes import Mode

_GRID = 2 / 3
"""Share of all (chunk, batch) pairs from which a table counts as a grid with holes."""
_NAMED = 3
"""Holes that a remark names; the rest are counted."""


def mean_context(classes: Iterable[tuple[float, float, float]]) -> float:
    """Mean context of a decoding sequence: P + D/2, weighted by decode work; entries are (rate, P, D)."""
    entries = list(classes)
    if not any(rate * output > 0 for rate, _, output in entries):
        entries = [(1.0, prompt, output) for _, prompt, output in entries]
    weight = sum(rate * output for rate, _, output in entries)
    if not weight > 0:
        return 0.0
    return sum(rate * output * (prompt + output / 2) for rate, prompt, output in entries) / weight


def modes_of_table(
    points: Sequence[MeasuredPoint], context_tokens: float, slots: int, chunk_tokens: int, batched_token_budget: int
) -> tuple[tuple[Mode, ...], tuple[str, ...]]:
    """The modes an engine of ``slots`` and ``batched_token_budget`` can run, and remarks about the table."""
    table: dict[tuple[int, int], dict[int, float]] = {}
    for point in points:
        table.setdefault((point.chunk_tokens, point.batch), {})[point.context_tokens] = point.seconds
    contexts = sorted({point.context_tokens for point in points})
    chunks, batches = sorted({chunk for chunk, _ in table}), sorted({batch for _, batch in table})
    remarks = list(_bounds(contexts, context_tokens, chunks, chunk_tokens))
    context = min(max(context_tokens, contexts[0]), contexts[-1])
    grid = len(table) >= _GRID * len(chunks) * len(batches)
    modes, holes = [], []
    for chunk in chunks:
        for batch in batches:
            if not _fits(chunk, batch, slots, chunk_tokens, batched_token_budget):
                continue
            seconds = _at(table.get((chunk, batch), {}), contexts, context)
            if seconds is None and (grid or (chunk, batch) in table):
                holes.append(f"chunk {chunk}, batch {batch}")
            elif seconds is not None:
                modes.append(Mode(chunk, batch, seconds))
    if holes:
        rest = f" and {len(holes) - _NAMED} more" if len(holes) > _NAMED else ""
        remarks.append(f"the table has holes at context {context:.0f}: {'; '.join(holes[:_NAMED])}{rest} left out")
    return tuple(modes), tuple(remarks)


def _bounds(contexts: Sequence[int], context_tokens: float, chunks: Sequence[int], chunk_tokens: int) -> Iterable[str]:
    """What the table cannot answer."""
    if context_tokens > contexts[-1]:
        yield (
            f"the mean context of {context_tokens:.0f} tokens is above what was measured ({contexts[-1]}); "
            "the plan is too hopeful by that much"
        )
    if chunk_tokens > chunks[-1]:
        yield f"chunkTokens {chunk_tokens} is above what was measured ({chunks[-1]}); larger chunks are not planned"


def _fits(chunk: int, batch: int, slots: int, chunk_tokens: int, budget: int) -> bool:
    """Whether the engine can run the point: the prefill takes a slot, and the budget holds chunk and decodes."""
    return batch + (chunk > 0) <= slots and chunk <= chunk_tokens and chunk + batch <= budget and chunk + batch > 0


def _at(measured: dict[int, float], contexts: Sequence[int], context: float) -> float | None:
    """The time at ``context`` between its two neighbours of the whole table, or None where one is missing."""
    below = max(entry for entry in contexts if entry <= context)
    above = min(entry for entry in contexts if entry >= context)
    if below not in measured or above not in measured:
        return None
    if below == above:
        return measured[below]
    share = (context - below) / (above - below)
    return measured[below] * (1 - share) + measured[above] * share
