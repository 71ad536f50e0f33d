"""What a wrong law costs: the value a plan earns on engines that keep another law than it was made for."""

from __future__ import annotations

from dataclasses import replace

from sluice.model.demand import ClassDemand, Demand, Estimate
from sluice.model.fleet import Fleet, Pool, WorkloadClass
from sluice.model.law import IterationLaw
from sluice.model.plan import Plan
from sluice.model.signal import Source
from sluice.model.snapshot import PoolSupply
from sluice.planning import Problem, plan

REPLICAS = 3
SHARE_ACCURACY = 1e-4


def workload(name: str, rate: float, prompt: float, output: float, prompt_price: float) -> WorkloadClass:
    return WorkloadClass(
        name=name,
        prompt_token_price=prompt_price,
        output_token_price=0.2,
        prior_rate=rate,
        prior_prompt_tokens=prompt,
        prior_output_tokens=output,
        patience_seconds=10.0,
    )


CLASSES = (workload("decode", 7.0, 300, 1000, 0.1), workload("prefill", 7.0, 3000, 400, 0.1))
"""The two classes of the paper's instance, overloaded."""


def optimum(law: IterationLaw, caps: dict[str, float] | None = None) -> Plan:
    """The best plan by ``law``; no class is offered more than its cap."""
    pool = Pool(name="p", law=law, slots=16, chunk_tokens=256, batched_token_budget=272, decode_may_move=True)
    fleet = Fleet(namespace="n", name="f", pools=(pool,))
    limits = caps or {entry.name: entry.prior_rate for entry in CLASSES}
    classes = tuple(replace(entry, prior_rate=limits[entry.name]) for entry in CLASSES)
    demand = Demand(classes=tuple(map(_offered, classes)))
    supplies = (PoolSupply(pool="p", ready=REPLICAS, source=Source.OVERRIDE),)
    outcome = plan(Problem.of(fleet, classes, demand, supplies), now=0.0)
    assert outcome.plan is not None, outcome.message
    return outcome.plan


def regret(believed: IterationLaw, true: IterationLaw) -> float:
    """Share of the attainable value that is lost by admitting what is best for ``believed``.

    Engines that are offered more than they can do serve the same share of every class, since
    they do not know what a request is worth; engines that are offered less stand idle.
    """
    wanted = {entry.name: entry.admitted_rate for entry in optimum(believed).classes}
    low, high = 0.0, 1.0
    if _value_where_all_is_served(true, wanted, 1.0) is None:
        while high - low > SHARE_ACCURACY:
            middle = (low + high) / 2
            if _value_where_all_is_served(true, wanted, middle) is None:
                high = middle
            else:
                low = middle
    else:
        low = 1.0
    return 1 - (_value_where_all_is_served(true, wanted, low) or 0.0) / optimum(true).value_per_second


def _value_where_all_is_served(law: IterationLaw, wanted: dict[str, float], share: float) -> float | None:
    """The value of serving this share of every class, or None where the engines cannot."""
    caps = {name: rate * share for name, rate in wanted.items()}
    best = optimum(law, caps)
    served = all(entry.admitted_rate >= caps[entry.name] * (1 - 1e-6) for entry in best.classes)
    return best.value_per_second if served else None


def _offered(entry: WorkloadClass) -> ClassDemand:
    def told(value: float) -> Estimate:
        return Estimate(value=value, source=Source.OVERRIDE)

    return ClassDemand(
        name=entry.name,
        rate=told(entry.prior_rate),
        prompt_tokens=told(entry.prior_prompt_tokens),
        uncached_prompt_tokens=told(entry.prior_prompt_tokens),
        output_tokens=told(entry.prior_output_tokens),
        patience_seconds=entry.patience_seconds,
    )
