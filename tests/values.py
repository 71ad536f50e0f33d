"""Values that many tests start from: a test states what is its own, and takes the rest from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice.model.fleet import Hardness, Pool, Sli, SliSignal, SliStatistic, WorkloadClass
from sluice.model.law import IterationLaw
from sluice.model.plan import Band, ClassPlan, ClassPoolPlan, Plan, PoolPlan, Verdict

PAPER_LAW = IterationLaw(solo_seconds=0.022, mixed_base_seconds=0.0174, per_token_seconds=6.2e-5)
"""The measured example of arXiv 2602.02987."""


def pool(name: str = "a100", **fields: Any) -> Pool:
    """A pool of the paper's replicas."""
    given = {"law": PAPER_LAW, "slots": 16, "chunk_tokens": 256, "batched_token_budget": 2048, **fields}
    return Pool(name=name, **given)


def workload(name: str = "chat", **fields: Any) -> WorkloadClass:
    """A class of one request per second, and of money per token that makes sums easy."""
    given = {
        "prompt_token_price": 1.0,
        "output_token_price": 1.0,
        "prior_rate": 1.0,
        "prior_prompt_tokens": 100.0,
        "prior_output_tokens": 100.0,
        **fields,
    }
    return WorkloadClass(name=name, **given)


def ttft_promise(target_seconds: float) -> Sli:
    """A soft promise of the mean time to first token."""
    return Sli(
        signal=SliSignal.TTFT,
        statistic=SliStatistic.MEAN,
        target_seconds=target_seconds,
        fraction=None,
        hardness=Hardness.SOFT,
        penalty=0.0,
    )


def class_plan(name: str, *, admitted: float, offered: float, weights: Mapping[str, int], **fields: Any) -> ClassPlan:
    """What a plan says of a class, rationed where it admits less than is offered; ``weights`` in permille by pool."""
    rationed = admitted < offered
    given = {
        "band": Band.RATIONED if rationed else Band.FULL,
        "rationed": rationed,
        "prefill": 0.0,
        "decode_mixed": 0.0,
        "in_flight_limit": 20 if rationed else None,
        **fields,
    }
    shares = tuple(
        ClassPoolPlan(
            pool=key,
            admitted_rate=admitted * weight / 1000,
            prefill=0,
            decode_mixed=0,
            decode_solo=0,
            weight_permille=weight,
        )
        for key, weight in weights.items()
    )
    return ClassPlan(
        name=name,
        index=1.0,
        arrival_rate=offered,
        admitted_rate=admitted,
        decode_solo=0,
        prefill_queue=0,
        decode_queue=0,
        pools=shares,
        **given,
    )


def plan_of(*classes: ClassPlan, replicas: Mapping[str, int], plan_id: str = "p") -> Plan:
    """An optimal plan of the fleet ``demo/fleet`` that is about its classes only."""
    return Plan(
        plan_id=plan_id,
        fleet="demo/fleet",
        time="2026-01-01T00:00:00Z",
        charging="Bundled",
        verdict=Verdict.OPTIMAL,
        value_per_second=0,
        upper_bound=0,
        pools=tuple(
            PoolPlan(name=name, replicas=count, mixed=0, solo=0, mixed_replicas=0) for name, count in replicas.items()
        ),
        classes=classes,
    )
