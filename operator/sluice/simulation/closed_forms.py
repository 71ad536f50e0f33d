"""Queueing formulas to hold the engine against: M/M/c, M/M/c+M, and the fluid waits and shares.

Sources: A. K. Erlang's delay formula for M/M/c; C. Palm's M/M/c+M ("Erlang A") by its
birth-death chain; the fluid wait of model page section 4.3, and its knapsack of section 2.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sluice.simulation.instances import Instance


def erlang_c_wait(arrival_rate: float, service_rate: float, servers: int) -> float:
    """Mean wait of M/M/c before service, seconds; the load must be below 1."""
    offered = arrival_rate / service_rate
    if offered >= servers:
        raise ValueError(f"offered load {offered:g} needs more than {servers} servers")
    blocking = 1.0
    for k in range(1, servers + 1):
        blocking = offered * blocking / (k + offered * blocking)
    waits = blocking / (1.0 - offered / servers * (1.0 - blocking))
    return waits / (servers * service_rate - arrival_rate)


@dataclass(frozen=True, slots=True)
class Abandonment:
    """Steady state of M/M/c+M."""

    abandoned_share: float
    mean_queue: float
    """Mean number waiting."""


def erlang_a(arrival_rate: float, service_rate: float, servers: int, patience_rate: float) -> Abandonment:
    """Palm's model, by summing the birth-death chain until its tail is negligible."""
    weight, total, queue, k = 1.0, 1.0, 0.0, 0
    while k < servers or weight > 1e-15 * total:
        k += 1
        weight *= arrival_rate / (min(k, servers) * service_rate + max(0, k - servers) * patience_rate)
        total += weight
        queue += max(0, k - servers) * weight
    mean_queue = queue / total
    return Abandonment(abandoned_share=patience_rate * mean_queue / arrival_rate, mean_queue=mean_queue)


def fluid_wait(arrival_rate: float, served_rate: float, patience_rate: float) -> float:
    """Wait of a served request under first come first served with exponential patience (model page section 4.3)."""
    return math.log(arrival_rate / served_rate) / patience_rate


def first_come_share(instance: Instance) -> float:
    """First come first served over R* in the fluid limit, where only the token row binds and all are equally patient.

    Everybody waits for the same time, so the same share of every class is served: as much as
    fills the token row. R* fills it with the classes of the highest index.
    """
    load = instance.token_load()
    if load <= 1.0:
        return 1.0
    offered = [
        c.rate * (instance.prompt_price * c.prompt_tokens + instance.output_price * c.output_tokens)
        for c in instance.classes
    ]
    index = instance.token_row_index()
    left, best = sum(value / i for value, i in zip(offered, index, strict=True)) / load, 0.0
    for value, i in sorted(zip(offered, index, strict=True), key=lambda pair: -pair[1]):
        used = min(left, value / i)
        best += used * i
        left -= used
    return sum(offered) / load / best
