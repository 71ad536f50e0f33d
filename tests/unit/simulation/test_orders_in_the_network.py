"""The default order's panels in the paper's network: what is drawn, what is measured, and how it is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sluice.simulation.catalogue import NETWORK
from sluice.simulation.claims import Verdict
from sluice.simulation.experiments import QUICK
from sluice.simulation.instances import PAPER_8B
from sluice.simulation.jobs import run_here
from sluice.simulation.network import Trial, TrialResult, run_trial, solved
from sluice.simulation.orders_in_the_network import (
    FLOOR_SHARE,
    GOALS,
    TWO_ROW_SLOTS,
    guaranteed_instance,
    orders_in_the_network,
    two_row_instance,
)

SMALL = replace(
    QUICK,
    horizon_seconds=30.0,
    panel_classes=(2,),
    goal_instances=((20, 2),),
    side_instances=2,
    two_row_instances=2,
)


def paper_run(seed: int, floor_share: float = 0.0) -> TrialResult:
    return run_trial(
        Trial(
            instance=PAPER_8B,
            replicas=10,
            regime=NETWORK["TI-WSP"],
            horizon_seconds=600.0,
            warmup_seconds=200.0,
            seed=seed,
            index=PAPER_8B.token_row_index(),
            floor_share=floor_share,
        )
    )


def test_the_calm_value_is_the_value_with_less_noise() -> None:
    results = [paper_run(seed) for seed in range(1, 13)]
    plain, calm = (np.array([getattr(r, field) for r in results]) for field in ("value", "calm_value"))
    assert calm.std() < 0.8 * plain.std()
    assert abs(plain.mean() - calm.mean()) < 3 * plain.std() / len(results) ** 0.5


def test_a_served_share_is_that_of_the_requests_offered() -> None:
    served = np.mean([paper_run(seed).served for seed in range(1, 7)], axis=0)
    planned = solved(PAPER_8B, 1).classes
    assert served == pytest.approx([entry.admitted_rate / entry.arrival_rate for entry in planned], abs=0.05)


@pytest.mark.parametrize("classes", [2, 8])
@pytest.mark.parametrize("slots", TWO_ROW_SLOTS)
def test_an_instance_with_two_rows_fills_both(slots: int, classes: int) -> None:
    instance = two_row_instance(slots)(1, classes)
    plan = solved(instance, 1)
    assert sum(entry.prefill for entry in plan.classes) == pytest.approx(1.0)
    assert sum(entry.decode_mixed for entry in plan.classes) == pytest.approx(slots - 1)
    assert any(entry.rationed for entry in plan.classes)


@pytest.mark.parametrize("number", range(5))
def test_guaranteed_instances_can_keep_their_floors(number: int) -> None:
    plan = solved(guaranteed_instance(number, 4), 1, floor_share=FLOOR_SHARE)
    shares = [entry.admitted_rate / entry.arrival_rate for entry in plan.classes]
    assert min(shares) >= FLOOR_SHARE - 1e-9


@pytest.mark.parametrize(
    ("earned", "verdict"),
    [
        pytest.param((1.0, 1.0), Verdict.REPRODUCED, id="every goal is reached"),
        pytest.param((0.90, 0.90), Verdict.NOT_REPRODUCED, id="every instance is below every goal"),
        pytest.param((0.97, 1.0), Verdict.CANNOT_TELL, id="two instances on both sides of the goals"),
    ],
)
def test_goals_are_judged_by_their_intervals(earned: tuple[float, float], verdict: Verdict) -> None:
    """A runner that knows what instances earn: odd and even seeds tell the two apart."""

    def run(trials: Sequence[Trial]) -> list[TrialResult]:
        plain = run_here(trials[:1])[0]
        return [
            replace(plain, trial=trial, calm_value=plain.bound * earned[(trial.seed // 1000) % 2], served=(1.0, 1.0))
            for trial in trials
        ]

    claims = {claim.name: claim for claim in orders_in_the_network(run, SMALL)}
    assert claims["TI-WSP-mean"].verdict is verdict
    assert claims["TG-WSP-two-rows"].verdict is verdict
    assert claims["TI-WSP-worst"].verdict is (
        Verdict.REPRODUCED if min(earned) >= GOALS[20][1] else Verdict.NOT_REPRODUCED
    )


def test_a_class_below_its_floor_is_seen() -> None:
    def run(trials: Sequence[Trial]) -> list[TrialResult]:
        plain = run_here(trials[:1])[0]
        return [replace(plain, trial=t, calm_value=plain.bound, served=(1.0, 0.9 * FLOOR_SHARE)) for t in trials]

    claims = {claim.name: claim for claim in orders_in_the_network(run, SMALL)}
    assert claims["TI-WSP-floors"].verdict is Verdict.NOT_REPRODUCED
    assert claims["TI-WSP-mean"].verdict is Verdict.REPRODUCED
