"""T7: which conclusions survive on the paper's instance with whole tokens and iterations.

The network assumes exponential lengths, divisible tokens, free transfers and one prompt
per iteration. Here lengths are constant or log-normal, iterations are whole, prompts are
packed as engines pack them, and decode stays where the prompt was computed.

In this instance slots bind, and what an order is worth hangs on who holds the queue. A gate
that does not see free slots sends requests ahead into the engines' own queues, which are
first come first served; so every order is run twice, with free slots unknown and known. An
advantage counts as surviving where it is at least half of the network's own at the same
load, and as lost where it is surely less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.policy.admission import AdmissionPolicy, Budget
from sluice.policy.orders import FIRST_COME, GATE, PRIORITY
from sluice.simulation.catalogue import NETWORK, ONE_PREFILL, TODAY, gated
from sluice.simulation.claims import Claim, Table, verdict_of
from sluice.simulation.experiments import Scale
from sluice.simulation.instances import PAPER_8B, Instance
from sluice.simulation.jobs import Runner
from sluice.simulation.measure import Interval, interval_of, measure
from sluice.simulation.network import Trial, guidance_of, solved
from sluice.simulation.regime import Fidelity, Regime
from sluice.simulation.run import Replicas, Setup, simulate
from sluice.simulation.workload import ClassLoad, Constant, Lengths, LogNormal, generate

Floats = NDArray[np.float64]
REPLICAS = 50
BUDGET = Budget(least_requests=1, tokens=2.0 * PAPER_8B.chunk_tokens)
LOADS = (1.0, 1.5)
"""Times the paper's arrivals; the paper's own overload is 5 %."""
LENGTHS = ("constant", "log-normal")
HORIZON_SECONDS = 900.0
"""The first quarter left out: answers last half a minute."""
SECONDS_PER_ARRIVAL = 15e-6
"""Processor time of a trial, by rule of thumb: iterations cost more events than the network."""
SURVIVING = 0.5
"""Share of the network's advantage from which on a conclusion counts as surviving."""


def _knowing_slots(order: AdmissionPolicy, name: str) -> Regime:
    """A gate that starts a prompt only where a slot is free, one at a time, as the network's does."""
    regime = gated(order, name=name, budget=ONE_PREFILL)
    return replace(regime, sees_slots=NETWORK["FI-WSP"].sees_slots)


REGIMES: tuple[Regime, ...] = (
    gated(FIRST_COME, name="first-come", budget=BUDGET),
    gated(GATE, name="gate", budget=BUDGET),
    gated(PRIORITY, name="index", budget=BUDGET),
    _knowing_slots(FIRST_COME, "first-come, slots known"),
    _knowing_slots(GATE, "gate, slots known"),
    _knowing_slots(PRIORITY, "index, slots known"),
    TODAY["prefill-first"],
)
IN_NETWORK = {"gate": "GI-WSP", "index": "XI-WSP"}
"""The same orders in the paper's network, with decode in place."""


def _lengths(kind: str, mean: float) -> Lengths:
    return Constant(mean) if kind == "constant" else LogNormal(mean, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTrial:
    """One regime on one instance with whole tokens and iterations."""

    instance: Instance
    lengths: str
    regime: Regime
    seed: int
    horizon_seconds: float

    @property
    def cost_seconds(self) -> float:
        """Processor time by rule of thumb."""
        return SECONDS_PER_ARRIVAL * sum(c.rate for c in self.instance.classes) * REPLICAS * self.horizon_seconds

    def run(self) -> float:
        """Value per second and replica."""
        instance = self.instance
        loads = tuple(
            ClassLoad(
                name=name,
                rate=c.rate * REPLICAS,
                prompt=_lengths(self.lengths, c.prompt_tokens),
                output=_lengths(self.lengths, c.output_tokens),
                patience_seconds=1.0 / c.abandonment_rate,
            )
            for name, c in zip(instance.names, instance.classes, strict=True)
        )
        setup = Setup(
            workload=generate(loads, horizon_seconds=self.horizon_seconds, seed=self.seed, whole_tokens=True),
            replicas=(Replicas(pool=instance.pool, count=REPLICAS),),
            fidelity=Fidelity.ITERATION,
            warmup_seconds=self.horizon_seconds / 4,
            seed=self.seed,
        )
        guidance = guidance_of(instance, solved(instance, REPLICAS), instance.token_row_index())
        record = simulate(setup, self.regime, guidance)
        return measure(record, instance.prices).total.value_per_second.mean / REPLICAS

    def written(self, result: float) -> object:
        """A number as it is."""
        return result

    def read(self, written: Any) -> float:
        """The same again."""
        return float(written)


def conclusions_at_token_level(run: Runner, scale: Scale) -> tuple[Claim, ...]:
    """Order of the regimes by value, for constant and for log-normal lengths, at two loads."""
    rows: list[tuple[str | float, ...]] = []
    advantage: dict[tuple[float, str, str], Floats] = {}
    network = {load: _network_advantage(run, scale, load) for load in LOADS}
    for (load, kind), values in _values(run, scale).items():
        for name, sample in values.items():
            base = "first-come, slots known" if name.endswith("known") else "first-come"
            advantage[load, kind, name] = sample - values[base]
            rows.append((f"{load:g}", kind, name, str(interval_of(sample)), str(interval_of(sample - values[base]))))
    table = Table(
        title=f"The paper's instance at token level, n={REPLICAS}: share of the network's R*",
        columns=("load", "lengths", "regime", "share", "over first come"),
        rows=tuple(rows),
        note="decode in place; packed prompts where slots are unknown, one prompt at a time where they are known",
    )
    blind, seeing = "free slots unknown to the gate", "free slots known to the gate"
    return (
        _survives(f"T7a: {blind}", "the index", "index", "index", advantage, network, (table,)),
        _survives(f"T7b: {blind}", "the paper's gate", "gate", "gate", advantage, network, ()),
        _survives(f"T7c: {seeing}", "the index", "index, slots known", "index", advantage, network, ()),
        _survives(f"T7d: {seeing}", "the paper's gate", "gate, slots known", "gate", advantage, network, ()),
    )


def _values(run: Runner, scale: Scale) -> dict[tuple[float, str], dict[str, Floats]]:
    """Shares of R* by seed: of every regime, at every load and law of lengths."""
    seeds = range(1, scale.token_seeds + 1)
    cells = list(product(LOADS, LENGTHS, REGIMES))
    trials = [
        TokenTrial(
            instance=PAPER_8B.scaled(load), lengths=kind, regime=regime, seed=seed, horizon_seconds=HORIZON_SECONDS
        )
        for load, kind, regime in cells
        for seed in seeds
    ]
    earned = np.array(run(trials)).reshape(len(cells), len(seeds))
    bounds = {load: solved(PAPER_8B.scaled(load), 1).value_per_second for load in LOADS}
    found: dict[tuple[float, str], dict[str, Floats]] = {}
    for (load, kind, regime), sample in zip(cells, earned, strict=True):
        found.setdefault((load, kind), {})[regime.name] = sample / bounds[load]
    return found


def _network_advantage(run: Runner, scale: Scale, load: float) -> dict[str, float]:
    """What the orders earn over first come first served in the paper's network, share of R*."""
    instance = PAPER_8B.scaled(load)
    names = ("FI-WSP", *IN_NETWORK.values())
    trials = [
        Trial(
            instance=instance,
            replicas=REPLICAS,
            regime=NETWORK[name],
            horizon_seconds=scale.horizon_seconds,
            warmup_seconds=scale.horizon_seconds / 4,
            seed=seed,
            index=instance.token_row_index(),
        )
        for name in names
        for seed in range(1, scale.seeds + 1)
    ]
    results = run(trials)
    mean = {name: float(np.mean([r.share for r in results if r.trial.regime.name == name])) for name in names}
    return {order: mean[name] - mean["FI-WSP"] for order, name in IN_NETWORK.items()}


def _survives(
    name: str,
    who: str,
    regime: str,
    order: str,
    advantage: dict[tuple[float, str, str], Floats],
    network: dict[float, dict[str, float]],
    tables: Sequence[Table],
) -> Claim:
    """Whether at least half of the network's advantage is there, for every load and law of lengths."""
    found = [(load, kind, interval_of(sample)) for (load, kind, one), sample in advantage.items() if one == regime]
    beyond = [(interval, SURVIVING * network[load][order]) for load, _, interval in found]
    kept = [interval.mean - interval.half_width >= bar for interval, bar in beyond]
    lost = [interval.mean + interval.half_width < bar for interval, bar in beyond]
    label, _, view = name.partition(": ")
    return Claim(
        name=label,
        statement=f"At token level, {view}, {who} keeps at least half of what it earns in the network",
        verdict=verdict_of(holds=all(kept), decided=all(kept) or any(lost)),
        evidence="; ".join(_told(load, kind, interval, network[load][order]) for load, kind, interval in found),
        tables=tuple(tables),
    )


def _told(load: float, kind: str, interval: Interval, network: float) -> str:
    found = f"{100 * interval.mean:+.2f} ± {100 * interval.half_width:.2f} %"
    return f"load x{load:g}, {kind}: {found} (network {100 * network:+.2f} %)"
