"""What users would see: an honest estimate of waits and token times from fluid quantities.

Means in steady state, without queueing noise: the fluid wait of those who are served, the
prefill itself, and the decode queue. Tails are outside the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sluice.planning.decode import PoolSplit
from sluice.planning.formulate import Formulation
from sluice.planning.program import Vector

_LONGEST = 1e6
"""Seconds; a class of which next to nothing is served would wait without end."""
_ALL = 1 - 1e-12
"""Share of those who came from which the rest is rounding."""
_NOTHING = 1e-300
"""Rate below which nothing is served."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds, one entry per class."""

    wait: Vector
    """W_i = ln(Lambda_i / z_i) / theta_i: wait for the prefill of those who are served."""
    first_token: Vector
    """Wait, prefill, and the wait for a decode slot."""
    token: Vector
    """Mean time per output token."""


def latencies(formulation: Formulation, splits: tuple[PoolSplit, ...]) -> Latency:
    """The estimates for one plan."""
    data = formulation.data
    served = _total([part.served for part in splits])
    finished = served
    if any(len(columns.waiting_classes) for columns in formulation.pools):
        finished = served - _total([part.leaving for part in splits])
    prefill, slots, tokens = (np.zeros(len(served)) for _ in range(3))
    for columns in formulation.pools:
        group, parts = columns.group, [splits[place] for place in columns.group.places]
        own = _total([part.served for part in parts])
        if (external := group.first.external) is not None:
            prefill += own * external.first_token_seconds
            if external.token_seconds is not None:
                slots += own * data.output * external.token_seconds
                tokens += own * data.output
            continue
        if (mode := group.prefill_mode) is not None:
            chunks = np.maximum(1.0, np.ceil(data.uncached / mode.chunk_tokens))
            prefill += own * chunks * mode.seconds
        slots += _total([part.decode_mixed for part in parts]) + _total([part.decode_solo for part in parts])
        tokens += data.output * (own if finished is served else own - _total([part.leaving for part in parts]))
    wait = _fluid_wait(data.rate, served, data.theta)
    decode_wait = 0.0 if finished is served else _fluid_wait(served, finished, data.theta)
    mean_prefill = prefill / np.maximum(served, _NOTHING)
    return Latency(
        wait=wait,
        first_token=np.minimum(wait + mean_prefill + decode_wait, _LONGEST),
        token=slots / np.maximum(tokens, _NOTHING),
    )


def _total(parts: list[Vector]) -> Vector:
    return parts[0] if len(parts) == 1 else np.sum(parts, axis=0)


def _fluid_wait(came: Vector, stayed: Vector, theta: Vector) -> Vector:
    """ln(came / stayed) / theta; 0 where nobody leaves or nobody can."""
    wait = np.zeros(len(came))
    impatient = np.flatnonzero((stayed < came * _ALL) & (theta > 0))
    if len(impatient):
        ratio = came[impatient] / np.maximum(stayed[impatient], _NOTHING)
        wait[impatient] = np.minimum(np.log(ratio) / theta[impatient], _LONGEST)
    return wait
