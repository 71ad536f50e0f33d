"""What the operator's good value lacks to the ideal's, cause by cause, on the gates' fresh traffic.

The same means (limits at a proxy, nothing waits at a gate) in five pairs of hands, each
knowing or allowed one thing more than the one before (``actuated.Informed``); the last is
the ideal, which holds the plan's numbers unrounded whatever queue stands. Differences of
neighbours are what the causes cost, in the order in which they are taken away: another
order would share out differently what two of them cost together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.simulation.actuated import Informed
from sluice.simulation.claims import Claim, Table, verdict_of
from sluice.simulation.comparison import compare
from sluice.simulation.gate_panel import FIRST_SEED, TRAFFIC, scenario_of
from sluice.simulation.jobs import Runner
from sluice.simulation.measure import Interval, interval_of

Floats = NDArray[np.float64]
LOADS = (1.05, 1.2, 1.5, 2.5)
MEANS = {"rate": "sluice-rate", "in flight": "sluice-in-flight", "both": "sluice-both"}
"""Kinds of limit; the last is the default where a proxy moves its breaker at once."""
DEFAULT = "both"
CAUSES = ("lengths measured", "rates measured", "late and in steps", "held under a queue, rounded")
GOOD, RAW = 0.95, 0.97
"""The default shall keep this share of the ideal's good value, and of its value."""
JUDGED_SEEDS = 24
"""For the claim: two of the policies, where the causes take fifteen."""


SECONDS_PER_POLICY_SECOND = 6e-4
"""Processor time of a policy's run, by rule of thumb, per second of its horizon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedRun:
    """Some policies, each beside its ideal, on the requests of one seed."""

    traffic: str
    load: float
    seed: int
    horizon_seconds: float
    names: tuple[str, ...]

    @property
    def cost_seconds(self) -> float:
        """Processor time by rule of thumb."""
        return SECONDS_PER_POLICY_SECOND * self.horizon_seconds * len(self.names)

    def run(self) -> dict[str, tuple[float, float]]:
        """Value and good value by policy, percent of R*."""
        comparison = compare(scenario_of(self.traffic, self.load, self.seed, self.horizon_seconds), self.names)
        bound = comparison.plan.value_per_second / 100.0
        totals = {entry.measure.regime: entry.measure.total for entry in comparison.entries}
        return {
            name: (total.value_per_second.mean / bound, total.good_value_per_second.mean / bound)
            for name, total in totals.items()
        }

    def written(self, result: dict[str, tuple[float, float]]) -> object:
        """Numbers as they are."""
        return result

    def read(self, written: Any) -> dict[str, tuple[float, float]]:
        """The same again."""
        return {name: (value, good) for name, (value, good) in written.items()}


def gap_to_the_ideal(seeds: int, horizon_seconds: float, run: Runner) -> tuple[Claim, ...]:
    """The gap by kind of limit, traffic and load, and its causes."""
    rows, bars = [], []
    every = tuple(f"{name}{informed}" for name in MEANS.values() for informed in Informed)
    some = range(FIRST_SEED, FIRST_SEED + seeds)
    more = range(FIRST_SEED + seeds, FIRST_SEED + max(seeds, JUDGED_SEEDS))
    asked = [
        SeedRun(traffic=traffic, load=load, seed=seed, horizon_seconds=horizon_seconds, names=names)
        for traffic, load in itertools.product(TRAFFIC, LOADS)
        for seeds_of, names in ((some, every), (more, (MEANS[DEFAULT],)))
        for seed in seeds_of
    ]
    earned = dict(zip(asked, run(asked), strict=True))
    for traffic, load in itertools.product(TRAFFIC, LOADS):
        here = {key: found for key, found in earned.items() if (key.traffic, key.load) == (traffic, load)}
        runs = _by_policy(found for key, found in here.items() if key.names == every)
        rows += [_row(traffic, load, means, runs) for means in MEANS]
        judged = _joined(runs, _by_policy(found for key, found in here.items() if key.names != every))
        for word, which, bar in (("good value", 1, GOOD), ("value", 0, RAW)):
            bars.append((f"{word}, {traffic} {load:g}", interval_of(_kept(judged, DEFAULT, which)), bar))
    table = Table(
        title="The operator beside the ideal of the same means: percent of R*, and points of good value by cause",
        columns=("traffic", "load", "limit", "value", "good value", "ideal's", *CAUSES),
        rows=tuple(rows),
        note=f"{seeds} seeds; 95 % of good value; causes in the order in which they are taken away",
    )
    return (_claim(bars, max(seeds, JUDGED_SEEDS), table),)


def _claim(bars: Sequence[tuple[str, Interval, float]], seeds: int, table: Table) -> Claim:
    """Every share beyond its bar, or one surely below, or neither."""
    lost = [label for label, found, bar in bars if found.mean + found.half_width < bar]
    unclear = [label for label, found, bar in bars if abs(found.mean - bar) <= found.half_width]
    label, worst, bar = min(bars, key=lambda entry: entry[1].mean - entry[1].half_width - entry[2])
    evidence = f"{len(bars)} shares by {seeds} seeds, paired; nearest its bar of {bar:g}: {label} {worst}"
    evidence += f"; below: {', '.join(lost)}" if lost else ""
    evidence += f"; unclear: {', '.join(unclear)}" if unclear else ""
    return Claim(
        name="actuated",
        statement=f"With its default limits the operator keeps {GOOD:.0%} of the ideal's good value, "
        f"{RAW:.0%} of its value",
        verdict=verdict_of(holds=not lost, decided=bool(lost) or not unclear),
        evidence=evidence,
        tables=(table,),
    )


Runs = dict[str, tuple[Floats, Floats]]
"""Value and good value by policy, percent of R*, one entry per seed."""


def _by_policy(earned: Iterable[dict[str, tuple[float, float]]]) -> Runs:
    """Seeds gathered by policy."""
    found: dict[str, list[tuple[float, float]]] = {}
    for of_seed in earned:
        for name, pair in of_seed.items():
            found.setdefault(name, []).append(pair)
    return {name: (np.array([v for v, _ in pairs]), np.array([g for _, g in pairs])) for name, pairs in found.items()}


def _joined(runs: Runs, more: Runs) -> Runs:
    """Two sets of seeds as one, for the policies that both ran."""
    if not more:
        return runs
    return {
        name: (np.concatenate([runs[name][0], value]), np.concatenate([runs[name][1], good]))
        for name, (value, good) in more.items()
    }


def _kept(runs: Runs, means: str, which: int) -> Floats:
    """Share of the ideal's value (0) or good value (1) on the same requests, by seed."""
    name = MEANS[means]
    return np.asarray(runs[name][which] / runs[f"{name}-ideal"][which])


def _row(traffic: str, load: float, means: str, runs: Runs) -> tuple[str, ...]:
    name = MEANS[means]
    ladder: Sequence[str] = (*(f"{name}{informed}" for informed in Informed), f"{name}-ideal")
    good = [float(runs[step][1].mean()) for step in ladder]
    costs = (f"{after - before:+.1f}" for before, after in itertools.pairwise(good))
    shown = interval_of(runs[name][1])
    value = f"{runs[name][0].mean():.1f}"
    return (traffic, f"{load:g}", means, value, f"{shown.mean:.1f} ± {shown.half_width:.1f}", f"{good[-1]:.1f}", *costs)
