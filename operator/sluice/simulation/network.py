"""Trials of the paper's network: plan an instance, simulate it, count its value (paper sections 2, 3 and 6.2).

Rates here are the paper's, per replica. Values and targets come from the planning room,
the same program that the operator solves.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from sluice.model.demand import ClassDemand, Demand, Estimate
from sluice.model.fleet import Charging, Fleet, WorkloadClass
from sluice.model.plan import Band, Plan
from sluice.model.signal import Source
from sluice.model.snapshot import PoolSupply
from sluice.planning import Problem, plan
from sluice.planning.promises import Promise
from sluice.policy.admission import LaneTerms
from sluice.policy.costs import costs_of
from sluice.simulation.engine import settle_all
from sluice.simulation.instances import POOL_NAME, Instance, NetworkClass
from sluice.simulation.layout import Sim, State
from sluice.simulation.measure import Measure, measure
from sluice.simulation.regime import Fidelity, Guidance, Regime
from sluice.simulation.run import Replicas, Setup, simulate
from sluice.simulation.workload import ClassLoad, Exponential, Workload, generate

Floats = NDArray[np.float64]
SECONDS_PER_ARRIVAL = 8e-6
"""Processor time of a trial, by rule of thumb: about five events each."""


class PlanningError(RuntimeError):
    """An instance has no optimal plan; the message is the planner's."""


def solved(
    instance: Instance,
    replicas: int,
    charging: Charging = Charging.BUNDLED,
    promises: tuple[Promise, ...] = (),
    floor_share: float = 0.0,
) -> Plan:
    """The planner's optimum for ``replicas`` replicas; ``floor_share`` of every class's arrivals is guaranteed."""
    fleet = Fleet(namespace="paper", name="network", charging=charging, pools=(instance.pool,))
    workloads = tuple(
        _workload_class(instance, name, c, floor_share)
        for name, c in zip(instance.names, instance.classes, strict=True)
    )
    demand = Demand(
        classes=tuple(
            _class_demand(name, c, replicas) for name, c in zip(instance.names, instance.classes, strict=True)
        )
    )
    supply = PoolSupply(pool=POOL_NAME, ready=replicas, source=Source.PRIOR)
    problem = Problem.of(fleet, workloads, demand, (supply,))
    outcome = plan(replace(problem, promises=(*problem.promises, *promises)), now=0.0)
    if outcome.plan is None:
        raise PlanningError(outcome.message)
    return outcome.plan


def _workload_class(instance: Instance, name: str, c: NetworkClass, floor_share: float) -> WorkloadClass:
    return WorkloadClass(
        name=name,
        prompt_token_price=instance.prompt_price,
        output_token_price=instance.output_price,
        prior_rate=c.rate,
        prior_prompt_tokens=c.prompt_tokens,
        prior_output_tokens=c.output_tokens,
        patience_seconds=1.0 / c.abandonment_rate if c.abandonment_rate > 0 else None,
        guaranteed_share=floor_share,
    )


def _class_demand(name: str, c: NetworkClass, replicas: int) -> ClassDemand:
    def given(value: float) -> Estimate:
        return Estimate(value=value, source=Source.PRIOR)

    return ClassDemand(
        name=name,
        rate=given(c.rate * replicas),
        prompt_tokens=given(c.prompt_tokens),
        uncached_prompt_tokens=given(c.prompt_tokens),
        output_tokens=given(c.output_tokens),
        patience_seconds=1.0 / c.abandonment_rate if c.abandonment_rate > 0 else None,
    )


def guidance_of(
    instance: Instance, result: Plan, index: tuple[float, ...] | None = None, floor_share: float = 0.0
) -> Guidance:
    """What the paper's policies take from a plan; ``index`` replaces the plan's order."""
    tau, solo = instance.pool.mixed_seconds, instance.solo_seconds
    lanes, split, on_solo, on_mixed = [], [], [], []
    for i, (entry, c) in enumerate(zip(result.classes, instance.classes, strict=True)):
        mixed_rate = entry.decode_mixed / (c.output_tokens * tau)
        solo_rate = entry.decode_solo / (c.output_tokens * solo)
        split.append(solo_rate / (mixed_rate + solo_rate) if mixed_rate + solo_rate > 0 else 1.0)
        on_solo.append(solo_rate)
        on_mixed.append(mixed_rate)
        lanes.append(
            LaneTerms(
                name=entry.name,
                target=entry.prefill,
                queue_target=entry.prefill_queue,
                rate=entry.admitted_rate,
                index=entry.index if index is None else index[i],
                band=entry.band if entry.admitted_rate > 0 else Band.IDLE_ONLY,
                mean_prompt_tokens=c.prompt_tokens,
                value=instance.prompt_price * c.prompt_tokens + instance.output_price * c.output_tokens,
                costs=costs_of(instance.pool, c.prompt_tokens, c.output_tokens),
                floor_rate=floor_share * entry.arrival_rate,
            )
        )
    pool = result.pools[0]
    return Guidance(
        lanes=tuple(lanes),
        mixed_share=pool.mixed / pool.replicas,
        split=tuple(split),
        pull_solo=tuple(on_solo),
        pull_mixed=tuple(on_mixed),
    )


def workload_of(instance: Instance, replicas: int, *, horizon_seconds: float, seed: int) -> Workload:
    """Poisson arrivals, exponential work and patience."""
    loads = tuple(
        ClassLoad(
            name=name,
            rate=c.rate * replicas,
            prompt=Exponential(c.prompt_tokens),
            output=Exponential(c.output_tokens),
            patience_seconds=1.0 / c.abandonment_rate if c.abandonment_rate > 0 else None,
        )
        for name, c in zip(instance.names, instance.classes, strict=True)
    )
    return generate(loads, horizon_seconds=horizon_seconds, seed=seed, whole_tokens=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One regime on one instance."""

    instance: Instance
    replicas: int
    regime: Regime
    horizon_seconds: float
    warmup_seconds: float
    seed: int
    charging: Charging = Charging.BUNDLED
    index: tuple[float, ...] | None = None
    floor_share: float = 0.0
    """Share of every class's arrivals that is guaranteed."""

    @property
    def cost_seconds(self) -> float:
        """Processor time by rule of thumb."""
        return SECONDS_PER_ARRIVAL * sum(c.rate for c in self.instance.classes) * self.replicas * self.horizon_seconds

    def run(self) -> TrialResult:
        """Plan, simulate and measure."""
        return run_trial(self)

    def written(self, result: TrialResult) -> object:
        """All but the trial and its plan, which follow from it at once."""
        return {
            "measure": asdict(result.measure),
            "value": result.value,
            "bound": result.bound,
            "served": result.served,
            "calm_value": result.calm_value,
        }

    def read(self, written: Any) -> TrialResult:
        """The same result again."""
        return TrialResult(
            trial=self,
            plan=solved(self.instance, self.replicas, self.charging, floor_share=self.floor_share),
            measure=_measures().validate_python(written["measure"]),
            value=written["value"],
            bound=written["bound"],
            served=tuple(written["served"]),
            calm_value=written["calm_value"],
        )


@cache
def _measures() -> TypeAdapter[Measure]:
    return TypeAdapter(Measure)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What a trial gave, per replica."""

    trial: Trial
    plan: Plan
    measure: Measure
    value: float
    """Money per second and replica: mean value of a class times its rate, as equation (22) counts it."""
    bound: float
    """R* of the plan, per replica."""
    served: tuple[float, ...]
    """Share of the requests of each class, at its mean rate, whose prefill was done."""
    calm_value: float
    """An estimate of the same expectation as ``value`` (bundled) with a third to two thirds of its noise: ``_calm``."""

    @property
    def share(self) -> float:
        """Value over the LP bound."""
        return self.value / self.bound

    @property
    def calm_share(self) -> float:
        """The same with less noise: bundled charging only."""
        return self.calm_value / self.bound


class _Decoded:
    """Output tokens decoded by class: at the end of the warm-up, and at the end of the run."""

    def __init__(self) -> None:
        self.counts: list[Floats] = []

    def __call__(self, sim: Sim, now: float) -> None:
        """Count what is done, and what the running answers have so far."""
        settle_all(sim, now)
        rows, replicas = sim.requests, sim.replicas
        done = np.flatnonzero(rows["state"] == int(State.DONE))
        where = np.nonzero(np.arange(sim.slots.shape[1]) < replicas["decodes"][:, None])
        running = sim.slots["request"][where]
        left = sim.slots["end"][where] - replicas["clock"][where[0]]
        numbers = np.concatenate([done, running])
        tokens = rows["output"][numbers] - np.concatenate([np.zeros(len(done)), left])
        counts = np.bincount(rows["klass"][numbers], tokens, minlength=len(sim.lanes))
        self.counts.append(counts.astype(np.float64))


def run_trial(trial: Trial) -> TrialResult:
    """Plan, simulate and measure."""
    instance, n = trial.instance, trial.replicas
    result = solved(instance, n, trial.charging, floor_share=trial.floor_share)
    workload = workload_of(instance, n, horizon_seconds=trial.horizon_seconds, seed=trial.seed)
    setup = Setup(
        workload=workload,
        replicas=(Replicas(pool=instance.pool, count=n),),
        fidelity=Fidelity.NETWORK,
        warmup_seconds=trial.warmup_seconds,
        seed=trial.seed,
    )
    decoded = _Decoded()
    guidance = guidance_of(instance, result, trial.index, trial.floor_share)
    record = simulate(
        setup, trial.regime, guidance, tick_seconds=trial.warmup_seconds or math.inf, on_tick=decoded, on_end=decoded
    )
    before = decoded.counts[0] if trial.warmup_seconds > 0.0 else 0.0
    rates = (decoded.counts[-1] - before) / _means(instance, "output_tokens") / _measured_seconds(trial)
    return TrialResult(
        trial=trial,
        plan=result,
        measure=measure(record, instance.prices),
        value=_value(record.requests, trial) / n,
        bound=result.value_per_second / n,
        served=_served(trial, record.requests),
        calm_value=_calm(trial, result, record.requests, rates) / n,
    )


def _measured_seconds(trial: Trial) -> float:
    return trial.horizon_seconds - trial.warmup_seconds


def _means(instance: Instance, field: str) -> Floats:
    return np.array([getattr(c, field) for c in instance.classes], dtype=np.float64)


def _served(trial: Trial, requests: object) -> tuple[float, ...]:
    rows, rates = np.asarray(requests), _means(trial.instance, "rate") * trial.replicas
    done = rows["klass"][rows["prefilled"] >= trial.warmup_seconds]
    return tuple(np.bincount(done, minlength=len(rates)) / rates / _measured_seconds(trial))


def _calm(trial: Trial, result: Plan, requests: object, rates: Floats) -> float:
    """Value per second by tokens decoded, less what the draw's own traffic was worth above or below the mean.

    Lengths are exponential, so a class finishes at rate (tokens decoded per second) / D_i
    whatever has finished so far: counting tokens in place of ends leaves the expectation and
    drops the noise of ends. And tokens offered beyond their mean are worth the plan's marginal
    value each: a control variate of expectation zero.
    """
    instance, rows = trial.instance, np.asarray(requests)
    prompts, outputs = _means(instance, "prompt_tokens"), _means(instance, "output_tokens")
    values = instance.prompt_price * prompts + instance.output_price * outputs
    arrived = rows[rows["arrival"] >= trial.warmup_seconds]
    offered = np.bincount(arrived["klass"], arrived["output"], minlength=len(outputs)) / outputs
    surplus = offered / _measured_seconds(trial) - _means(instance, "rate") * trial.replicas
    marginal = np.array([entry.marginal_value or 0.0 for entry in result.classes])
    return float((values * rates).sum() - (marginal * surplus).sum())


def _value(requests: object, trial: Trial) -> float:
    """Value per second at class means: requests pay w_i = c_p P_i + c_d D_i, as in the paper, not their own length."""
    instance = trial.instance
    rows = np.asarray(requests)
    prompt = np.array([c.prompt_tokens for c in instance.classes])[rows["klass"]] * instance.prompt_price
    output = np.array([c.output_tokens for c in instance.classes])[rows["klass"]] * instance.output_price
    prefilled = rows["prefilled"] >= trial.warmup_seconds
    done = (rows["state"] == 6) & (rows["ended"] >= trial.warmup_seconds)
    if trial.charging is Charging.SEPARATE:
        total = prompt[prefilled].sum() + output[done].sum()
    else:
        total = (prompt + output)[done].sum()
    return float(total / _measured_seconds(trial))
