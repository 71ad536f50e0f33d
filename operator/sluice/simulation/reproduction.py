"""Every claim of the paper and the targets of the model page, in order, with progress."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from sluice.simulation.claims import Claim
from sluice.simulation.experiments import (
    FULL,
    QUICK,
    Runner,
    Scale,
    baselines,
    convergence,
    program_values,
    split_router,
)
from sluice.simulation.gap import gap_to_the_ideal
from sluice.simulation.gate_panel import gates_on_fresh_traffic
from sluice.simulation.ledger import Ledger
from sluice.simulation.network import Trial, TrialResult, run_trial
from sluice.simulation.orders_in_the_network import orders_in_the_network
from sluice.simulation.sensitivity import promises_and_sensitivity
from sluice.simulation.structure import batch_sweep, closed_forms, prices_of_promises, separate_gate
from sluice.simulation.tokens import conclusions_at_token_level

GAP_SECONDS = 300.0
"""Horizon of the operator's runs, the first third left out."""

Step = tuple[str, Callable[[], tuple[Claim, ...]]]


@contextmanager
def in_processes(workers: int) -> Iterator[Runner]:
    """A runner that spreads trials over ``workers`` processes; kernels are compiled once and read from the cache."""
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:

        def run(trials: Sequence[Trial]) -> list[TrialResult]:
            """Largest first, so that no process is left with the last long trial."""
            order = sorted(range(len(trials)), key=lambda k: -trials[k].replicas * trials[k].horizon_seconds)
            results = dict(zip(order, pool.map(run_trial, [trials[k] for k in order]), strict=True))
            return [results[k] for k in range(len(trials))]

        yield run


def steps(run: Runner, scale: Scale, ledger: Ledger | None = None) -> tuple[Step, ...]:
    """(what is being done, how) for every group of claims; ``ledger`` holds what was run of the gates' panel."""
    return (
        ("the linear programs", lambda: (program_values(),)),
        ("closed forms", lambda: (closed_forms(),)),
        ("convergence", lambda: convergence(run, scale)),
        ("baselines on random instances", lambda: baselines(run, scale)),
        ("the default order in the network", lambda: orders_in_the_network(run, scale)),
        ("the SLI router", lambda: (split_router(run, scale),)),
        ("prices of promises", lambda: (prices_of_promises(),)),
        ("promises and sensitivity", promises_and_sensitivity),
        ("batch sizes", lambda: (batch_sweep(run, scale),)),
        ("separate charging", lambda: (separate_gate(run, scale),)),
        ("token-level iterations", lambda: conclusions_at_token_level(run, scale)),
        ("the operator beside its ideal", lambda: gap_to_the_ideal(scale.gap_seeds, GAP_SECONDS)),
        ("gates on fresh traffic", lambda: gates_on_fresh_traffic(scale.gate_seeds, scale.gate_seconds, ledger)),
    )


def scale_of(*, full: bool) -> Scale:
    """The quick scale ends in minutes; the full one is for a machine left alone."""
    return FULL if full else QUICK
