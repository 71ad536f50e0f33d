"""From the program's sums back to classes and pools: the canonical decode split.

The optimum fixes how much each class is served and how many decodes each mode carries, not
which class decodes where. Any split would do; this one is taken always, so that plans do
not jump between equal optima: the fastest modes fill first, and inside a pool every class
decodes in the same proportions (model: pro-rata, phi = gamma Y_s / (gamma Y_s + Y_m/tau)).
Where the program tells classes apart in a batch and decodes may move, its own split stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sluice.planning.formulate import Formulation, PoolColumns
from sluice.planning.groups import PoolGroup
from sluice.planning.program import Vector
from sluice.planning.promises import PromiseKind


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
    leaving: Vector
    """Requests/s that leave the decode queue (theta_i q_d,i)."""
    engines: Vector
    """Engines per mode (f_k); what stands idle counts in no mode."""
    mixed: float
    """Engines that carry a prefill."""
    busy: float
    """Engines whose time is filled."""

    def times(self, share: float) -> PoolSplit:
        """A part of it all."""
        return PoolSplit(
            served=self.served * share,
            prefill=self.prefill * share,
            decode_mixed=self.decode_mixed * share,
            decode_solo=self.decode_solo * share,
            decode_queue=self.decode_queue * share,
            leaving=self.leaving * share,
            engines=self.engines * share,
            mixed=self.mixed * share,
            busy=self.busy * share,
        )


def split(formulation: Formulation, primal: Vector) -> tuple[PoolSplit, ...]:
    """The canonical plan of each pool of the problem from an optimal ``primal``."""
    splits: dict[int, PoolSplit] = {}
    primal = np.maximum(primal, 0.0)
    for columns in formulation.pools:
        whole = _group(formulation, columns, primal)
        for place, share in zip(columns.group.places, columns.group.shares(), strict=True):
            splits[place] = whole if share == 1.0 else whole.times(share)
    return tuple(splits[place] for place in range(len(splits)))


def _group(formulation: Formulation, columns: PoolColumns, primal: Vector) -> PoolSplit:
    """The plan of one group of equal pools."""
    data, group = formulation.data, columns.group
    served, leaving = np.zeros(len(data.rate)), np.zeros(len(data.rate))
    served[group.classes] = primal[columns.served]
    if group.first.external is not None:
        nothing = np.zeros(len(data.rate))
        return PoolSplit(served, nothing, nothing, nothing, nothing, nothing, np.zeros(0), 0.0, 0.0)
    finished = served
    if len(columns.waiting_classes):
        leaving[group.classes[columns.waiting_classes]] = primal[columns.waiting]
        finished = np.maximum(0.0, served - leaving)
    engines = primal[columns.engines]
    mixed = float(sum(share for share, mode in zip(engines.tolist(), group.modes, strict=True) if mode.mixed))
    steps = data.steps * finished
    if columns.split and _has_router(formulation, group):
        in_mixed, in_solo, solo_engines = _own_batches(columns, primal, len(data.rate))
    else:
        mixed_seconds, solo_seconds, solo_engines = _dealt(formulation, group, engines, float(steps.sum()))
        in_mixed, in_solo = steps * mixed_seconds, steps * solo_seconds
    prompt = data.uncached * served
    total = float(prompt.sum())
    return PoolSplit(
        served=served,
        prefill=prompt * (mixed / total) if total > 0 else prompt,
        decode_mixed=in_mixed,
        decode_solo=in_solo,
        decode_queue=leaving if finished is served else leaving / np.where(data.theta > 0, data.theta, 1.0),
        leaving=leaving,
        engines=engines,
        mixed=mixed,
        busy=mixed + solo_engines,
    )


def mean_step_seconds(formulation: Formulation, columns: PoolColumns, primal: Vector) -> float:
    """Mean time of a decode step in one group of equal pools, its fastest modes filled first; 0 without decodes."""
    steps = formulation.data.steps[columns.group.classes]
    work = float(steps.dot(np.maximum(primal[columns.served], 0.0)))
    if len(columns.waiting_classes):
        work -= float(steps[columns.waiting_classes].dot(np.maximum(primal[columns.waiting], 0.0)))
    engines = np.maximum(primal[columns.engines], 0.0)
    mixed_seconds, solo_seconds, _ = _dealt(formulation, columns.group, engines, work)
    return mixed_seconds + solo_seconds


def _has_router(formulation: Formulation, group: PoolGroup) -> bool:
    """Whether the program's own split can be had: where requests stay, an engine's classes share its iterations."""
    fairness = any(entry.promise.kind is PromiseKind.DECODE_FAIRNESS for entry in formulation.promises)
    return group.first.decodes_move or fairness


def _own_batches(columns: PoolColumns, primal: Vector, count: int) -> tuple[Vector, Vector, float]:
    """Decodes per class in mixed and in solo modes, and the solo engines they fill, as the program has them."""
    modes = columns.group.modes
    decodes = primal[columns.decodes].reshape(-1, len(modes))
    mixed = np.array([mode.mixed for mode in modes])
    both = np.zeros((2, count))
    both[0, columns.group.classes] = decodes[:, mixed].sum(axis=1)
    both[1, columns.group.classes] = decodes[:, ~mixed].sum(axis=1)
    filled = sum(
        float(decodes[:, k].sum()) / mode.batch for k, mode in enumerate(modes) if not mode.mixed and mode.batch > 0
    )
    return both[0], both[1], filled


def _dealt(formulation: Formulation, group: PoolGroup, engines: Vector, steps: float) -> tuple[float, float, float]:
    """Slot-seconds in mixed and in solo modes of an average decode step, and the solo engines filled.

    ``steps`` per second are dealt to the modes, fastest first (solo before mixed when equal),
    each up to its slots. Engines that the program left idle decode solo, unless they cost.
    """
    if steps <= 0:
        return 0.0, 0.0, 0.0
    idle = 0.0 if formulation.problem.charge_replicas else max(0.0, group.replicas - float(engines.sum()))
    solo = [k for k, mode in enumerate(group.modes) if not mode.mixed and mode.batch > 0]
    rest = max(solo, key=lambda k: group.modes[k].decode_rate, default=None)
    seconds, filled, left = [0.0, 0.0], 0.0, steps
    for k in sorted(range(len(group.modes)), key=lambda k: (group.modes[k].seconds, group.modes[k].mixed)):
        mode = group.modes[k]
        taken = min(left, mode.decode_rate * (float(engines[k]) + (idle if k == rest else 0.0)))
        seconds[0 if mode.mixed else 1] += taken * mode.seconds
        if not mode.mixed and taken > 0:
            filled += taken / mode.decode_rate
        left -= taken
    return seconds[0] / steps, seconds[1] / steps, filled
