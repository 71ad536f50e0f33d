"""The paper's experiments and the targets T1-T7 of the model page, each as one function.

Every function takes a ``Runner`` (how trials are run: in this process or several) and a
``Scale`` (quick or full) and returns claims with their evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sluice.model.fleet import Charging
from sluice.simulation.catalogue import NETWORK
from sluice.simulation.claims import Chart, Claim, Line, Table, verdict_of
from sluice.simulation.instances import PAPER_8B, random_instance
from sluice.simulation.measure import interval_of
from sluice.simulation.network import Trial, TrialResult, solved
from sluice.simulation.published import base_agreement, first_come_by_formula, panel_agreement

Floats = NDArray[np.float64]
Runner = Callable[[Sequence[Trial]], list[TrialResult]]
"""How trials are run; ``jobs.Runner`` is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much to run."""

    sizes: tuple[int, ...]
    seeds: int
    horizon_seconds: float
    instances: int
    panel_classes: tuple[int, ...]
    panel_sizes: tuple[int, ...]
    """Replicas on the panels; claims are judged at the largest."""
    large: int
    """Replicas of the occupancy experiments."""
    gate_seeds: int
    gate_seconds: float
    """Horizon of the gates' panel."""
    gap_seeds: int
    token_seeds: int
    goal_instances: tuple[tuple[int, int], ...]
    """(replicas, instances per number of classes) of the default order's panels."""
    goal_fill_ups: float
    """Mean decoding times of the slowest class that its warm-ups last at least."""
    side_instances: int
    side_replicas: int
    """The same for floors."""
    two_row_instances: int
    """With two binding rows, of as many replicas."""
    goal_seeds: int


QUICK = Scale(
    sizes=(5, 20, 50, 200, 500),
    seeds=3,
    horizon_seconds=900.0,
    instances=12,
    panel_classes=(2, 4, 8),
    panel_sizes=(20, 100),
    large=500,
    gate_seeds=20,
    gate_seconds=300.0,
    gap_seeds=4,
    token_seeds=5,
    goal_instances=((20, 64),),
    goal_fill_ups=0.0,
    side_instances=8,
    side_replicas=20,
    two_row_instances=16,
    goal_seeds=1,
)
FULL = Scale(
    sizes=(5, 20, 50, 200, 500, 2000, 6000),
    seeds=10,
    horizon_seconds=2400.0,
    instances=50,
    panel_classes=(2, 4, 8),
    panel_sizes=(20, 100, 500),
    large=500,
    gate_seeds=30,
    gate_seconds=900.0,
    gap_seeds=20,
    token_seeds=20,
    goal_instances=((20, 100), (100, 100), (500, 100)),
    goal_fill_ups=4.0,
    side_instances=20,
    side_replicas=100,
    two_row_instances=40,
    goal_seeds=2,
)

SHORTEST = 0.25
"""Of the scale's horizon, for the largest fleets: answers last half a minute, and memory grows with requests."""
CONVERGING = ("GG-SP", "HG-SP", "CG-SP", "GG-WSP", "GI-WSP", "XI-WSP", "FI-WSP")
PANEL = ("FI-WSP", "GI-WSP", "FG-SP", "GF-WSP", "GG-SP", "GG-WSP", "QG-WSP", "XI-WSP", "XG-WSP")
PANEL_SECONDS = 900.0
"""Horizon of the baselines at either scale: what they differ by is many times what filling up costs."""
EXPECTED_VALUES = ((Charging.BUNDLED, 297.716190347), (Charging.SEPARATE, 298.597982955))
"""Model page section 2.4."""


def paper_trial(regime: str, n: int, seed: int, scale: Scale) -> Trial:
    """The paper's instance; small fleets run longer and large ones shorter: every point has requests enough."""
    longer, shorter = max(1.0, min(6.0, 60.0 / n)), max(SHORTEST, min(1.0, 500.0 / n))
    horizon = scale.horizon_seconds * longer * shorter
    return Trial(
        instance=PAPER_8B,
        replicas=n,
        regime=NETWORK[regime],
        horizon_seconds=horizon,
        warmup_seconds=scale.horizon_seconds * shorter / 3,
        seed=seed,
        index=PAPER_8B.token_row_index(),
    )


def program_values() -> Claim:
    """T1: the linear program's values."""
    rows = []
    worst = 0.0
    for charging, expected in EXPECTED_VALUES:
        found = solved(PAPER_8B, 1, charging).value_per_second
        worst = max(worst, abs(found / expected - 1))
        rows.append((charging.value, expected, f"{found:.9f}", f"{found / expected - 1:.1e}"))
    table = Table(title="LP values", columns=("charging", "expected", "found", "relative error"), rows=tuple(rows))
    return Claim(
        name="T1",
        statement="The programs (40) and (42) have the values of model page section 2.4 to 1e-6",
        verdict=verdict_of(holds=worst < 1e-6),
        evidence=f"largest relative error {worst:.1e}",
        tables=(table,),
    )


def convergence(run: Runner, scale: Scale) -> tuple[Claim, ...]:
    """T2 and section 6.4: the literal gate-and-route comes within 3 % of R* at n=500, and the gap shrinks in n."""
    results = run(
        [
            paper_trial(name, n, seed, scale)
            for name in CONVERGING
            for n in scale.sizes
            for seed in range(1, scale.seeds + 1)
        ]
    )
    shares = {
        (name, n): interval_of([r.share for r in results if _is(r, name, n)])
        for name in CONVERGING
        for n in scale.sizes
    }
    rows = tuple((name, *(str(shares[name, n]) for n in scale.sizes)) for name in CONVERGING)
    gaps = [1.0 - shares["GG-SP", n].mean for n in scale.sizes]
    slope = float(np.polyfit(np.log(scale.sizes), np.log(np.maximum(gaps, 1e-4)), 1)[0])
    large = shares["GG-SP", 500].mean
    lines = tuple(
        Line(
            label=name,
            x=tuple(map(float, scale.sizes)),
            y=tuple(shares[name, n].mean for n in scale.sizes),
            error=tuple(shares[name, n].half_width for n in scale.sizes),
        )
        for name in CONVERGING
    )
    measured = {r.trial.replicas: r.trial.horizon_seconds - r.trial.warmup_seconds for r in results}
    values = {key: np.array([r.value for r in results if _is(r, *key)]) for key in shares}
    converges = Claim(
        name="T2",
        statement="Gate-and-route comes within 3 % of R* at n=500, and its gap shrinks with n",
        verdict=verdict_of(holds=large >= 0.97 and gaps[-1] < gaps[0]),
        evidence=f"share of R* at n=500: {large:.4f}; gap ~ n^{slope:.2f} (the diffusion scale would be n^-0.5)",
        tables=(Table(title="Share of R* over n", columns=("regime", *(f"n={n}" for n in scale.sizes)), rows=rows),),
        charts=(
            Chart(
                name="convergence",
                title="Value over the LP bound, the paper's instance",
                x_label="replicas",
                y_label="share of R*",
                lines=lines,
                logarithmic_x=True,
                level=1.0,
            ),
        ),
    )
    return converges, base_agreement(values, measured)


def _is(result: TrialResult, name: str, n: int) -> bool:
    return result.trial.regime.name == name and result.trial.replicas == n


def _instance_seeds(classes: int, scale: Scale) -> range:
    return range(1000 * classes, 1000 * classes + scale.instances)


def panel_trials(classes: int, replicas: int, scale: Scale, names: Iterable[str]) -> list[Trial]:
    """Random instances under every regime, with common random numbers."""
    trials = []
    horizon = min(PANEL_SECONDS, scale.horizon_seconds)
    for number, drawn in enumerate(_instance_seeds(classes, scale)):
        instance = random_instance(drawn, classes)
        trials += [
            Trial(
                instance=instance,
                replicas=replicas,
                regime=NETWORK[name],
                horizon_seconds=horizon,
                warmup_seconds=horizon / 3,
                seed=number + 1,
                index=instance.token_row_index(),
            )
            for name in names
        ]
    return trials


def _shares(results: Sequence[TrialResult], names: Sequence[str]) -> dict[str, Floats]:
    return {name: np.array([r.share for r in results if r.trial.regime.name == name]) for name in names}


def baselines(run: Runner, scale: Scale) -> tuple[Claim, ...]:
    """T3 and the rest of section 6.3: who beats whom on random instances."""
    cells = [(classes, n) for classes in scale.panel_classes for n in scale.panel_sizes]
    panels = {cell: _shares(run(panel_trials(*cell, scale, PANEL)), PANEL) for cell in cells}
    tables = tuple(_panel_table(cell, shares, scale) for cell, shares in panels.items())
    first = panels[scale.panel_classes[0], scale.panel_sizes[-1]]
    separate = _separate_panel(run, scale)
    formula = {
        classes: first_come_by_formula(classes, _instance_seeds(classes, scale)) for classes in scale.panel_classes
    }
    return (
        _versus(
            "T3a",
            "The gate alone beats first come first served: FI-WSP < GI-WSP",
            first["GI-WSP"] - first["FI-WSP"],
            tables,
        ),
        _versus(
            "T3b",
            "A partition without a gate is worse than the baseline: FG-SP < FI-WSP",
            first["FI-WSP"] - first["FG-SP"],
            (),
        ),
        _versus("Fig7-GG", "The proposed GG-SP is best: GG-SP > GI-WSP", first["GG-SP"] - first["GI-WSP"], ()),
        _versus(
            "Fig7-GF",
            "Prefill-first is ruinous for bundled revenue: GF-WSP < FI-WSP",
            first["FI-WSP"] - first["GF-WSP"],
            (),
        ),
        _versus(
            "Fig7-GF-separate",
            "Prefill-first is best for separate revenue: GF-WSP > GI-WSP",
            separate["GF-WSP"] - separate["GI-WSP"],
            (),
        ),
        panel_agreement(panels, formula),
    )


def _panel_table(cell: tuple[int, int], shares: dict[str, Floats], scale: Scale) -> Table:
    rows = tuple((name, float(v.mean()), float(v.min()), float(v.std(ddof=1))) for name, v in shares.items())
    title = f"{cell[0]} classes, n={cell[1]}, {scale.instances} instances: share of R*"
    return Table(title=title, columns=("regime", "mean", "worst", "s.d."), rows=rows)


def _separate_panel(run: Runner, scale: Scale) -> dict[str, Floats]:
    names = ("GF-WSP", "GI-WSP")
    smaller = replace(scale, instances=max(8, scale.instances // 2))
    panel = panel_trials(scale.panel_classes[0], scale.panel_sizes[-1], smaller, names)
    trials = [replace(t, charging=Charging.SEPARATE) for t in panel]
    return _shares(run(trials), names)


def _versus(name: str, statement: str, advantage: Floats, tables: tuple[Table, ...]) -> Claim:
    """A claim of the form "this beats that", judged by the paired 95 % interval."""
    paired = interval_of(advantage)
    return Claim(
        name=name,
        statement=statement,
        verdict=verdict_of(holds=paired.mean > 0, decided=abs(paired.mean) > paired.half_width),
        evidence=f"paired difference {paired} of R* over {len(advantage)} instances",
        tables=tables,
    )


def split_router(run: Runner, scale: Scale) -> Claim:
    """T4: under the SLI router occupancies reach the canonical split."""
    results = run([paper_trial("SLI-SP", scale.large, seed, scale) for seed in range(1, scale.seeds + 1)])
    n, planned = scale.large, results[0].plan
    rows, worst = [], 0.0
    for i, entry in enumerate(planned.classes):
        measured = [r.measure.classes[i] for r in results]
        for label, target, found in (
            ("prefill x", entry.prefill, [m.prefill for m in measured]),
            ("decode mixed y_m", entry.decode_mixed, [m.decode_mixed for m in measured]),
            ("decode solo y_s", entry.decode_solo, [m.decode_solo for m in measured]),
        ):
            interval = interval_of([value / n for value in found])
            worst = max(worst, abs(interval.mean / (target / n) - 1))
            rows.append((f"class {entry.name}", label, target / n, str(interval)))
    table = Table(
        title=f"Occupancy per replica, SLI-aware gate-and-route, n={n}",
        columns=("class", "occupancy", "planned", "simulated"),
        rows=tuple(rows),
    )
    return Claim(
        name="T4",
        statement="Under the SLI router every class's occupancies come near the canonical split",
        verdict=verdict_of(holds=worst < 0.10),
        evidence=f"largest relative distance {worst:.3f} (10 % allowed)",
        tables=(table,),
    )
