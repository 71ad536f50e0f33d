"""What plan, gate and yardstick are told of classes whose traffic is known: demand, guidance, prices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sluice.model.demand import ClassDemand, Demand, Estimate
from sluice.model.fleet import Pool, WorkloadClass
from sluice.model.plan import Plan
from sluice.model.signal import Source
from sluice.policy.costs import costs_of
from sluice.simulation.measure import Prices
from sluice.simulation.regime import Guidance
from sluice.simulation.workload import Floats, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """A row per class, in the classes' order."""

    rates: Floats
    """Requests per second of the whole fleet."""
    prompts: Floats
    """Prompt tokens of a request."""
    works: Floats
    """Those of them that are computed: what no prefix cache holds."""
    outputs: Floats
    """Output tokens of a request."""

    @classmethod
    def of(cls, load: Workload) -> Means:
        """Those of the requests themselves."""
        return cls(
            rates=load.rates(), prompts=load.means("prompt"), works=load.means("work"), outputs=load.means("output")
        )


def demand_of(classes: Sequence[WorkloadClass], means: Means) -> Demand:
    """The means as if somebody had stated them."""

    def given(value: float) -> Estimate:
        return Estimate(value=float(value), source=Source.OVERRIDE)

    return Demand(
        classes=tuple(
            ClassDemand(
                name=entry.name,
                rate=given(means.rates[i]),
                prompt_tokens=given(max(1.0, means.prompts[i])),
                uncached_prompt_tokens=given(means.works[i]),
                output_tokens=given(max(1.0, means.outputs[i])),
                patience_seconds=entry.patience_seconds,
            )
            for i, entry in enumerate(classes)
        )
    )


def guidance_of(planned: Plan, classes: Sequence[WorkloadClass], means: Means, pool: Pool) -> Guidance:
    """What a gate is told: the plan, and what a request of mean lengths is worth, and takes on ``pool``."""
    rows = list(enumerate(classes))
    return Guidance.of_plan(
        planned,
        promises={entry.name: entry.ttft_promise_seconds for entry in classes if entry.ttft_promise_seconds},
        prompts={entry.name: float(means.works[i]) for i, entry in rows},
        values={
            entry.name: float(entry.prompt_token_price * means.prompts[i] + entry.output_token_price * means.outputs[i])
            for i, entry in rows
        },
        costs={entry.name: costs_of(pool, float(means.works[i]), float(means.outputs[i])) for i, entry in rows},
        floors={entry.name: entry.guaranteed_share for entry in classes},
    )


def prices_of(classes: Sequence[WorkloadClass]) -> tuple[Prices, ...]:
    """By which runs are valued, in the classes' order; without a promise every first token is in time."""
    return tuple(
        Prices(
            prompt_token=entry.prompt_token_price,
            output_token=entry.output_token_price,
            promise_seconds=entry.ttft_promise_seconds or math.inf,
        )
        for entry in classes
    )
