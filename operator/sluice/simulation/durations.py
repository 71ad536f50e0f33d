"""How long iterations take: one of them, and a span in which the context grows.

Iteration time is ``max(solo, mixed + per_token*chunk) + per_sequence*decodes +
per_context*resident``, or a measured table over (chunk, batch, context). Inside a span
the context grows by one token per decode and iteration, hence linearly.
"""

from __future__ import annotations

import math

from sluice.policy.compiled import inner
from sluice.simulation.layout import Array, Sim


@inner
def _cell(table: Array, start: int, size: int, value: float) -> int:
    """The cell of ``value`` on an axis; values outside take the edge cells."""
    k = 0
    while k + 2 < size and value >= table[start + k + 1]:
        k += 1
    return k


@inner
def _share(table: Array, start: int, size: int, value: float) -> float:
    """Where in the cell at ``start`` a value lies: held below the axis, extrapolated above it."""
    if size < 2:
        return 0.0
    return float(max(0.0, (value - table[start]) / (table[start + 1] - table[start])))


@inner
def _from_table(table: Array, at: int, chunk: float, decodes: float, context: float) -> float:
    """Trilinear interpolation in a measured table, seconds; ``context`` is tokens per sequence."""
    chunks, batches, contexts = int(table[at]), int(table[at + 1]), int(table[at + 2])
    chunk_axis = at + 3
    batch_axis = chunk_axis + chunks
    context_axis = batch_axis + batches
    c = _cell(table, chunk_axis, chunks, chunk)
    b = _cell(table, batch_axis, batches, decodes)
    x = _cell(table, context_axis, contexts, context)
    u = _share(table, chunk_axis + c, chunks, chunk)
    v = _share(table, batch_axis + b, batches, decodes)
    w = _share(table, context_axis + x, contexts, context)
    first = context_axis + contexts + (c * batches + b) * contexts + x
    seconds = 0.0
    for corner in range(8):
        weight = (u if corner & 4 else 1 - u) * (v if corner & 2 else 1 - v) * (w if corner & 1 else 1 - w)
        if weight != 0.0:
            step = (corner >> 2) * batches * contexts + ((corner >> 1) & 1) * contexts + (corner & 1)
            seconds += weight * table[first + step]
    return float(seconds)


@inner
def iteration_seconds(sim: Sim, pool: Array, chunk: float, decodes: float, resident: float) -> float:
    """Seconds of one iteration."""
    if pool.table >= 0:
        return _from_table(sim.table, pool.table, chunk, decodes, resident / max(1.0, decodes))
    base = pool.solo
    if chunk > 0.0:
        base = max(base, pool.mixed + pool.per_token * chunk)
    return float(base + pool.per_sequence * decodes + pool.per_context * resident)


@inner
def span_seconds(tau: float, slope: float, steps: float) -> float:
    """Seconds of ``steps`` iterations whose times grow by ``slope``."""
    return steps * tau + slope * steps * (steps - 1.0) * 0.5


@inner
def steps_until(tau: float, slope: float, seconds: float) -> float:
    """Whole iterations that end at or after ``seconds``: the one in progress is finished."""
    if slope <= 0.0:
        return float(max(1.0, math.ceil(seconds / tau - 1e-9)))
    linear = tau - 0.5 * slope
    return float(max(1.0, math.ceil((math.sqrt(linear * linear + 2.0 * slope * seconds) - linear) / slope - 1e-9)))
