"""Gates on fresh traffic, by load: nothing here was used to choose an order, a margin or a reserve.

Two kinds of synthetic traffic on four replicas of the trace panel's pool: *prompts* (the
prefill row binds) and *answers* (slots bind). Lengths are log-normal, arrivals come in
gamma bursts, clients are patient for 20 s on average. Load 1 is the largest traffic that
the plan serves in full. Every policy is taken as ``sluice simulate`` offers it, with its
defaults and the true plan, and sees the same requests under the same seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sluice.model.demand import ClassDemand, Demand, Estimate
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
from sluice.model.signal import Source
from sluice.model.snapshot import PoolSupply
from sluice.planning import Problem, plan
from sluice.simulation.claims import Claim, Table, verdict_of
from sluice.simulation.comparison import Scenario, compare
from sluice.simulation.measure import Interval, interval_of
from sluice.simulation.workload import Arrivals, ClassLoad, LogNormal, generate

Floats = NDArray[np.float64]

LAW = IterationLaw(
    solo_seconds=11.47e-3,
    mixed_base_seconds=11.47e-3 - 32 * 55.5e-6,
    per_token_seconds=55.5e-6,
    per_sequence_seconds=0.117e-3,
)
POOL = Pool(name="a100", law=LAW, slots=64, chunk_tokens=512, batched_token_budget=576)
REPLICAS = 4
LOADS = (0.7, 0.95, 1.05, 1.2, 1.5, 2.5)
FIRST_SEED = 7001
"""Far from the seeds of every other panel."""
POLICIES = (
    "chunked",
    "sluice",
    "sluice-in-flight",
    "sluice-both",
    "first-come",
    "priority",
    "bands",
    "priority+late-last",
    "bands+late-last",
    "earliest-deadline+late-last",
    "earliest-deadline+late-last+reserve",
    "earliest-deadline+late-refused",
)
WITHOUT_GATE = frozenset(POLICIES[:4])
NEAR_BEST, NEAR_RAW = 0.005, 0.05
"""The bar: good value within half a percent of the best, value within five percent of the best."""


def _class(name: str, share: float, prompt: float, output: float, promise: float, price: float) -> WorkloadClass:
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
        prior_rate=share,
        prior_prompt_tokens=prompt,
        prior_output_tokens=output,
        patience_seconds=20.0,
        slis=(promised,),
    )


TRAFFIC = {
    "prompts": (
        _class("chat", 0.6, 600.0, 150.0, 1.5, 1.0),
        _class("agent", 0.3, 2500.0, 80.0, 4.0, 1.5),
        _class("digest", 0.1, 9000.0, 300.0, 10.0, 0.5),
    ),
    "answers": (
        _class("chat", 0.6, 300.0, 400.0, 1.5, 1.0),
        _class("reason", 0.2, 400.0, 2500.0, 6.0, 0.7),
        _class("code", 0.2, 1200.0, 250.0, 3.0, 1.5),
    ),
}
VARIATION = 1.5
"""Coefficient of variation of inter-arrival times, and of lengths 1."""


class Standing(StrEnum):
    """Where a gate stands in one cell."""

    MEETS = "meets"
    UNCLEAR = "unclear"
    MISSES = "misses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One kind of traffic at one load: value per second of each policy under each seed."""

    traffic: str
    load: float
    bound: float
    """Mean R* of the seeds' plans."""
    value: dict[str, Floats]
    good: dict[str, Floats]


def gates_on_fresh_traffic(seeds: int, horizon_seconds: float, loads: Sequence[float] = LOADS) -> tuple[Claim, ...]:
    """Every policy in every cell, and whether one of them meets the bar in all."""
    cells = [
        _cell(traffic, load, range(FIRST_SEED, FIRST_SEED + seeds), horizon_seconds)
        for traffic in TRAFFIC
        for load in loads
    ]
    gates = [name for name in POLICIES if name not in WITHOUT_GATE]
    standing = {name: [standing_of(cell, name, gates) for cell in cells] for name in gates}
    best = min(gates, key=lambda name: (standing[name].count(Standing.MISSES), standing[name].count(Standing.UNCLEAR)))
    all_met = set(standing[best]) == {Standing.MEETS}
    missed = all(Standing.MISSES in found for found in standing.values())
    told = ", ".join(f"{name} {_counted(found)}" for name, found in standing.items() if name == best)
    return (
        Claim(
            name="gates",
            statement="One gate has the best good value but .5 %, and the best value but 5 %, in every cell",
            verdict=verdict_of(holds=all_met, decided=all_met or missed),
            evidence=f"{len(cells)} cells; nearest: {told}",
            tables=(*(_table(traffic, cells, seeds) for traffic in TRAFFIC), _bar(standing, cells)),
        ),
    )


def scenario_of(traffic: str, load: float, seed: int, horizon_seconds: float) -> Scenario:
    """The traffic at ``load``, drawn by ``seed``."""
    factor = load * largest_served(TRAFFIC[traffic])
    classes = tuple(replace(entry, prior_rate=entry.prior_rate * factor) for entry in TRAFFIC[traffic])
    loads = tuple(
        ClassLoad(
            name=entry.name,
            rate=entry.prior_rate,
            prompt=LogNormal(entry.prior_prompt_tokens, 1.0),
            output=LogNormal(entry.prior_output_tokens, 1.0),
            patience_seconds=entry.patience_seconds,
            arrivals=Arrivals(variation=VARIATION),
        )
        for entry in classes
    )
    return Scenario(
        fleet=_fleet(),
        classes=classes,
        supplies=_supplies(),
        workload=generate(loads, horizon_seconds=horizon_seconds, seed=seed, whole_tokens=True),
        seed=seed,
        warmup_share=1 / 3,
    )


def _fleet() -> Fleet:
    return Fleet(namespace="panel", name="gates", pools=(POOL,), data_plane=DataPlane(kind=DataPlaneKind.ENVOY_FILES))


def _supplies() -> tuple[PoolSupply, ...]:
    return (PoolSupply(pool=POOL.name, ready=REPLICAS, source=Source.OVERRIDE),)


def largest_served(classes: Sequence[WorkloadClass]) -> float:
    """The factor on all rates up to which the plan serves every class in full."""
    low, high = 0.0, 1e4
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _serves_all(classes, middle) else (low, middle)
    return low


def _serves_all(classes: Sequence[WorkloadClass], factor: float) -> bool:
    def given(value: float) -> Estimate:
        return Estimate(value=value, source=Source.OVERRIDE)

    demand = Demand(
        classes=tuple(
            ClassDemand(
                name=entry.name,
                rate=given(entry.prior_rate * factor),
                prompt_tokens=given(entry.prior_prompt_tokens),
                uncached_prompt_tokens=given(entry.prior_prompt_tokens),
                output_tokens=given(entry.prior_output_tokens),
                patience_seconds=entry.patience_seconds,
            )
            for entry in classes
        )
    )
    found = plan(Problem.of(_fleet(), tuple(classes), demand, _supplies()), now=0.0).plan
    return found is not None and not any(entry.rationed for entry in found.classes)


def _cell(traffic: str, load: float, seeds: Sequence[int], horizon_seconds: float) -> Cell:
    value: dict[str, list[float]] = {}
    good: dict[str, list[float]] = {}
    bounds = []
    for seed in seeds:
        comparison = compare(scenario_of(traffic, load, seed, horizon_seconds), POLICIES)
        bounds.append(comparison.plan.value_per_second)
        for entry in comparison.entries:
            total = entry.measure.total
            value.setdefault(entry.measure.regime, []).append(total.value_per_second.mean)
            good.setdefault(entry.measure.regime, []).append(total.good_value_per_second.mean)
    return Cell(
        traffic=traffic,
        load=load,
        bound=float(np.mean(bounds)),
        value={name: np.array(sample) for name, sample in value.items()},
        good={name: np.array(sample) for name, sample in good.items()},
    )


def _behind(sample: dict[str, Floats], name: str, among: Sequence[str]) -> Interval:
    """How far ``name`` is behind the best of ``among`` by mean, paired by seed, relative to the best."""
    best = max(among, key=lambda other: float(sample[other].mean()))
    return interval_of((sample[best] - sample[name]) / sample[best].mean())


def standing_of(cell: Cell, name: str, among: Sequence[str]) -> Standing:
    """A gate at the bar in one cell, by the paired intervals of its distance from the best."""
    behind = ((_behind(cell.good, name, among), NEAR_BEST), (_behind(cell.value, name, among), NEAR_RAW))
    if any(found.mean - found.half_width > bar for found, bar in behind):
        return Standing.MISSES
    return Standing.MEETS if all(found.mean + found.half_width <= bar for found, bar in behind) else Standing.UNCLEAR


def _table(traffic: str, cells: Sequence[Cell], seeds: int) -> Table:
    here = [cell for cell in cells if cell.traffic == traffic]
    rows = tuple((name, *(_shown(cell, name) for cell in here)) for name in here[0].good)
    return Table(
        title=f"Fresh traffic, {traffic}: value / good value, percent of R*, by load",
        columns=("policy", *(f"{cell.load:g}" for cell in here)),
        rows=rows,
        note=f"95 % over {seeds} seeds, of good value; policies are paired by seed, so differences are surer than that",
    )


def _shown(cell: Cell, name: str) -> str:
    raw, good = cell.value[name] / cell.bound * 100, interval_of(cell.good[name] / cell.bound * 100)
    return f"{raw.mean():.1f} / {good.mean:.1f} ± {good.half_width:.1f}"


def _counted(found: Sequence[Standing]) -> str:
    return ", ".join(f"{kind.value} {found.count(kind)}" for kind in Standing)


def _bar(standing: dict[str, list[Standing]], cells: Sequence[Cell]) -> Table:
    rows = []
    for name, found in standing.items():
        missed = [cell for cell, one in zip(cells, found, strict=True) if one is Standing.MISSES]
        where = ", ".join(f"{cell.traffic} {cell.load:g}" for cell in missed)
        rows.append((name, *(str(found.count(kind)) for kind in Standing), where or "nowhere"))
    return Table(
        title="Gates at the bar: cells by what the paired 95 % interval says",
        columns=("gate", *(kind.value for kind in Standing), "misses at"),
        rows=tuple(rows),
        note="bar: good value within .5 % of the best gate's, and value within 5 % of the best gate's",
    )
