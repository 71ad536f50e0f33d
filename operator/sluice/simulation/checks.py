"""The engine beside closed forms: each check names the formula, its value, and the simulated interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sluice.model.fleet import Pool
from sluice.model.law import IterationLaw
from sluice.simulation.catalogue import NETWORK
from sluice.simulation.closed_forms import erlang_a, erlang_c_wait, fluid_wait
from sluice.simulation.instances import PAPER_8B
from sluice.simulation.jobs import Runner
from sluice.simulation.measure import Interval, interval_of
from sluice.simulation.network import Trial
from sluice.simulation.regime import Fidelity, Guidance
from sluice.simulation.run import Replicas, Setup, simulate
from sluice.simulation.workload import ClassLoad, Constant, Exponential, generate

SEEDS = range(1, 9)
SERVERS, SERVICE_RATE = 8, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One formula against the engine."""

    name: str
    expected: float
    simulated: Interval
    relative_tolerance: float = 0.0
    """Allowed beside the interval, where the formula is a limit and not exact."""

    @property
    def agrees(self) -> bool:
        """Whether the formula lies within the interval, widened by the tolerance."""
        allowed = self.simulated.half_width + self.relative_tolerance * abs(self.expected)
        return abs(self.simulated.mean - self.expected) <= allowed

    @property
    def standing(self) -> str:
        """Agreement by the interval alone, or only with the tolerance, in words."""
        if self.simulated.covers(self.expected):
            return "in the interval"
        return f"within {self.relative_tolerance:.1%} beside it" if self.agrees else "differs"


def _servers(
    arrival_rate: float, patience_seconds: float | None, horizon: float, seed: int
) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """One replica whose slots are the servers: prompts of almost no work, decodes at one speed."""
    law = IterationLaw(solo_seconds=1.0, mixed_base_seconds=1.0, per_token_seconds=0.0)
    pool = Pool(name="servers", law=law, slots=SERVERS, chunk_tokens=1_000_000, batched_token_budget=1_000_000)
    load = ClassLoad(
        name="only",
        rate=arrival_rate,
        prompt=Constant(1.0),
        output=Exponential(1.0 / SERVICE_RATE),
        patience_seconds=patience_seconds,
    )
    workload = generate((load,), horizon_seconds=horizon, seed=seed, whole_tokens=False)
    setup = Setup(
        workload=workload,
        replicas=(Replicas(pool=pool, count=1),),
        fidelity=Fidelity.NETWORK,
        warmup_seconds=horizon / 10,
        seed=seed,
    )
    record = simulate(setup, NETWORK["FI-WSP"], Guidance.blank(("only",)))
    rows = np.asarray(record.requests)
    return rows[(rows["arrival"] >= horizon / 10) & (rows["arrival"] < horizon * 0.99)]


def delay_check(horizon: float = 20_000.0) -> Check:
    """M/M/c at load .9: mean wait."""
    rate = 0.9 * SERVERS
    waits = []
    for seed in SEEDS:
        rows = _servers(rate, None, horizon, seed)
        begun = rows[rows["begun"] >= 0]
        waits.append(float((begun["begun"] - begun["arrival"]).mean()))
    return Check(
        name=f"M/M/{SERVERS}, load .9: mean wait, s",
        expected=erlang_c_wait(rate, SERVICE_RATE, SERVERS),
        simulated=interval_of(waits),
    )


def abandonment_checks(horizon: float = 10_000.0) -> tuple[Check, Check]:
    """M/M/c+M at load 1.2, mean patience 2 services: share that leaves, and mean queue."""
    rate, patience = 1.2 * SERVERS, 2.0
    exact = erlang_a(rate, SERVICE_RATE, SERVERS, 1.0 / patience)
    shares, queues = [], []
    for seed in SEEDS:
        rows = _servers(rate, patience, horizon, seed)
        left = rows["state"] == 7
        shares.append(float(left.mean()))
        leave = np.where(left, rows["ended"], rows["begun"])
        queues.append(float((leave - rows["arrival"])[leave >= 0].sum() / (0.89 * horizon)))
    name = f"M/M/{SERVERS}+M, load 1.2"
    return (
        Check(name=f"{name}: share that leaves", expected=exact.abandoned_share, simulated=interval_of(shares)),
        Check(name=f"{name}: mean queue", expected=exact.mean_queue, simulated=interval_of(queues)),
    )


def bound_checks(run: Runner, replicas: int = 500, seeds: range = range(1, 5)) -> tuple[Check, Check, Check]:
    """The paper's instance under the index gate: value beside R*, occupancy beside x*, wait beside the fluid's."""
    regime = NETWORK["XI-WSP"]
    trials = [
        Trial(
            instance=PAPER_8B,
            replicas=replicas,
            regime=regime,
            horizon_seconds=1200.0,
            warmup_seconds=400.0,
            seed=seed,
            index=PAPER_8B.token_row_index(),
        )
        for seed in seeds
    ]
    results = run(trials)
    plan = results[0].plan
    first, second = plan.classes[0], PAPER_8B.classes[0]
    wait = fluid_wait(first.arrival_rate, first.admitted_rate, second.abandonment_rate)
    return (
        Check(
            name=f"LP bound R*, n={replicas}, index gate",
            expected=results[0].bound,
            simulated=interval_of([r.value for r in results]),
            relative_tolerance=0.005,
        ),
        Check(
            name="fluid prefill occupancy x* of class 1, per replica",
            expected=plan.classes[1].prefill / replicas,
            simulated=interval_of([r.measure.classes[1].prefill / replicas for r in results]),
            relative_tolerance=0.01,
        ),
        Check(
            name="fluid queue q_p* of class 0, per replica",
            expected=first.arrival_rate * (1 - first.admitted_rate / first.arrival_rate) / 0.1 / replicas,
            simulated=interval_of([r.measure.classes[0].queue / replicas for r in results]),
            relative_tolerance=0.15 if wait > 0 else 0.0,
        ),
    )


def all_checks(run: Runner) -> tuple[Check, ...]:
    """Every check, quick enough for a test."""
    return (delay_check(), *abandonment_checks(), *bound_checks(run))
