"""Demand as the classes declare it: what a plan from files alone is made for."""

from __future__ import annotations

from collections.abc import Iterable

from sluice.model.demand import ClassDemand, Demand, Estimate
from sluice.model.fleet import WorkloadClass
from sluice.model.signal import Source


def declared_demand(classes: Iterable[WorkloadClass]) -> Demand:
    """Every class's priors, marked as such; no prompt token is taken to be cached."""
    return Demand(classes=tuple(_declared(workload) for workload in classes))


def _declared(workload: WorkloadClass) -> ClassDemand:
    prompt = Estimate(value=workload.prior_prompt_tokens, source=Source.PRIOR)
    return ClassDemand(
        name=workload.name,
        rate=Estimate(value=workload.prior_rate, source=Source.PRIOR),
        prompt_tokens=prompt,
        uncached_prompt_tokens=prompt,
        output_tokens=Estimate(value=workload.prior_output_tokens, source=Source.PRIOR),
        patience_seconds=workload.patience_seconds,
    )
