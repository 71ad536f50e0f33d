"""All pools of a fleet: which law is planned with, and what is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice.learning.pools import LawMemory, pool_sample, recalibrate_fleet
from sluice.model.engine_sample import EngineSample
from sluice.model.fleet import Fleet, Pool
from sluice.model.law import IterationLaw
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.signal import Source
from sluice.model.snapshot import PoolSupply

LAW = IterationLaw(solo_seconds=0.010, mixed_base_seconds=0.008, per_token_seconds=40e-6)
POOL = Pool(
    name="a100",
    law=LAW,
    slots=32,
    chunk_tokens=512,
    batched_token_budget=544,
    profile="measured",
    use_observed_law=True,
)
FLEET = Fleet(namespace="n", name="f", pools=(POOL,))
ADDRESSES = ("10.0.0.1:8000", "10.0.0.2:8000")
SUPPLIES = (PoolSupply(pool="a100", ready=2, source=Source.PODS, addresses=ADDRESSES),)


def sample(at_seconds: float, slower: float) -> EngineSample:
    gap = LAW.solo(20) * slower
    return EngineSample(
        at_seconds=at_seconds,
        inter_token_seconds=gap,
        running=20.0,
        generation_rate=20.0 / gap,
        prompt_rate=0.0,
        prompt_tokens=0.0,
    )


def run(fleet: Fleet, slower: float, periods: int = 15) -> tuple[Fleet, tuple[Finding, ...], LawMemory]:
    memory, planned = LawMemory(), fleet
    findings: tuple[Finding, ...] = ()
    for period in range(periods):
        now = 1000.0 + 10 * period
        seen = dict.fromkeys(ADDRESSES, sample(now, slower))
        planned, findings, memory = recalibrate_fleet(fleet, SUPPLIES, seen, memory, now)
    return planned, findings, memory


@pytest.mark.parametrize(
    ("allowed", "factor", "said"),
    [
        pytest.param(True, 1.3, "observed law is planned with", id="allowed: the plan follows"),
        pytest.param(False, 1.0, "declared law is still planned with", id="not allowed: it is only told"),
    ],
)
def test_a_pool_that_became_slower_is_told_and_planned_with_where_allowed(
    allowed: bool, factor: float, said: str
) -> None:
    fleet = replace(FLEET, pools=(replace(POOL, use_observed_law=allowed),))
    planned, (finding,), _ = run(fleet, 1.3)
    assert planned.pools[0].solo_seconds == pytest.approx(LAW.solo(32) * factor, rel=0.03)
    assert (finding.condition, finding.reason) == (ConditionType.DRIFTED, Reason.LAW_DRIFTED)
    assert "pool a100" in finding.message
    assert said in finding.message


def test_a_pool_whose_law_holds_is_left_alone() -> None:
    planned, findings, _ = run(FLEET, 1.0)
    assert findings == ()
    assert planned.pools[0].solo_seconds == pytest.approx(LAW.solo(32), rel=0.01)


def test_without_samples_the_declared_law_stays() -> None:
    planned, findings, memory = recalibrate_fleet(FLEET, SUPPLIES, {}, LawMemory(), 1000.0)
    assert (planned, findings) == (FLEET, ())
    assert memory.pools["a100"].updates == 0


def test_an_edited_profile_starts_anew() -> None:
    _, _, memory = run(FLEET, 1.3)
    edited = replace(FLEET, pools=(replace(POOL, law=replace(LAW, solo_seconds=0.013)),))
    planned, findings, fresh = recalibrate_fleet(edited, SUPPLIES, {}, memory, 2000.0)
    assert (planned, findings) == (edited, ())
    assert fresh.pools["a100"].updates == 0


def test_the_mean_engine_of_a_pool_counts_tokens_not_replicas() -> None:
    busy = replace(sample(1000.0, 1.0), generation_rate=3000.0, inter_token_seconds=0.010)
    quiet = replace(sample(990.0, 1.0), generation_rate=1000.0, inter_token_seconds=0.014)
    mean = pool_sample([busy, quiet])
    assert mean is not None
    assert mean.inter_token_seconds == pytest.approx(0.011)
    assert mean.generation_rate == pytest.approx(2000.0)
    assert mean.at_seconds == 990.0, "as old as the oldest"


def test_engines_behind_one_address_share_its_figures() -> None:
    one, two = (pool_sample([sample(1000.0, 1.0)], engines) for engines in (1, 2))
    assert one is not None
    assert two is not None
    assert (two.running, two.generation_rate) == (one.running / 2, one.generation_rate / 2)
    assert two.inter_token_seconds == one.inter_token_seconds
    assert pool_sample([]) is None
