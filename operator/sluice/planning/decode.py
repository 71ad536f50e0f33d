"""From the program's sums back to classes: the canonical decode split.

The optimum fixes how much each class is served and how many decodes each mode carries, not
which class decodes where. Any split would do; this one is taken always, so that plans do
not jump between equal optima: the fastest modes fill first, and inside a pool every class
decodes in the same proportions (model: pro-rata, phi = gamma Y_s / (gamma Y_s + Y_m/tau)).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sluice.planning.formulate import Formulation, PoolColumns
from sluice.planning.groups import PoolGroup
from sluice.planning.program import Vector


@dataclass(frozen=True, slots=True)
class PoolSplit:
    """One pool's plan, one entry per class of the problem; zero where a class may not use it."""

    served: Vector
    """Requests/s prefilled (the paper's mu_p,i x_i)."""
    prefill: Vector
    """Prefills in service (x_i)."""
    decode_mixed: Vector
    """Decodes beside a prefill (y_m,i)."""
    decode_solo: Vector
    """Decodes on replicas without one (y_s,i)."""
    decode_queue: Vector
    """Requests waiting for a decode slot (q_d,i)."""
    engines: Vector
    """Engines per mode (f_k); what stands idle counts in no mode."""
    mixed: float
    """Engines that carry a prefill."""

    def times(self, share: float) -> PoolSplit:
        """A part of it all."""
        return PoolSplit(*(share * getattr(self, field.name) for field in fields(self)))


def split(formulation: Formulation, primal: Vector) -> tuple[PoolSplit, ...]:
    """The canonical plan of each pool of the problem from an optimal ``primal``."""
    splits: dict[int, PoolSplit] = {}
    for columns in formulation.pools:
        whole = _group(formulation, columns, np.maximum(primal, 0.0))
        for place, share in zip(columns.group.places, columns.group.shares(), strict=True):
            splits[place] = whole if share == 1.0 else whole.times(share)
    return tuple(splits[place] for place in range(len(splits)))


def _group(formulation: Formulation, columns: PoolColumns, primal: Vector) -> PoolSplit:
    """The plan of one group of equal pools."""
    data, count, pool = formulation.data, len(formulation.data.rate), columns.group
    served, leaving = np.zeros(count), np.zeros(count)
    served[pool.classes] = primal[columns.served]
    leaving[pool.classes[columns.waiting_classes]] = primal[columns.waiting]
    engines = primal[columns.engines]
    mixed = float(sum(share for share, mode in zip(engines, pool.modes, strict=True) if mode.mixed))
    steps = data.steps * np.maximum(0.0, served - leaving)
    mixed_seconds, solo_seconds = _seconds_per_step(pool, engines, float(steps.sum()))
    prompt = data.uncached * served
    theta = np.where(data.theta > 0, data.theta, 1.0)
    return PoolSplit(
        served=served,
        prefill=prompt * (mixed / prompt.sum()) if prompt.any() else prompt,
        decode_mixed=steps * mixed_seconds,
        decode_solo=steps * solo_seconds,
        decode_queue=leaving / theta,
        engines=engines,
        mixed=mixed,
    )


def _seconds_per_step(pool: PoolGroup, engines: Vector, steps: float) -> tuple[float, float]:
    """Slot-seconds in mixed and in solo modes that one decode step takes on average.

    ``steps`` per second are dealt to the modes, fastest first (solo before mixed when equal),
    each up to its slots. Engines that the program left idle decode solo.
    """
    if steps <= 0:
        return 0.0, 0.0
    idle = max(0.0, pool.replicas - float(engines.sum()))
    solo = [k for k, mode in enumerate(pool.modes) if not mode.mixed and mode.batch > 0]
    rest = max(solo, key=lambda k: pool.modes[k].decode_rate, default=None)
    seconds = [0.0, 0.0]
    left = steps
    for k in sorted(range(len(pool.modes)), key=lambda k: (pool.modes[k].seconds, pool.modes[k].mixed)):
        mode = pool.modes[k]
        taken = min(left, mode.decode_rate * (engines[k] + (idle if k == rest else 0.0)))
        seconds[0 if mode.mixed else 1] += taken * mode.seconds
        left -= taken
    return seconds[0] / steps, seconds[1] / steps
