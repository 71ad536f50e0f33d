"""What any order can earn where decodes stay in place, and how near the default order comes.

One replica with waiting requests of every class is a Markov decision process: its state is
the answers that run, by class, and the prompt in progress, and its choice is which class to
start, or to wait. The best average value, with no class started more often than it arrives,
is a linear program over shares of time (Puterman 1994, section 8.8): a bound for every order
of a fleet whose requests decode where they were prefilled, tighter than the paper's R*,
which knows no chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import csr_array

from sluice.simulation.catalogue import NETWORK
from sluice.simulation.instances import Instance
from sluice.simulation.network import Trial, run_trial, solved
from sluice.simulation.orders_in_the_network import two_row_instance

REPLICAS, HORIZON_SECONDS = 20, 600.0
FAR_SEEDS = (702_000, 702_009)
"""Instances that no panel draws."""


@dataclass
class Balance:
    """Flow balance of the decision process: entries of a sparse matrix, one row per state."""

    rows: list[int]
    columns: list[int]
    rates: list[float]

    def flow(self, variable: int, rate: float, source: int, target: int) -> None:
        """One unit of ``variable`` moves ``rate`` from state to state."""
        self.rows += [source, target]
        self.columns += [variable, variable]
        self.rates += [-rate, rate]


def best_in_place(instance: Instance) -> float:
    """Share of R* that the best order earns whose requests decode where they were prefilled; two classes."""
    slots, mixed, solo = instance.slots, instance.pool.mixed_seconds, instance.solo_seconds
    prompts, answers, arrivals = np.array([(c.prompt_tokens, c.output_tokens, c.rate) for c in instance.classes]).T
    counts = [pair for pair in product(range(slots + 1), repeat=2) if sum(pair) <= slots]
    # State (answers, prompt in progress): 2 is none. Columns: time in a state, then starts by class out of an idle one.
    number = {(pair, p): k for k, (pair, p) in enumerate(product(counts, range(3))) if p == 2 or sum(pair) < slots}
    number = {state: k for k, state in enumerate(number)}
    balance, values, of_class, column = Balance([], [], []), [0.0] * len(number), [2] * len(number), len(number)
    for (pair, p), here in number.items():
        pace = solo if p == 2 else mixed
        for j in range(2):
            if pair[j] > 0:
                less = (pair[0] - (j == 0), pair[1] - (j == 1))
                balance.flow(here, pair[j] / (answers[j] * pace), here, number[less, p])
        if p < 2:
            more = (pair[0] + (p == 0), pair[1] + (p == 1))
            balance.flow(here, instance.chunk_tokens / (prompts[p] * mixed), here, number[more, 2])
        elif sum(pair) < slots:
            for i in range(2):
                balance.flow(column, 1.0, here, number[pair, i])
                values.append(float(instance.prompt_price * prompts[i] + instance.output_price * answers[i]))
                of_class.append(i)
                column += 1
    states = len(number)
    whole = csr_array(
        (
            balance.rates + [1.0] * states,
            (balance.rows + [states] * states, balance.columns + list(range(states))),
        ),
        shape=(states + 1, column),
    )
    starts = np.array([[float(i == k) for i in of_class] for k in range(2)])
    bound = solved(instance, 1).value_per_second
    found = linprog(
        -np.array(values) / bound,
        A_ub=starts,
        b_ub=arrivals,
        A_eq=whole,
        b_eq=np.array([0.0] * states + [1.0]),
    )
    assert found.status == 0, found.message
    return float(-found.fun)


@pytest.mark.parametrize("seed", FAR_SEEDS)
def test_the_default_order_comes_near_the_best_that_decodes_in_place(seed: int) -> None:
    instance = two_row_instance(16)(seed, 2)
    best = best_in_place(instance)
    assert 0.9 < best < 1.0
    trial = Trial(
        instance=instance,
        replicas=REPLICAS,
        regime=NETWORK["TI-WSP"],
        horizon_seconds=HORIZON_SECONDS,
        warmup_seconds=HORIZON_SECONDS / 3,
        seed=seed,
    )
    assert 0.94 * best < run_trial(trial).calm_share < 1.03 * best
