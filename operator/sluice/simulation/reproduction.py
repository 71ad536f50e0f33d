"""Every claim of the paper and the targets of the model page, in order, and the processes that run them."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sluice.simulation.claims import Claim
from sluice.simulation.experiments import (
    FULL,
    QUICK,
    Scale,
    baselines,
    convergence,
    program_values,
    split_router,
)
from sluice.simulation.gap import gap_to_the_ideal
from sluice.simulation.gate_panel import gates_on_fresh_traffic
from sluice.simulation.job_book import JobBook
from sluice.simulation.jobs import Job, Runner
from sluice.simulation.ledger import Ledger
from sluice.simulation.orders_in_the_network import orders_in_the_network
from sluice.simulation.sensitivity import promises_and_sensitivity
from sluice.simulation.structure import batch_sweep, closed_forms, prices_of_promises, separate_gate
from sluice.simulation.tokens import conclusions_at_token_level

R = TypeVar("R")
GAP_SECONDS = 300.0
"""Horizon of the operator's runs, the first third left out."""

Step = tuple[str, Callable[[], tuple[Claim, ...]]]


@dataclass(slots=True)
class Meter:
    """What the jobs have cost so far."""

    tell: Callable[[float, bool], None] = field(default=lambda cost, known: None)
    """Called as a job ends, with its cost by rule of thumb, and whether it was known already."""
    processor_seconds: float = 0.0
    """Of the jobs that were run, in all processes."""
    run: int = 0
    known: int = 0


@contextmanager
def in_processes(workers: int, book: JobBook | None = None, meter: Meter | None = None) -> Iterator[Runner]:
    """A runner that spreads jobs over ``workers`` processes and asks ``book`` first; kernels are compiled once."""
    kept, counted = JobBook() if book is None else book, meter or Meter()
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:

        def run(jobs: Sequence[Job[R]]) -> list[R]:
            """Largest first, so that no process is left with the last long job; each is written down as it ends."""
            found: dict[int, R] = {}
            for k, job in enumerate(jobs):
                for result in kept.find(job):
                    found[k] = result
                    counted.known += 1
                    counted.tell(job.cost_seconds, True)
            order = sorted((k for k in range(len(jobs)) if k not in found), key=lambda k: -jobs[k].cost_seconds)
            started = {pool.submit(timed, jobs[k]): k for k in order}
            for future in as_completed(started):
                k = started[future]
                found[k], seconds = future.result()
                kept.keep(jobs[k], found[k], seconds)
                counted.run += 1
                counted.processor_seconds += seconds
                counted.tell(jobs[k].cost_seconds, False)
            return [found[k] for k in range(len(jobs))]

        try:
            yield run
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def timed(job: Job[Any]) -> tuple[Any, float]:
    """A job's result and the processor seconds it took."""
    begin = time.process_time()
    return job.run(), time.process_time() - begin


def steps(run: Runner, scale: Scale, ledger: Ledger | None = None) -> tuple[Step, ...]:
    """(what is being done, how) for every group of claims; ``ledger`` holds what was run of the gates' panel."""
    return (
        ("the linear programs", lambda: (program_values(),)),
        ("closed forms", lambda: (closed_forms(run),)),
        ("convergence", lambda: convergence(run, scale)),
        ("baselines on random instances", lambda: baselines(run, scale)),
        ("the default order in the network", lambda: orders_in_the_network(run, scale)),
        ("the SLI router", lambda: (split_router(run, scale),)),
        ("prices of promises", lambda: (prices_of_promises(),)),
        ("promises and sensitivity", promises_and_sensitivity),
        ("batch sizes", lambda: (batch_sweep(run, scale),)),
        ("separate charging", lambda: (separate_gate(run, scale),)),
        ("token-level iterations", lambda: conclusions_at_token_level(run, scale)),
        ("the operator beside its ideal", lambda: gap_to_the_ideal(scale.gap_seeds, GAP_SECONDS, run)),
        ("gates on fresh traffic", lambda: gates_on_fresh_traffic(scale.gate_seeds, scale.gate_seconds, ledger)),
    )


def scale_of(*, full: bool) -> Scale:
    """The quick scale ends in minutes; the full one is for a machine left alone."""
    return FULL if full else QUICK
