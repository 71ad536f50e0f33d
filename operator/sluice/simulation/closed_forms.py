"""Queueing formulas to hold the engine against: M/M/c, M/M/c+M, and the fluid waits.

Sources: A. K. Erlang's delay formula for M/M/c; C. Palm's M/M/c+M ("Erlang A") by its
birth-death chain; the fluid wait of model page section 4.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


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
