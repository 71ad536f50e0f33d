"""``sluice reproduce`` as a user types it: what it costs, what it says, and what is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sluice.cli.app import application
from sluice.cli.reproduce_costs import COSTS, Remaining, told
from sluice.simulation.experiments import QUICK
from sluice.simulation.jobs import run_here
from sluice.simulation.reproduction import steps


def test_every_step_has_a_cost_and_the_long_ones_are_told() -> None:
    assert [name for name, _ in steps(run_here, QUICK)] == list(COSTS)
    assert "convergence" in told()
    assert "prices of promises" not in told()


def test_a_step_is_run_judged_and_written_down(tmp_path: Path) -> None:
    result = CliRunner().invoke(application, ["reproduce", "--only", "linear", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.stderr
    assert "T1  reproduced" in result.stdout
    assert "... the linear programs:" in result.stderr
    assert [claim["name"] for claim in json.loads((tmp_path / "claims.json").read_text())] == ["T1"]


def test_an_unknown_step_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(application, ["reproduce", "--only", "magic", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "no step is called 'magic'" in result.stderr


@pytest.mark.parametrize(
    ("jobs", "shown"),
    [
        pytest.param([(4.0, False)], (10.0, 10.0), id="less than was thought"),
        pytest.param([(4.0, False), (9.0, False)], (10.0, 10.0), id="more than was thought"),
        pytest.param([(4.0, True), (4.0, False)], (6.0, 6.0), id="what was known is not to be done"),
        pytest.param([(9.0, True), (9.0, True)], (0.0, 0.0), id="all was known"),
        pytest.param([], (10.0, 10.0), id="no jobs"),
    ],
)
def test_what_is_left_ends_at_nothing(jobs: list[tuple[float, bool]], shown: tuple[float, float]) -> None:
    told: list[tuple[float, float]] = []
    left = Remaining(10.0, lambda done, total: told.append((done, total)))
    left.begin(10.0)
    for cost, known in jobs:
        left.job(cost, known)
        assert told[-1][0] <= told[-1][1]
    left.end()
    assert told[-1] == shown
