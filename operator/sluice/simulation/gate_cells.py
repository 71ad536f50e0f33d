"""The cells in which gates are judged: traffic, fleet, load, and how far the gate is told the truth.

Synthetic traffic on replicas of the trace panel's law. Lengths are log-normal with
variation 1, arrivals come in gamma bursts, clients are patient for 20 s on average. Load 1
is the largest traffic that the plan serves in full. A gate has the live gate's view: its
budget, prompts counted in full until their first token, free slots by ends of answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from sluice.model.fleet import (
    DataPlane,
    DataPlaneKind,
    Fleet,
    Hardness,
    Pool,
    Sli,
    SliSignal,
    SliStatistic,
    WorkloadClass,
)
from sluice.model.law import IterationLaw
from sluice.model.plan import Plan
from sluice.model.signal import Source
from sluice.model.snapshot import PoolSupply
from sluice.planning import Problem, plan
from sluice.policy.admission import AdmissionPolicy
from sluice.simulation.catalogue import live_gate
from sluice.simulation.layout import Sight, State
from sluice.simulation.measure import Prices
from sluice.simulation.regime import Fidelity, Guidance
from sluice.simulation.run import Record, Replicas, Setup, simulate
from sluice.simulation.told import Means, demand_of, guidance_of, prices_of
from sluice.simulation.workload import Arrivals, ClassLoad, LogNormal, Workload, generate

LAW = IterationLaw(
    solo_seconds=11.47e-3,
    mixed_base_seconds=11.47e-3 - 32 * 55.5e-6,
    per_token_seconds=55.5e-6,
    per_sequence_seconds=0.117e-3,
)
POOL = Pool(name="a100", law=LAW, slots=64, chunk_tokens=512, batched_token_budget=576)
SMALL_MEMORY = replace(POOL, slots=256, kv_token_capacity=120_000)
"""256 slots that its KV memory cannot fill."""
ROUND_TRIP_SECONDS = 0.003
VARIATION = 1.5
"""Coefficient of variation of inter-arrival times, and of lengths 1."""


def promised_class(name: str, rate: float, prompt: float, output: float, promise: float, price: float) -> WorkloadClass:
    """A class with mean lengths in tokens, a TTFT promise in seconds, and prices of .1 and .4 times ``price``."""
    promised = Sli(
        signal=SliSignal.TTFT,
        statistic=SliStatistic.MEAN,
        target_seconds=promise,
        fraction=None,
        hardness=Hardness.SOFT,
        penalty=0.0,
    )
    return WorkloadClass(
        name=name,
        prompt_token_price=0.1 * price,
        output_token_price=0.4 * price,
        prior_rate=rate,
        prior_prompt_tokens=prompt,
        prior_output_tokens=output,
        patience_seconds=20.0,
        slis=(promised,),
    )


_PROMPTS = (
    promised_class("chat", 0.6, 600.0, 150.0, 1.5, 1.0),
    promised_class("agent", 0.3, 2500.0, 80.0, 4.0, 1.5),
    promised_class("digest", 0.1, 9000.0, 300.0, 10.0, 0.5),
)
TRAFFIC = {
    "prompts": _PROMPTS,  # the prefill row binds
    "answers": (  # slots bind
        promised_class("chat", 0.6, 300.0, 400.0, 1.5, 1.0),
        promised_class("reason", 0.2, 400.0, 2500.0, 6.0, 0.7),
        promised_class("code", 0.2, 1200.0, 250.0, 3.0, 1.5),
    ),
    "both": (  # prefill row and token row
        promised_class("document", 0.25, 3000.0, 60.0, 4.0, 1.0),
        promised_class("chat", 0.55, 300.0, 450.0, 1.5, 1.0),
        promised_class("agent", 0.2, 1200.0, 250.0, 3.0, 0.8),
    ),
    "eight": (
        promised_class("a", 0.25, 400.0, 120.0, 1.0, 1.2),
        promised_class("b", 0.2, 800.0, 200.0, 2.0, 0.8),
        promised_class("c", 0.15, 1500.0, 60.0, 3.0, 1.5),
        promised_class("d", 0.1, 3000.0, 150.0, 5.0, 0.6),
        promised_class("e", 0.1, 200.0, 400.0, 1.0, 1.0),
        promised_class("f", 0.1, 6000.0, 100.0, 8.0, 0.7),
        promised_class("g", 0.05, 1000.0, 500.0, 4.0, 2.0),
        promised_class("h", 0.05, 10000.0, 300.0, 15.0, 0.5),
    ),
    "memory": (  # on SMALL_MEMORY
        promised_class("chat", 0.6, 400.0, 300.0, 1.5, 1.0),
        promised_class("document", 0.25, 3000.0, 200.0, 4.0, 1.2),
        promised_class("long", 0.15, 800.0, 1200.0, 5.0, 0.8),
    ),
    "reasoning": (
        promised_class("chat", 0.7, 400.0, 300.0, 1.5, 1.0),
        promised_class("think", 0.2, 600.0, 8000.0, 8.0, 0.8),
        promised_class("code", 0.1, 1500.0, 300.0, 3.0, 1.5),
    ),
    "floors": tuple(
        replace(entry, guaranteed_share=share) for entry, share in zip(_PROMPTS, (0.0, 0.3, 0.3), strict=True)
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One kind of traffic at one load on one fleet."""

    traffic: str
    load: float
    label: str = ""
    """What is special; empty: nothing."""
    replicas: int = 4
    pool: Pool = POOL
    horizon_seconds: float = 300.0
    error: float = 0.0
    """Relative error of every estimate that gate and plan are given, up for one class and down for the next."""
    own_prompt: bool = True
    """Whether the gate knows each prompt's length, or the class's mean only."""
    steps: tuple[tuple[float, float], ...] = ()
    """As ``Arrivals.steps``."""

    @property
    def name(self) -> str:
        """For print."""
        return " ".join(word for word in (self.traffic, self.label, f"{self.load:g}") if word)


ALL_LOADS = (0.7, 0.95, 1.05, 1.2, 1.5, 2.5)
SOME_LOADS = (0.95, 1.2, 2.5)
_STEP = ((900.0, 1.6),)
CELLS = (
    *(Cell(traffic=traffic, load=load) for traffic in ("prompts", "answers", "both", "eight") for load in ALL_LOADS),
    *(Cell(traffic="prompts", label="n=2", load=load, replicas=2) for load in SOME_LOADS),
    *(Cell(traffic="prompts", label="n=32", load=load, replicas=32, horizon_seconds=150.0) for load in SOME_LOADS),
    *(Cell(traffic="memory", load=load, pool=SMALL_MEMORY) for load in SOME_LOADS),
    *(Cell(traffic="floors", load=load) for load in (1.2, 2.5)),
    *(Cell(traffic="prompts", label="wrong by 20 %", load=load, error=0.2) for load in SOME_LOADS),
    *(Cell(traffic="answers", label="wrong by 20 %", load=load, error=0.2) for load in SOME_LOADS),
    *(Cell(traffic="prompts", label="class mean", load=load, own_prompt=False) for load in SOME_LOADS),
    *(Cell(traffic="reasoning", label="step", load=load, horizon_seconds=1500.0, steps=_STEP) for load in (0.7, 1.2)),
)
FEW_CELLS = tuple(
    cell for cell in CELLS if cell.traffic in {"prompts", "answers"} and not cell.label and cell.load in SOME_LOADS
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One cell under one seed, ready for any gate."""

    cell: Cell
    classes: tuple[WorkloadClass, ...]
    setup: Setup
    guidance: Guidance
    plan: Plan
    prefill_seconds_per_token: float
    """As the gate is told."""

    @property
    def prices(self) -> tuple[Prices, ...]:
        """Of the classes, in order."""
        return prices_of(self.classes)

    def run(self, policy: AdmissionPolicy, sight: Sight = Sight.ENDS) -> Record:
        """One gate on the world's requests."""
        told = replace(policy, own_prompt=self.cell.own_prompt)
        return simulate(self.setup, live_gate(told, (self.cell.pool,), sees_slots=sight), self.guidance)

    @property
    def direct(self) -> Setup:
        """The same without a gate's round trip."""
        return replace(self.setup, round_trip_seconds=0.0)

    def worst_floor(self, record: Record) -> float:
        """Finished over guaranteed requests after the warm-up, of the worst class; inf: nothing is guaranteed."""
        rows, start = record.requests, self.setup.warmup_seconds
        shares = []
        for i, entry in enumerate(self.classes):
            mine = rows["klass"] == i
            finished = (mine & (rows["state"] == int(State.DONE)) & (rows["ended"] >= start)).sum()
            offered = (mine & (rows["arrival"] >= start)).sum()
            if entry.guaranteed_share > 0 and offered > 0:
                shares.append(float(finished / offered / entry.guaranteed_share))
        return min(shares, default=math.inf)


def world_of(cell: Cell, seed: int) -> World:
    """The cell's traffic as drawn by ``seed``."""
    factor = cell.load * largest_served(cell.traffic, cell.pool, cell.replicas)
    classes = tuple(replace(entry, prior_rate=entry.prior_rate * factor) for entry in TRAFFIC[cell.traffic])
    loads = tuple(
        ClassLoad(
            name=entry.name,
            rate=entry.prior_rate,
            prompt=LogNormal(entry.prior_prompt_tokens, 1.0),
            output=LogNormal(entry.prior_output_tokens, 1.0),
            patience_seconds=entry.patience_seconds,
            arrivals=Arrivals(variation=VARIATION, steps=cell.steps),
        )
        for entry in classes
    )
    load = generate(loads, horizon_seconds=cell.horizon_seconds, seed=seed, whole_tokens=True)
    return world_with(cell, classes, load, seed)


def world_with(
    cell: Cell, classes: tuple[WorkloadClass, ...], load: Workload, seed: int, warmup_share: float = 1 / 3
) -> World:
    """Given requests; plan and gate are told their own rates and means, but for the cell's error."""
    sign = np.where(np.arange(len(classes)) % 2 == 0, 1.0, -1.0) * cell.error
    true = Means.of(load)
    told = Means(
        rates=true.rates * (1.0 + sign),
        prompts=true.prompts * (1.0 - sign),
        works=true.works * (1.0 - sign),
        outputs=true.outputs * (1.0 - np.roll(sign, 1)),
    )
    planned = _plan(classes, cell.pool, cell.replicas, told)
    if planned is None:
        raise ValueError(f"cell {cell.name} has no plan")
    return World(
        cell=cell,
        classes=classes,
        setup=Setup(
            workload=load,
            replicas=(Replicas(pool=cell.pool, count=cell.replicas),),
            fidelity=Fidelity.ITERATION,
            warmup_seconds=load.horizon_seconds * warmup_share,
            seed=seed,
            round_trip_seconds=ROUND_TRIP_SECONDS,
        ),
        guidance=guidance_of(planned, classes, told, cell.pool),
        plan=planned,
        prefill_seconds_per_token=cell.pool.mixed_seconds / cell.pool.chunk_tokens * (1.0 - cell.error),
    )


def fleet_of(pool: Pool) -> Fleet:
    """One pool behind Envoy files."""
    return Fleet(namespace="panel", name="gates", pools=(pool,), data_plane=DataPlane(kind=DataPlaneKind.ENVOY_FILES))


def supplies_of(pool: Pool, replicas: int) -> tuple[PoolSupply, ...]:
    """So many ready replicas."""
    return (PoolSupply(pool=pool.name, ready=replicas, source=Source.OVERRIDE),)


@cache
def largest_served(traffic: str, pool: Pool = POOL, replicas: int = 4) -> float:
    """The factor on all rates up to which the plan serves every class in full, floors aside."""
    classes = tuple(replace(entry, guaranteed_share=0.0) for entry in TRAFFIC[traffic])
    prompts = np.array([entry.prior_prompt_tokens for entry in classes])
    outputs = np.array([entry.prior_output_tokens for entry in classes])
    shares = np.array([entry.prior_rate for entry in classes])
    low, high = 0.0, 1e4
    for _ in range(40):
        middle = (low + high) / 2
        means = Means(rates=shares * middle, prompts=prompts, works=prompts, outputs=outputs)
        found = _plan(classes, pool, replicas, means)
        served = found is not None and not any(entry.rationed for entry in found.classes)
        low, high = (middle, high) if served else (low, middle)
    return low


def _plan(classes: Sequence[WorkloadClass], pool: Pool, replicas: int, means: Means) -> Plan | None:
    """The plan for these rates and lengths; None where there is none."""
    demand = demand_of(classes, means)
    return plan(Problem.of(fleet_of(pool), tuple(classes), demand, supplies_of(pool, replicas)), now=0.0).plan
