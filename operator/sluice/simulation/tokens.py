"""T7: which conclusions survive on the paper's instance with whole tokens and iterations.

The network assumes exponential lengths, divisible tokens, free transfers and one prompt
per iteration. Here lengths are constant or log-normal, iterations are whole, prompts are
packed as engines pack them, decode stays where the prompt was computed and free slots are
unknown to the gate.
"""

from __future__ import annotations

import numpy as np

from sluice.policy.admission import Budget
from sluice.policy.orders import FIRST_COME, GATE, PRIORITY
from sluice.simulation.catalogue import TODAY, gated
from sluice.simulation.claims import Claim, Table, verdict_of
from sluice.simulation.experiments import Scale
from sluice.simulation.instances import PAPER_8B
from sluice.simulation.measure import Measure, interval_of, measure
from sluice.simulation.network import guidance_of, solved
from sluice.simulation.regime import Fidelity, Regime
from sluice.simulation.run import Replicas, Setup, simulate
from sluice.simulation.workload import ClassLoad, Constant, Lengths, LogNormal, generate

REPLICAS = 50
BUDGET = Budget(least_requests=1, tokens=2.0 * PAPER_8B.chunk_tokens)
REGIMES: tuple[Regime, ...] = (
    gated(FIRST_COME, name="first-come", budget=BUDGET),
    gated(GATE, name="gate", budget=BUDGET),
    gated(PRIORITY, name="index", budget=BUDGET),
    TODAY["prefill-first"],
)


def _lengths(kind: str, mean: float) -> Lengths:
    return Constant(mean) if kind == "constant" else LogNormal(mean, 1.0)


def _run(kind: str, regime: Regime, seed: int, horizon: float) -> Measure:
    instance = PAPER_8B
    loads = tuple(
        ClassLoad(
            name=name,
            rate=c.rate * REPLICAS,
            prompt=_lengths(kind, c.prompt_tokens),
            output=_lengths(kind, c.output_tokens),
            patience_seconds=1.0 / c.abandonment_rate,
        )
        for name, c in zip(instance.names, instance.classes, strict=True)
    )
    setup = Setup(
        workload=generate(loads, horizon_seconds=horizon, seed=seed, whole_tokens=True),
        replicas=(Replicas(pool=instance.pool, count=REPLICAS),),
        fidelity=Fidelity.ITERATION,
        warmup_seconds=horizon / 4,
        seed=seed,
    )
    guidance = guidance_of(instance, solved(instance, REPLICAS), instance.token_row_index())
    return measure(simulate(setup, regime, guidance), instance.prices)


def conclusions_at_token_level(scale: Scale) -> tuple[Claim, ...]:
    """Order of the regimes by value, for constant and for log-normal lengths."""
    rows: list[tuple[str | float, ...]] = []
    advantage: dict[tuple[str, str], np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
    bound = solved(PAPER_8B, 1).value_per_second
    for kind in ("constant", "log-normal"):
        values = {
            regime.name: np.array(
                [
                    _run(kind, regime, seed, scale.horizon_seconds).total.value_per_second.mean / REPLICAS
                    for seed in range(1, scale.seeds + 1)
                ]
            )
            for regime in REGIMES
        }
        for name, sample in values.items():
            rows.append((kind, name, str(interval_of(sample / bound))))
            advantage[kind, name] = (sample - values["first-come"]) / bound
    table = Table(
        title=f"The paper's instance at token level, n={REPLICAS}: share of the network's R*",
        columns=("lengths", "regime", "share"),
        rows=tuple(rows),
        note="in place, packed prompts, free slots unknown to the gate",
    )
    return (
        _survives("T7a", "At token level the index still beats first come first served", advantage, "index", (table,)),
        _survives("T7b", "At token level the paper's gate still beats first come first served", advantage, "gate", ()),
    )


def _survives(
    name: str,
    statement: str,
    advantage: dict[tuple[str, str], np.ndarray[tuple[int], np.dtype[np.float64]]],
    regime: str,
    tables: tuple[Table, ...],
) -> Claim:
    paired = [interval_of(sample) for (_, who), sample in advantage.items() if who == regime]
    return Claim(
        name=name,
        statement=statement,
        verdict=verdict_of(
            holds=all(p.mean > 0 for p in paired), decided=all(abs(p.mean) > p.half_width for p in paired)
        ),
        evidence="paired difference, share of R*: " + ", ".join(map(str, paired)),
        tables=tables,
    )
