"""The panel of gates: its loads, and what its verdict rests on."""

from __future__ import annotations

import numpy as np
import pytest

from sluice.simulation.gate_panel import TRAFFIC, Cell, Standing, largest_served, scenario_of, standing_of


@pytest.mark.parametrize("traffic", TRAFFIC)
def test_at_load_one_the_plan_just_serves_all(traffic: str) -> None:
    factor = largest_served(TRAFFIC[traffic])
    world = scenario_of(traffic, 1.0, 1, 50.0)
    assert sum(entry.prior_rate for entry in world.classes) == pytest.approx(
        factor * sum(entry.prior_rate for entry in TRAFFIC[traffic])
    )
    assert len(world.workload) == pytest.approx(50.0 * sum(entry.prior_rate for entry in world.classes), rel=0.3)


def cell(good: list[float], value: list[float]) -> Cell:
    """The best gate earns 100 under every seed; the other what is given."""
    best = np.full(len(good), 100.0)
    return Cell(
        traffic="prompts",
        load=1.0,
        bound=100.0,
        value={"best": best, "other": np.array(value)},
        good={"best": best, "other": np.array(good)},
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(cell([99.8, 99.7, 99.8], [98.0, 98.1, 98.0]), Standing.MEETS, id="surely near in both"),
        pytest.param(cell([98.0, 98.1, 98.0], [98.0, 98.1, 98.0]), Standing.MISSES, id="good value surely short"),
        pytest.param(cell([99.8, 99.7, 99.8], [90.0, 90.1, 90.0]), Standing.MISSES, id="value surely short"),
        pytest.param(cell([99.9, 98.0, 99.9], [99.0, 99.0, 99.0]), Standing.UNCLEAR, id="noise hides it"),
    ],
)
def test_a_gate_meets_the_bar_only_where_the_whole_interval_does(found: Cell, expected: Standing) -> None:
    assert standing_of(found, "other", ("best", "other")) is expected
