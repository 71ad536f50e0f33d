"""What users would see: an honest estimate of waits and token times from fluid quantities.

Means in steady state, without queueing noise: the fluid wait of those who are served, the
prefill itself, and the decode queue. Tails are outside the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sluice.planning.decode import PoolSplit
from sluice.planning.formulate import Formulation
from sluice.planning.pool_rows import prefill_seconds
from sluice.planning.program import Vector

_LONGEST = 1e6
"""Seconds; a class of which next to nothing is served would wait without end."""


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
    served = sum((part.served for part in splits), np.zeros(len(data.rate)))
    finished = served - sum((part.leaving for part in splits), np.zeros(len(data.rate)))
    wait = _fluid_wait(data.rate, served, data.theta)
    decode_wait = _fluid_wait(served, finished, data.theta)
    prefill, slots, tokens = np.zeros(len(data.rate)), np.zeros(len(data.rate)), np.zeros(len(data.rate))
    for columns in formulation.pools:
        group = columns.group
        own = sum((splits[place].served for place in group.places), np.zeros(len(data.rate)))
        if group.first.external is None:
            mode = group.prefill_mode
            if mode is not None:
                seconds = np.maximum(1.0, np.ceil(data.uncached / mode.chunk_tokens)) * mode.seconds
                prefill += own * seconds
            slots += sum(
                (splits[place].decode_mixed + splits[place].decode_solo for place in group.places), np.zeros(len(own))
            )
            tokens += data.output * (own - sum((splits[p].leaving for p in group.places), np.zeros(len(own))))
            continue
        prefill += own * prefill_seconds(group, 0.0)
        if group.first.external.token_seconds is not None:
            slots += own * data.output * group.first.external.token_seconds
            tokens += own * data.output
    safe = np.maximum(served, 1e-300)
    mean_prefill = np.where(served > 0, prefill / safe, 0.0)
    return Latency(
        wait=wait,
        first_token=np.minimum(wait + mean_prefill + decode_wait, _LONGEST),
        token=np.where(tokens > 1e-300, slots / np.maximum(tokens, 1e-300), 0.0),
    )


def _fluid_wait(came: Vector, stayed: Vector, theta: Vector) -> Vector:
    """ln(came / stayed) / theta; 0 where nobody leaves or nobody can."""
    impatient = (theta > 0) & (came > 0) & (stayed < came)
    ratio = np.where(impatient, came / np.maximum(stayed, 1e-300), 1.0)
    wait: Vector = np.minimum(np.log(ratio) / np.where(impatient, theta, 1.0), _LONGEST)
    wait[wait < 1e-12] = 0.0
    return wait
