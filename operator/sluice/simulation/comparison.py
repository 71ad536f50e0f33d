"""Policies side by side on a user's own fleet: plan for the traffic, simulate each, tabulate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sluice.model.demand import Demand
from sluice.model.fleet import Fleet, WorkloadClass
from sluice.model.plan import Plan
from sluice.model.snapshot import PoolSupply
from sluice.planning import Problem, plan
from sluice.policy.admission import AdmissionPolicy
from sluice.policy.kernels import Late
from sluice.policy.orders import BANDS, EARLIEST_DEADLINE, FIRST_COME, PRIORITY, TIMELY, promising, timely, with_reserve
from sluice.simulation.actuated import (
    ACTUATED,
    IDEAL,
    Informed,
    Operator,
    hold_plan,
    ideal_of,
    informed_of,
    limited_as,
    start_open,
)
from sluice.simulation.catalogue import TODAY, live_gate
from sluice.simulation.layout import Sim
from sluice.simulation.measure import Measure, Prices, measure
from sluice.simulation.regime import Fidelity, Guidance, Regime
from sluice.simulation.run import Record, Replicas, Setup, simulate
from sluice.simulation.told import Means, demand_of, guidance_of, prices_of
from sluice.simulation.workload import ClassLoad, LogNormal, Workload, generate

DEFAULT_REGIMES = (
    "chunked",
    "sluice",
    "first-come",
    "priority+late-last",
    "earliest-deadline+late-last",
    "timely",
)


class ComparisonError(ValueError):
    """The fleet cannot be simulated; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A user's fleet with the traffic to judge it by."""

    fleet: Fleet
    classes: tuple[WorkloadClass, ...]
    supplies: tuple[PoolSupply, ...]
    workload: Workload
    seed: int = 1
    round_trip_seconds: float = 0.003
    proxies: int = 1
    """Ready proxies that divide every limit."""
    warmup_share: float = 0.1
    """Share of the horizon that is not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One policy's run."""

    record: Record
    measure: Measure
    writes: int | None = None
    """How often the operator told the data plane something new; None where no operator was at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Every policy on the same requests."""

    scenario: Scenario
    plan: Plan
    prices: tuple[Prices, ...]
    entries: tuple[Entry, ...]


def declared_workload(classes: Sequence[WorkloadClass], *, horizon_seconds: float, seed: int) -> Workload:
    """Synthetic traffic at the declared priors: Poisson arrivals, log-normal lengths of variation 1."""
    loads = tuple(
        ClassLoad(
            name=entry.name,
            rate=entry.prior_rate,
            prompt=LogNormal(entry.prior_prompt_tokens, 1.0),
            output=LogNormal(entry.prior_output_tokens, 1.0),
            patience_seconds=entry.patience_seconds,
        )
        for entry in classes
    )
    return generate(loads, horizon_seconds=horizon_seconds, seed=seed, whole_tokens=True)


def regimes_for(scenario: Scenario, names: Sequence[str]) -> tuple[Regime, ...]:
    """Regimes by name: engines as they run today, or the live gate with one of its orders."""
    pools = scenario.fleet.pools
    per_token = max(pool.mixed_seconds / pool.chunk_tokens for pool in pools)
    orders: dict[str, AdmissionPolicy] = {}
    for order in (FIRST_COME, PRIORITY, BANDS, EARLIEST_DEADLINE):
        orders[order.name] = order
        for late in (Late.LAST, Late.REFUSE):
            kept = promising(order, per_token, late)
            orders[kept.name] = kept
            if late is Late.LAST:
                orders[with_reserve(kept).name] = with_reserve(kept)
    orders[TIMELY.name] = timely(per_token)
    known = {**TODAY, **ACTUATED, **IDEAL, **{name: live_gate(order, pools) for name, order in orders.items()}}
    if unknown := [name for name in names if name not in known]:
        raise ComparisonError(
            f"no policy {', '.join(unknown)}; there are {', '.join(n for n in known if ':' not in n)}"
        )
    return tuple(known[name] for name in names)


def with_ideals(names: Sequence[str]) -> tuple[str, ...]:
    """The same names, each actuated policy followed by the ideal that it is measured against."""
    pairs = [(name, ideal_of(name)) for name in names]
    return tuple(dict.fromkeys(entry for pair in pairs for entry in pair if entry is not None))


Progress = Callable[[str, float], None]
"""Told the policy's name and the share of its run that is done."""
STEPS_SHOWN = 100


def _silent(name: str, share: float) -> None:
    del name, share


def compare(scenario: Scenario, names: Sequence[str], progress: Progress = _silent) -> Comparison:
    """Run every named policy on the scenario's requests."""
    regimes = regimes_for(scenario, with_ideals(names))
    planned = _plan(scenario)
    prices = prices_of(scenario.classes)
    guidance = guidance_of(planned, scenario.classes, true_means(scenario), scenario.fleet.pools[0])
    entries = tuple(_entry(scenario, regime, guidance, planned, prices, progress) for regime in regimes)
    return Comparison(scenario=scenario, plan=planned, prices=prices, entries=entries)


def _entry(
    scenario: Scenario,
    regime: Regime,
    guidance: Guidance,
    planned: Plan,
    prices: tuple[Prices, ...],
    progress: Progress,
) -> Entry:
    """One policy on the scenario's requests; an actuated one with an operator at work."""
    name, classes, supplies = regime.name, scenario.classes, scenario.supplies
    horizon = scenario.workload.horizon_seconds
    fleet = limited_as(scenario.fleet, name) if name in ACTUATED or name in IDEAL else scenario.fleet
    operator = None
    if name in ACTUATED:
        truth, informed = true_demand(scenario), informed_of(name)
        operator = Operator(fleet, classes, supplies, scenario.proxies, truth=truth, informed=informed)

    def start(sim: Sim) -> None:
        if operator is not None:
            start_open(sim, fleet, classes, supplies)
            if operator.informed is Informed.AT_ONCE:
                operator(sim, 0.0)
        elif name in IDEAL:
            hold_plan(sim, fleet, classes, planned)

    def tick(sim: Sim, now: float) -> None:
        if operator is not None:
            operator(sim, now)
        progress(name, now / horizon)

    record = simulate(
        _setup(scenario, regime),
        regime,
        guidance,
        tick_seconds=fleet.control.solve_period_seconds if operator is not None else horizon / STEPS_SHOWN,
        on_tick=tick,
        on_start=start,
    )
    progress(name, 1.0)
    return Entry(record=record, measure=measure(record, prices), writes=None if operator is None else operator.writes)


def _setup(scenario: Scenario, regime: Regime) -> Setup:
    """The fleet below a policy; only a gate costs a round trip."""
    supply = {entry.pool: entry.ready for entry in scenario.supplies}
    direct = regime.name in TODAY or regime.name in ACTUATED or regime.name in IDEAL
    return Setup(
        workload=scenario.workload,
        replicas=tuple(Replicas(pool=pool, count=supply[pool.name]) for pool in scenario.fleet.pools),
        fidelity=Fidelity.ITERATION,
        warmup_seconds=scenario.workload.horizon_seconds * scenario.warmup_share,
        seed=scenario.seed,
        round_trip_seconds=0.0 if direct else scenario.round_trip_seconds,
    )


def true_demand(scenario: Scenario) -> Demand:
    """The traffic as it is: its own rates and mean lengths."""
    return demand_of(scenario.classes, true_means(scenario))


def true_means(scenario: Scenario) -> Means:
    """Its rates and lengths; of what prefix caches leave to compute, what prompts scattered over them would find."""
    pools = {pool.name: pool for pool in scenario.fleet.pools}
    caches = [
        float(pools[entry.pool].kv_token_capacity or math.inf)
        for entry in scenario.supplies
        for _ in range(entry.ready)
    ]
    return Means.of(scenario.workload.foreseen(caches))


def _plan(scenario: Scenario) -> Plan:
    """The plan for the traffic as it is."""
    outcome = plan(Problem.of(scenario.fleet, scenario.classes, true_demand(scenario), scenario.supplies), now=0.0)
    if outcome.plan is None:
        raise ComparisonError(outcome.message)
    return outcome.plan
