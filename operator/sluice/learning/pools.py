"""Recalibration of all pools of a fleet: from replicas' samples to laws, findings and what status tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from sluice.learning.recalibration import (
    Recalibration,
    RecalibrationSettings,
    WorkingPoint,
    drift,
    law_to_plan_with,
    recalibrate,
)
from sluice.model.engine_sample import EngineSample
from sluice.model.fleet import Fleet, Pool
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.snapshot import PoolSupply


@dataclass(frozen=True, slots=True, kw_only=True)
class LawMemory:
    """The states of a fleet's pools, by name."""

    pools: Mapping[str, Recalibration] = field(default_factory=dict)


def recalibrate_fleet(
    fleet: Fleet,
    supplies: Iterable[PoolSupply],
    samples: Mapping[str, EngineSample],
    memory: LawMemory,
    now: float,
) -> tuple[Fleet, tuple[Finding, ...], LawMemory]:
    """The fleet with the laws to plan with, a finding per drifted pool, and the states after this period.

    ``samples`` are by replica address. A pool whose declared law was edited starts anew.
    """
    settings = RecalibrationSettings(maximum_age_seconds=fleet.metrics.maximum_age_seconds)
    addresses = {supply.pool: supply.addresses for supply in supplies}
    states: dict[str, Recalibration] = {}
    pools: list[Pool] = []
    findings: list[Finding] = []
    for pool in fleet.pools:
        if pool.external is not None:
            pools.append(pool)
            continue
        known = memory.pools.get(pool.name)
        state = known if known is not None and known.declared == pool.law else Recalibration(declared=pool.law)
        mine = [samples[address] for address in addresses.get(pool.name, ()) if address in samples]
        point = WorkingPoint(chunk_tokens=pool.chunk_tokens, slots=pool.slots)
        state = recalibrate(state, pool_sample(mine, pool.engines_per_replica), point, now, settings)
        states[pool.name] = state
        pools.append(replace(pool, law=law_to_plan_with(state, allowed=pool.use_observed_law, settings=settings)))
        if state.drifted:
            findings.append(_drifted(pool, drift(state, point)))
    return replace(fleet, pools=tuple(pools)), tuple(findings), LawMemory(pools=states)


def pool_sample(samples: Iterable[EngineSample], engines_per_replica: int = 1) -> EngineSample | None:
    """The mean engine of a pool; None where no replica has a sample. As old as the oldest."""
    told = tuple(samples)
    if not told:
        return None
    tokens = sum(sample.generation_rate for sample in told)
    prefills = [sample for sample in told if sample.prefill_seconds is not None]
    counted = [sample.iteration_rate for sample in told if sample.iteration_rate is not None]
    engines = len(told) * engines_per_replica
    return EngineSample(
        at_seconds=min(sample.at_seconds for sample in told),
        # Every replica's mean counts by the tokens behind it.
        inter_token_seconds=sum(s.inter_token_seconds * s.generation_rate for s in told) / tokens if tokens else 0.0,
        running=sum(sample.running for sample in told) / engines,
        generation_rate=tokens / engines,
        prompt_rate=sum(sample.prompt_rate for sample in told) / engines,
        prompt_tokens=_weighted((sample.prompt_tokens, sample.prompt_rate) for sample in told),
        iteration_rate=sum(counted) / len(counted) if len(counted) == len(told) else None,
        prefill_seconds=_weighted((s.prefill_seconds or 0.0, s.prompt_rate) for s in prefills) or None,
    )


def _weighted(pairs: Iterable[tuple[float, float]]) -> float:
    """Mean by weight; 0 where there is none."""
    told = tuple(pairs)
    total = sum(weight for _, weight in told)
    return sum(value * weight for value, weight in told) / total if total > 0 else 0.0


def _drifted(pool: Pool, change: float) -> Finding:
    slower = "slower" if change > 0 else "faster"
    used = "the observed law is planned with" if pool.use_observed_law else "the declared law is still planned with"
    return Finding(
        condition=ConditionType.DRIFTED,
        reason=Reason.LAW_DRIFTED,
        message=f"pool {pool.name}: engines are {abs(change):.0%} {slower} than IterationProfile {pool.profile} says; "
        + used,
    )
