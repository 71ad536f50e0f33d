"""The panel of gates: its loads, and what its verdict rests on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sluice.simulation.gate_cells import CELLS, TRAFFIC, Cell, largest_served, world_of
from sluice.simulation.gate_panel import (
    FIRST_JUDGED,
    GATES,
    Outcome,
    Standing,
    gates_on_fresh_traffic,
    outcome_of,
    scenario_of,
    standing_of,
)


@pytest.mark.parametrize("traffic", ["prompts", "answers"])
def test_at_load_one_the_plan_just_serves_all(traffic: str) -> None:
    factor = largest_served(traffic)
    world = scenario_of(traffic, 1.0, 1, 50.0)
    assert sum(entry.prior_rate for entry in world.classes) == pytest.approx(
        factor * sum(entry.prior_rate for entry in TRAFFIC[traffic])
    )
    assert len(world.workload) == pytest.approx(50.0 * sum(entry.prior_rate for entry in world.classes), rel=0.3)


def test_cells_have_names_of_their_own() -> None:
    assert len({cell.name for cell in CELLS}) == len(CELLS)


def test_a_wrong_gate_is_told_other_numbers_than_a_right_one() -> None:
    right, wrong = (world_of(Cell(traffic="prompts", load=1.0, horizon_seconds=60.0, error=e), 1) for e in (0.0, 0.2))
    ratios = [
        mine.mean_prompt_tokens / theirs.mean_prompt_tokens
        for mine, theirs in zip(wrong.guidance.lanes, right.guidance.lanes, strict=True)
    ]
    assert ratios == pytest.approx([0.8, 1.2, 0.8])
    assert wrong.prefill_seconds_per_token == pytest.approx(0.8 * right.prefill_seconds_per_token)


def outcome(good: list[float], value: list[float], floor: float = math.inf) -> Outcome:
    """The best gate earns 100 under every seed; the other what is given."""
    best = np.full(len(good), 100.0)
    return Outcome(
        name="prompts 1",
        bound=100.0,
        value={"best": best, "other": np.array(value)},
        good={"best": best, "other": np.array(good)},
        floor={"best": np.full(len(good), math.inf), "other": np.full(len(good), floor)},
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(outcome([99.8, 99.7, 99.8], [98.0, 98.1, 98.0]), Standing.MEETS, id="surely near in both"),
        pytest.param(outcome([98.0, 98.1, 98.0], [98.0, 98.1, 98.0]), Standing.MISSES, id="good value surely short"),
        pytest.param(outcome([99.8, 99.7, 99.8], [90.0, 90.1, 90.0]), Standing.MISSES, id="value surely short"),
        pytest.param(outcome([99.9, 98.0, 99.9], [99.0, 99.0, 99.0]), Standing.UNCLEAR, id="noise hides it"),
        pytest.param(outcome([99.9, 99.9, 99.9], [99.9, 99.9, 99.9], 0.9), Standing.MISSES, id="a floor is broken"),
        pytest.param(outcome([99.9, 99.9, 99.9], [99.9, 99.9, 99.9], 0.995), Standing.MEETS, id="a floor but noise"),
    ],
)
def test_a_gate_meets_the_bar_only_where_the_whole_interval_does(found: Outcome, expected: Standing) -> None:
    assert standing_of(found, "other") is expected


def test_a_gate_that_breaks_floors_sets_no_bar_for_the_others() -> None:
    found = outcome([200.0, 200.0, 200.0], [200.0, 200.0, 200.0], floor=0.5)
    assert standing_of(found, "best") is Standing.MEETS


def test_the_timely_order_keeps_floors_that_the_index_breaks() -> None:
    cell = Cell(traffic="floors", load=2.5, horizon_seconds=120.0)
    found = outcome_of(cell, (1, 2, 3), {name: GATES[name] for name in ("priority+late-last", "timely")})
    assert found.floor["timely"].min() > 0.8
    assert found.floor["priority+late-last"].max() < 0.5
    assert standing_of(found, "timely") is Standing.MEETS


def test_the_verdict_names_the_seeds_that_it_rests_on() -> None:
    (claim,) = gates_on_fresh_traffic(2, 30.0)
    named = f"seeds {FIRST_JUDGED} to {FIRST_JUDGED + 1}"
    assert named in claim.evidence
    assert named in claim.tables[0].note
