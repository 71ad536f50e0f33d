"""Instances of the paper's network: build, plan, simulate (paper sections 2, 3 and 6.2).

Rates here are the paper's, per replica. Values and targets come from the planning room,
the same program that the operator solves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sluice.model.demand import ClassDemand, Demand, Estimate
from sluice.model.fleet import Charging, Fleet, Pool, WorkloadClass
from sluice.model.law import IterationLaw
from sluice.model.plan import Band, Plan
from sluice.model.signal import Source
from sluice.model.snapshot import PoolSupply
from sluice.planning import Problem, plan
from sluice.planning.promises import Promise
from sluice.policy.admission import LaneTerms
from sluice.simulation.measure import Measure, Prices, measure
from sluice.simulation.regime import Fidelity, Guidance, Regime
from sluice.simulation.run import Replicas, Setup, simulate
from sluice.simulation.workload import ClassLoad, Exponential, Workload, generate

POOL_NAME = "pool"


class PlanningError(RuntimeError):
    """An instance has no optimal plan; the message is the planner's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkClass:
    """One class of the paper's model."""

    prompt_tokens: float
    output_tokens: float
    rate: float
    """Requests per second and replica (lambda)."""
    abandonment_rate: float
    """Per second (theta)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance of the paper's model, per replica."""

    classes: tuple[NetworkClass, ...]
    slots: int
    chunk_tokens: int
    mixed_base_seconds: float
    """alpha"""
    per_token_seconds: float
    """beta"""
    solo_seconds: float
    """1/gamma"""
    prompt_price: float
    output_price: float

    @property
    def names(self) -> tuple[str, ...]:
        """Class names: their numbers."""
        return tuple(str(i) for i in range(len(self.classes)))

    @property
    def pool(self) -> Pool:
        """The instance's replicas as a pool; decode moves freely."""
        law = IterationLaw(
            solo_seconds=self.solo_seconds,
            mixed_base_seconds=self.mixed_base_seconds,
            per_token_seconds=self.per_token_seconds,
        )
        return Pool(
            name=POOL_NAME,
            law=law,
            slots=self.slots,
            chunk_tokens=self.chunk_tokens,
            batched_token_budget=self.chunk_tokens + self.slots,
            decode_may_move=True,
        )

    @property
    def prices(self) -> tuple[Prices, ...]:
        """Every class pays the same per token."""
        return tuple(Prices(prompt_token=self.prompt_price, output_token=self.output_price) for _ in self.classes)

    def displacement(self) -> float:
        """Decode tokens displaced per prompt token, kappa' of model page section 2.3."""
        tau = self.pool.mixed_seconds
        return (self.slots * tau / self.solo_seconds - (self.slots - 1)) / self.chunk_tokens

    def token_row_index(self) -> tuple[float, ...]:
        """Value per token of the token row, model page section 2.3."""
        kappa = self.displacement()
        return tuple(
            (self.prompt_price * c.prompt_tokens + self.output_price * c.output_tokens)
            / (c.output_tokens + kappa * c.prompt_tokens)
            for c in self.classes
        )

    def scaled(self, factor: float) -> Instance:
        """The same classes at ``factor`` times the arrivals."""
        return replace(self, classes=tuple(replace(c, rate=c.rate * factor) for c in self.classes))

    def token_load(self) -> float:
        """Offered use of the token row over its capacity: above 1 the fleet is overloaded."""
        kappa = self.displacement()
        offered = sum(c.rate * (c.output_tokens + kappa * c.prompt_tokens) for c in self.classes)
        return offered * self.solo_seconds / self.slots


PAPER_8B = Instance(
    classes=(
        NetworkClass(prompt_tokens=300.0, output_tokens=1000.0, rate=0.5, abandonment_rate=0.1),
        NetworkClass(prompt_tokens=3000.0, output_tokens=400.0, rate=0.5, abandonment_rate=0.1),
    ),
    slots=16,
    chunk_tokens=256,
    mixed_base_seconds=0.0174,
    per_token_seconds=6.2e-5,
    solo_seconds=0.022,
    prompt_price=0.1,
    output_price=0.2,
)
"""The two-class instance of section 6.2 with the 8B constants."""


def random_instance(seed: int, classes: int) -> Instance:
    """A draw from the ranges of section 6.3; draws outside Prop 3.2's condition are drawn again.

    alpha .015-.02, beta 1e-5-1e-3, gamma 10-50, lengths 200-3000, rates .25 or .5 times
    2/I: heavily overloaded (model page section 6.4).
    """
    source = np.random.Generator(np.random.Philox(key=seed))
    while True:
        instance = Instance(
            classes=tuple(
                NetworkClass(
                    prompt_tokens=float(source.uniform(200, 3000)),
                    output_tokens=float(source.uniform(200, 3000)),
                    rate=float(source.choice([0.25, 0.5])) * 2.0 / classes,
                    abandonment_rate=0.1,
                )
                for _ in range(classes)
            ),
            slots=16,
            chunk_tokens=256,
            mixed_base_seconds=float(source.uniform(0.015, 0.02)),
            per_token_seconds=float(source.uniform(1e-5, 1e-3)),
            solo_seconds=1.0 / float(source.uniform(10, 50)),
            prompt_price=0.1,
            output_price=0.2,
        )
        if instance.displacement() >= 0 and instance.pool.mixed_seconds > instance.solo_seconds:
            return instance


def solved(
    instance: Instance, replicas: int, charging: Charging = Charging.BUNDLED, promises: tuple[Promise, ...] = ()
) -> Plan:
    """The planner's optimum for ``replicas`` replicas."""
    fleet = Fleet(namespace="paper", name="network", charging=charging, pools=(instance.pool,))
    workloads = tuple(
        _workload_class(instance, name, c) for name, c in zip(instance.names, instance.classes, strict=True)
    )
    demand = Demand(
        classes=tuple(
            _class_demand(name, c, replicas) for name, c in zip(instance.names, instance.classes, strict=True)
        )
    )
    supply = PoolSupply(pool=POOL_NAME, ready=replicas, source=Source.PRIOR)
    problem = replace(Problem.of(fleet, workloads, demand, (supply,)), promises=promises)
    outcome = plan(problem, now=0.0)
    if outcome.plan is None:
        raise PlanningError(outcome.message)
    return outcome.plan


def _workload_class(instance: Instance, name: str, c: NetworkClass) -> WorkloadClass:
    return WorkloadClass(
        name=name,
        prompt_token_price=instance.prompt_price,
        output_token_price=instance.output_price,
        prior_rate=c.rate,
        prior_prompt_tokens=c.prompt_tokens,
        prior_output_tokens=c.output_tokens,
        patience_seconds=1.0 / c.abandonment_rate if c.abandonment_rate > 0 else None,
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


def guidance_of(instance: Instance, result: Plan, index: tuple[float, ...] | None = None) -> Guidance:
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

    @property
    def share(self) -> float:
        """Value over the LP bound."""
        return self.value / self.bound


def run_trial(trial: Trial) -> TrialResult:
    """Plan, simulate and measure."""
    instance, n = trial.instance, trial.replicas
    result = solved(instance, n, trial.charging)
    workload = workload_of(instance, n, horizon_seconds=trial.horizon_seconds, seed=trial.seed)
    setup = Setup(
        workload=workload,
        replicas=(Replicas(pool=instance.pool, count=n),),
        fidelity=Fidelity.NETWORK,
        warmup_seconds=trial.warmup_seconds,
        seed=trial.seed,
    )
    record = simulate(setup, trial.regime, guidance_of(instance, result, trial.index))
    return TrialResult(
        trial=trial,
        plan=result,
        measure=measure(record, instance.prices),
        value=_value(record.requests, trial) / n,
        bound=result.value_per_second / n,
    )


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
    return float(total / (trial.horizon_seconds - trial.warmup_seconds))
