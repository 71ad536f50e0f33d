"""Policies side by side on a user's own fleet: plan for the traffic, simulate each, tabulate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sluice.model.demand import ClassDemand, Demand, Estimate
from sluice.model.fleet import Fleet, WorkloadClass
from sluice.model.plan import Plan
from sluice.model.signal import Source
from sluice.model.snapshot import PoolSupply
from sluice.planning import Problem, plan
from sluice.policy.admission import AdmissionPolicy, Budget
from sluice.policy.kernels import Late
from sluice.policy.orders import BANDS, EARLIEST_DEADLINE, FIRST_COME, PRIORITY, keeping_promises, with_reserve
from sluice.simulation.catalogue import TODAY, gated
from sluice.simulation.claims import Chart, Line, Table
from sluice.simulation.layout import State
from sluice.simulation.measure import ClassMeasure, Measure, Prices, kept_promise, measure, values_of
from sluice.simulation.regime import Fidelity, Guidance, Regime
from sluice.simulation.run import Record, Replicas, Setup, simulate
from sluice.simulation.workload import ClassLoad, LogNormal, Workload, generate

DEFAULT_REGIMES = (
    "chunked",
    "first-come",
    "bands",
    "earliest-deadline+late-last",
    "earliest-deadline+late-last+reserve",
)
CHUNKS_AHEAD = 2.0
"""Unfinished prompt tokens per replica, in chunks: an engine always has its next chunk, and no queue of its own."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One policy's run."""

    record: Record
    measure: Measure


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
    budget = Budget(least_requests=1, tokens=CHUNKS_AHEAD * min(pool.chunk_tokens for pool in pools))
    per_token = max(pool.mixed_seconds / pool.chunk_tokens for pool in pools)
    orders: dict[str, AdmissionPolicy] = {}
    for order in (FIRST_COME, PRIORITY, BANDS, EARLIEST_DEADLINE):
        orders[order.name] = order
        for late in (Late.LAST, Late.REFUSE):
            kept = keeping_promises(order, prefill_seconds_per_token=per_token, late=late)
            orders[kept.name] = kept
            if late is Late.LAST:
                orders[with_reserve(kept).name] = with_reserve(kept)
    unknown = [name for name in names if name not in TODAY and name not in orders]
    if unknown:
        raise ComparisonError(f"no policy {', '.join(unknown)}; there are {', '.join([*TODAY, *orders])}")
    return tuple(TODAY[name] if name in TODAY else gated(orders[name], budget=budget) for name in names)


def compare(scenario: Scenario, names: Sequence[str]) -> Comparison:
    """Run every named policy on the scenario's requests."""
    regimes = regimes_for(scenario, names)
    planned = _plan(scenario)
    prices = tuple(
        Prices(
            prompt_token=entry.prompt_token_price,
            output_token=entry.output_token_price,
            promise_seconds=entry.ttft_promise_seconds or math.inf,
        )
        for entry in scenario.classes
    )
    guidance = _guidance(scenario, planned)
    supply = {entry.pool: entry.ready for entry in scenario.supplies}
    setup = Setup(
        workload=scenario.workload,
        replicas=tuple(Replicas(pool=pool, count=supply[pool.name]) for pool in scenario.fleet.pools),
        fidelity=Fidelity.ITERATION,
        warmup_seconds=scenario.workload.horizon_seconds / 10,
        seed=scenario.seed,
    )
    entries = []
    for regime in regimes:
        direct = regime.name in TODAY
        record = simulate(
            setup if direct else replace(setup, round_trip_seconds=scenario.round_trip_seconds), regime, guidance
        )
        entries.append(Entry(record=record, measure=measure(record, prices)))
    return Comparison(scenario=scenario, plan=planned, prices=prices, entries=tuple(entries))


def _plan(scenario: Scenario) -> Plan:
    """The plan for the traffic as it is: its own rates and mean lengths."""
    load = scenario.workload
    rates, prompts, works, outputs = load.rates(), load.means("prompt"), load.means("work"), load.means("output")

    def given(value: float) -> Estimate:
        return Estimate(value=float(value), source=Source.OVERRIDE)

    demand = Demand(
        classes=tuple(
            ClassDemand(
                name=entry.name,
                rate=given(rates[i]),
                prompt_tokens=given(max(1.0, prompts[i])),
                uncached_prompt_tokens=given(works[i]),
                output_tokens=given(max(1.0, outputs[i])),
                patience_seconds=entry.patience_seconds,
            )
            for i, entry in enumerate(scenario.classes)
        )
    )
    outcome = plan(Problem.of(scenario.fleet, scenario.classes, demand, scenario.supplies), now=0.0)
    if outcome.plan is None:
        raise ComparisonError(outcome.message)
    return outcome.plan


def _guidance(scenario: Scenario, planned: Plan) -> Guidance:
    prompts, values = scenario.workload.means("work"), scenario.workload.means("output")
    promises = {
        entry.name: entry.ttft_promise_seconds for entry in scenario.classes if entry.ttft_promise_seconds is not None
    }
    return Guidance.of_plan(
        planned,
        promises=promises,
        prompts={entry.name: float(prompts[i]) for i, entry in enumerate(scenario.classes)},
        values={entry.name: float(values[i]) for i, entry in enumerate(scenario.classes)},
    )


def value_table(comparison: Comparison) -> Table:
    """One row per policy: what it earns, and what of it kept its promise."""
    bound = comparison.plan.value_per_second
    rows = tuple(
        (
            entry.measure.regime,
            str(entry.measure.total.value_per_second),
            str(entry.measure.total.good_value_per_second),
            entry.measure.total.value_per_second.mean / bound if bound else math.nan,
            entry.measure.total.served,
            entry.measure.total.kept,
            entry.measure.utilisation,
        )
        for entry in comparison.entries
    )
    return Table(
        title=f"{comparison.scenario.fleet.key}: plan {bound:.6g} per second",
        columns=("policy", "value/s", "good value/s", "share of R*", "served", "kept", "busy"),
        rows=rows,
    )


def class_table(comparison: Comparison) -> Table:
    """One row per policy and class: what its users see."""
    rows = []
    for entry in comparison.entries:
        rows += [(entry.measure.regime, *_class_row(klass)) for klass in entry.measure.classes]
    columns = (
        "policy",
        "class",
        "served",
        "kept",
        "TTFT mean",
        "p50",
        "p95",
        "p99",
        "TPOT mean",
        "p95",
        "p99",
        "queue",
    )
    return Table(title="By class (seconds)", columns=columns, rows=tuple(rows))


def _class_row(klass: ClassMeasure) -> tuple[str | float, ...]:
    ttft, tpot = klass.ttft, klass.tpot
    latencies = (ttft.mean, ttft.p50, ttft.p95, ttft.p99, tpot.mean, tpot.p95, tpot.p99)
    return (klass.name, klass.served, klass.kept, *latencies, klass.queue)


def charts(comparison: Comparison) -> tuple[Chart, ...]:
    """TTFT distributions and good value over time."""
    cdfs, series = [], []
    for entry in comparison.entries:
        rows = entry.record.requests
        waits = np.sort((rows["first"] - rows["arrival"])[rows["first"] >= 0])
        if len(waits) == 0:
            continue
        shares = np.linspace(0, 1, 200)
        points = np.quantile(waits, shares)
        cdfs.append(Line(label=entry.measure.regime, x=tuple(points), y=tuple(shares)))
        good = kept_promise(rows, comparison.prices) & (rows["state"] == int(State.DONE))
        edges = np.linspace(0.0, comparison.scenario.workload.horizon_seconds, 61)
        sums, _ = np.histogram(rows["ended"][good], edges, weights=values_of(rows, comparison.prices)[good])
        series.append(Line(label=entry.measure.regime, x=tuple(edges[1:]), y=tuple(sums / (edges[1] - edges[0]))))
    return (
        Chart(
            name="ttft",
            title="Time to first token",
            x_label="seconds",
            y_label="share of answered requests",
            lines=tuple(cdfs),
            logarithmic_x=True,
        ),
        Chart(
            name="good-value",
            title="Value of answers that kept their promise",
            x_label="seconds",
            y_label="money per second",
            lines=tuple(series),
        ),
    )


def as_document(comparison: Comparison) -> Mapping[str, object]:
    """The tables as JSON."""
    return {
        table.title: [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        for table in (value_table(comparison), class_table(comparison))
    }
