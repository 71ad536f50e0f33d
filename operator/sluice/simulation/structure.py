"""Experiments on how value depends on promises, batch size and charging, and the engine beside formulas."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from sluice.model.fleet import Charging
from sluice.planning.promises import Promise, PromiseKind
from sluice.simulation import jobs
from sluice.simulation.checks import all_checks
from sluice.simulation.claims import Chart, Claim, Line, Table, verdict_of
from sluice.simulation.experiments import Runner, Scale, paper_trial
from sluice.simulation.instances import PAPER_8B
from sluice.simulation.measure import interval_of
from sluice.simulation.network import solved

FAIRNESS_VALUES = ((0.0, 134.0), (0.02, 153.5), (0.05, 182.7), (0.10, 231.5), (0.15, 280.2), (0.177, 297.7))
"""Model page section 4.4: value per replica over the bound on prefill unfairness."""


def prices_of_promises() -> Claim:
    """T5: what prefill fairness costs (model page section 4.4)."""
    rows, worst, found = [], 0.0, []
    for bound, expected in FAIRNESS_VALUES:
        promise = Promise(kind=PromiseKind.PREFILL_FAIRNESS, target=bound)
        value = solved(PAPER_8B, 1, promises=(promise,)).value_per_second
        found.append(value)
        worst = max(worst, abs(value - expected))
        rows.append((bound, expected, value))
    table = Table(
        title="Value over the bound eta1 on prefill unfairness", columns=("eta1", "expected", "found"), rows=tuple(rows)
    )
    chart = Chart(
        name="fairness",
        title="What prefill fairness costs",
        x_label="largest allowed x_i - x_j",
        y_label="value per second and replica",
        lines=(Line(label="program", x=tuple(b for b, _ in FAIRNESS_VALUES), y=tuple(found)),),
    )
    return Claim(
        name="T5",
        statement="Prefill fairness is dear: the shape of model page section 4.4",
        verdict=verdict_of(holds=worst < 0.06),
        evidence=f"largest distance {worst:.3f} (the table there is rounded to .1)",
        tables=(table,),
        charts=(chart,),
    )


def batch_sweep(run: Runner, scale: Scale) -> Claim:
    """T6: R* rises with B and saturates once all demand is served."""
    slots = (4, 8, 12, 16, 20, 24, 32)
    values = [solved(replace(PAPER_8B, slots=b), 1).value_per_second for b in slots]
    trials = [
        replace(
            paper_trial("XI-WSP", 100, 1, scale),
            instance=(inst := replace(PAPER_8B, slots=b)),
            index=inst.token_row_index(),
        )
        for b in slots
    ]
    simulated = [r.value for r in run(trials)]
    rising = all(b >= a - 1e-9 for a, b in pairwise(values))
    saturated = abs(values[-1] / values[-2] - 1) < 1e-9
    rows = tuple(zip(map(float, slots), values, simulated, strict=True))
    axis = tuple(map(float, slots))
    chart = Chart(
        name="batch",
        title="Value over the batch size",
        x_label="slots B",
        y_label="value per second and replica",
        lines=(
            Line(label="R*", x=axis, y=tuple(values)),
            Line(label="simulated, index gate", x=axis, y=tuple(simulated)),
        ),
    )
    return Claim(
        name="T6",
        statement="R*(B) rises with B and saturates once all demand is served",
        verdict=verdict_of(holds=rising and saturated),
        evidence=f"R*: {values[0]:.1f} at B={slots[0]} to {values[-1]:.1f} at B={slots[-1]}; saturated: {saturated}",
        tables=(Table(title="Value over B", columns=("B", "R*", "simulated (index gate, n=100)"), rows=rows),),
        charts=(chart,),
    )


def separate_gate(run: Runner, scale: Scale) -> Claim:
    """Theorem 4.2 at finite n: prioritize-and-route under separate charging."""
    index = tuple(c.output_tokens / c.prompt_tokens for c in PAPER_8B.classes)
    trials = [
        replace(paper_trial("PG-SP", scale.large, seed, scale), charging=Charging.SEPARATE, index=index)
        for seed in range(1, scale.seeds + 1)
    ]
    shares = interval_of([r.share for r in run(trials)])
    return Claim(
        name="Thm4.2",
        statement="Prioritize-and-route approaches the separate optimum",
        verdict=verdict_of(holds=shares.mean > 0.98),
        evidence=f"share of R~* at n={scale.large}: {shares}",
    )


def closed_forms(run: jobs.Runner) -> Claim:
    """The engine beside formulas."""
    checks = all_checks(run)
    rows = tuple((c.name, c.expected, str(c.simulated), c.standing) for c in checks)
    return Claim(
        name="closed-forms",
        statement="The engine agrees with M/M/c, M/M/c+M, the LP bound and the fluid limits",
        verdict=verdict_of(holds=all(c.agrees for c in checks)),
        evidence=f"{sum(c.simulated.covers(c.expected) for c in checks)} of {len(checks)} in the 95 % interval, "
        f"{sum(c.agrees for c in checks)} with the tolerance allowed to limits in n (our choice)",
        tables=(Table(title="Engine beside closed forms", columns=("check", "formula", "simulated", ""), rows=rows),),
    )
