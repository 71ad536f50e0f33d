"""Gates on fresh traffic: which order earns most good value, in every cell, under the live gate's view.

Orders and parameters were chosen on seeds 11 to 30 and 101 to 104, and on two earlier judged sets
that were given up (7001 to 7020, 9001 to 9020); the judged ones were run when all was chosen.
Every gate has the same budget, margin, view and plan, and sees the same requests under the same
seed. Cells: ``gate_cells``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from sluice.policy.admission import AdmissionPolicy
from sluice.policy.orders import BANDS, EARLIEST_DEADLINE, PRIORITY, promising, timely
from sluice.simulation import gate_cells
from sluice.simulation.claims import Claim, Table, verdict_of
from sluice.simulation.comparison import Scenario
from sluice.simulation.gate_cells import (
    CELLS,
    FEW_CELLS,
    POOL,
    Cell,
    World,
    fleet_of,
    largest_served,
    supplies_of,
    world_of,
)
from sluice.simulation.layout import Sight
from sluice.simulation.ledger import Earned, Ledger, Run
from sluice.simulation.measure import Interval, interval_of, rates

Floats = NDArray[np.float64]
Gate = Callable[[float], AdmissionPolicy]
"""From seconds per prompt token to the policy."""

TRAFFIC = {name: gate_cells.TRAFFIC[name] for name in ("prompts", "answers")}
"""By what binds: the prefill row, slots."""
FIRST_SEED = 7001
"""Of the operator beside its ideal, on the same traffic; gates were judged here before their order was changed."""
FIRST_JUDGED = 9101
"""Far from the seeds of every other panel."""
FULL_SEEDS = 30
"""From so many on, every cell is judged; with fewer a handful."""
PARTS_SEEDS = 8
"""For what each part of the order is worth, which nothing is judged by."""
NEAR_BEST, NEAR_RAW = 0.005, 0.05
"""The bar: good value within half a percent of the best, value within five percent of the best."""
FLOOR_NOISE = 0.01
"""Share of its floor that a class may miss."""

GATES: Mapping[str, Gate] = {
    "priority+late-last": lambda seconds: promising(PRIORITY, seconds),
    "bands+late-last": lambda seconds: promising(BANDS, seconds),
    "EDF+late-last": lambda seconds: promising(EARLIEST_DEADLINE, seconds),
    "timely": timely,
}
ABLATIONS: Mapping[str, Gate] = {
    "prices that stay even": lambda seconds: timely(seconds, price_seconds=math.inf),
    "no promise ever goes first": lambda seconds: timely(seconds, fill=0.0),
    "promises go first without a test": lambda seconds: timely(seconds, fill=math.inf, guard_seconds=1e9),
    "no margin": lambda seconds: timely(seconds, margin_seconds=0.0),
}
SIGHTS = {"timely, slots by gauges": Sight.GAUGES, "timely, slots unseen": Sight.NONE}


class Standing(StrEnum):
    """Where a gate stands in one cell."""

    MEETS = "meets"
    UNCLEAR = "unclear"
    MISSES = "misses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One cell: what each gate earned per second under each seed."""

    name: str
    bound: float
    """Mean R* of the seeds' plans."""
    value: dict[str, Floats]
    good: dict[str, Floats]
    floor: dict[str, Floats]
    """Served share over guaranteed share of the worst guaranteed class; inf where nothing is guaranteed."""


def gates_on_fresh_traffic(seeds: int, horizon_seconds: float, ledger: Ledger | None = None) -> tuple[Claim, ...]:
    """Every gate in every cell, and whether one of them meets the bar in all; few cells where there are few seeds."""
    known = ledger or Ledger()
    full = seeds >= FULL_SEEDS
    cells = CELLS if full else FEW_CELLS
    judged = range(FIRST_JUDGED, FIRST_JUDGED + seeds)
    outcomes = [
        outcome_of(_shortened(cell, horizon_seconds), judged, GATES, ledger=known)
        for cell in _told(cells, known, "gates")
    ]
    standing = {name: [standing_of(outcome, name) for outcome in outcomes] for name in GATES}
    best = min(GATES, key=lambda name: (standing[name].count(Standing.MISSES), standing[name].count(Standing.UNCLEAR)))
    all_met = set(standing[best]) == {Standing.MEETS}
    missed = all(Standing.MISSES in found for found in standing.values())
    tables = [_table("Gates on fresh traffic", outcomes, judged), _bar(standing, outcomes)]
    if full:
        some = judged[:PARTS_SEEDS]
        tables.append(_table("What each part of the timely order is for", _parts(some, known), some))
    return (
        Claim(
            name="gates",
            statement="One gate has the best good value but .5 %, and the best value but 5 %, in every cell",
            verdict=verdict_of(holds=all_met, decided=all_met or missed),
            evidence=f"{len(cells)} cells, {_told_seeds(judged)}; nearest: {best} {_counted(standing[best])}",
            tables=tuple(tables),
        ),
    )


def _told(cells: Sequence[Cell], ledger: Ledger, what: str) -> Iterator[Cell]:
    """The cells, each announced before it is run."""
    for number, cell in enumerate(cells, start=1):
        ledger.tell(f"{what}, cell {number} of {len(cells)}: {cell.name}")
        yield cell


def _shortened(cell: Cell, horizon_seconds: float) -> Cell:
    """At most so long, but for cells whose load steps."""
    return cell if cell.steps else replace(cell, horizon_seconds=min(cell.horizon_seconds, horizon_seconds))


def _parts(seeds: Sequence[int], ledger: Ledger) -> list[Outcome]:
    """The timely order, less one part at a time."""
    chosen = [
        cell
        for cell in CELLS
        if not cell.label and cell.load in {0.95, 1.5, 2.5} and cell.traffic in {"prompts", "answers", "both"}
    ]
    chosen += [cell for cell in CELLS if cell.traffic == "memory" and cell.load > 2]
    return [
        outcome_of(cell, seeds, {"timely": timely, **ABLATIONS}, SIGHTS, ledger)
        for cell in _told(chosen, ledger, "parts of the timely order")
    ]


def outcome_of(
    cell: Cell,
    seeds: Sequence[int],
    gates: Mapping[str, Gate],
    sights: Mapping[str, Sight] | None = None,
    ledger: Ledger | None = None,
) -> Outcome:
    """Every gate on the cell's requests under every seed; ``sights`` are the timely order with another view."""
    runs = {name: (gate, Sight.ENDS) for name, gate in gates.items()}
    runs |= {name: (timely, sight) for name, sight in (sights or {}).items()}
    known = ledger or Ledger()
    found: dict[str, list[Earned]] = {name: [] for name in runs}
    for seed in seeds:
        world = cache(partial(world_of, cell, seed))
        for name, (gate, sight) in runs.items():
            run = Run(gate=name, cell=cell.name, seed=seed, horizon_seconds=cell.horizon_seconds)
            found[name].append(known.of(run, partial(_earned, world, gate, sight)))
    return Outcome(
        name=cell.name,
        bound=float(np.mean([entry.bound for entry in next(iter(found.values()))])),
        value={name: np.array([entry.value for entry in sample]) for name, sample in found.items()},
        good={name: np.array([entry.good for entry in sample]) for name, sample in found.items()},
        floor={name: np.array([entry.floor for entry in sample]) for name, sample in found.items()},
    )


def _earned(drawn: Callable[[], World], gate: Gate, sight: Sight) -> Earned:
    """One run."""
    world = drawn()
    record = world.run(gate(world.prefill_seconds_per_token), sight)
    value, good = rates(record, world.prices)
    return Earned(bound=world.plan.value_per_second, value=value, good=good, floor=world.worst_floor(record))


def keeps_floors(outcome: Outcome, name: str) -> bool:
    """Whether no class is below its floor by more than noise."""
    sample = outcome.floor[name]
    if np.isinf(sample).all():
        return True
    found = interval_of(sample)
    return bool(found.mean + found.half_width >= 1.0 - FLOOR_NOISE)


def _behind(sample: dict[str, Floats], name: str, among: Sequence[str]) -> Interval:
    """How far ``name`` is behind the best of ``among`` by mean, paired by seed, relative to the best."""
    best = max(among, key=lambda other: float(sample[other].mean()))
    return interval_of((sample[best] - sample[name]) / sample[best].mean())


def standing_of(outcome: Outcome, name: str) -> Standing:
    """A gate at the bar in one cell, by the paired intervals of its distance from the best that keeps all floors."""
    if not keeps_floors(outcome, name):
        return Standing.MISSES
    among = [other for other in outcome.good if keeps_floors(outcome, other)]
    behind = ((_behind(outcome.good, name, among), NEAR_BEST), (_behind(outcome.value, name, among), NEAR_RAW))
    if any(found.mean - found.half_width > bar for found, bar in behind):
        return Standing.MISSES
    return Standing.MEETS if all(found.mean + found.half_width <= bar for found, bar in behind) else Standing.UNCLEAR


def _told_seeds(seeds: Sequence[int]) -> str:
    return f"seeds {seeds[0]} to {seeds[-1]}"


def _table(title: str, outcomes: Sequence[Outcome], seeds: Sequence[int]) -> Table:
    names = list(outcomes[0].good)
    rows = tuple((outcome.name, *(_shown(outcome, name) for name in names)) for outcome in outcomes)
    return Table(
        title=f"{title}: value / good value, percent of R*",
        columns=("cell", *names),
        rows=rows,
        note=f"95 % over {_told_seeds(seeds)}, of good value lost to the best, paired by seed; ! a floor is broken",
    )


def _shown(outcome: Outcome, name: str) -> str:
    raw, good = (100 * sample[name].mean() / outcome.bound for sample in (outcome.value, outcome.good))
    among = [other for other in outcome.good if keeps_floors(outcome, other)]
    lost = _behind(outcome.good, name, among)
    mark = "" if keeps_floors(outcome, name) else "!"
    return f"{raw:.1f} / {good:.1f} ± {100 * lost.half_width:.1f}{mark}"


def _counted(found: Sequence[Standing]) -> str:
    return ", ".join(f"{kind.value} {found.count(kind)}" for kind in Standing)


def _bar(standing: dict[str, list[Standing]], outcomes: Sequence[Outcome]) -> Table:
    rows = []
    for name, found in standing.items():
        missed = [outcome.name for outcome, one in zip(outcomes, found, strict=True) if one is Standing.MISSES]
        rows.append((name, *(str(found.count(kind)) for kind in Standing), ", ".join(missed) or "nowhere"))
    return Table(
        title="Gates at the bar: cells by what the paired 95 % interval says",
        columns=("gate", *(kind.value for kind in Standing), "misses at"),
        rows=tuple(rows),
        note="bar: good value within .5 % of the best gate's, value within 5 % of the best gate's, floors kept",
    )


def scenario_of(traffic: str, load: float, seed: int, horizon_seconds: float) -> Scenario:
    """The traffic at ``load`` on four replicas, drawn by ``seed``, for what runs whole scenarios."""
    factor = load * largest_served(traffic)
    classes = tuple(replace(entry, prior_rate=entry.prior_rate * factor) for entry in TRAFFIC[traffic])
    return Scenario(
        fleet=fleet_of(POOL),
        classes=classes,
        supplies=supplies_of(POOL, 4),
        workload=world_of(Cell(traffic=traffic, load=load, horizon_seconds=horizon_seconds), seed).setup.workload,
        seed=seed,
        warmup_share=1 / 3,
    )
