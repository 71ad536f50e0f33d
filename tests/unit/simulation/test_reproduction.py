"""What ``sluice reproduce`` says: verdicts that follow from the numbers, and figures of every claim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sluice.simulation.claims import Chart, Line, Verdict
from sluice.simulation.experiments import FULL, QUICK
from sluice.simulation.figures import apart, distinct, draw
from sluice.simulation.published import BASE, PANEL, PANEL_REGIMES, base_agreement, panel_agreement
from sluice.simulation.sensitivity import promises_and_sensitivity


@pytest.mark.parametrize(
    ("off", "verdict"),
    [
        pytest.param(0.0, Verdict.REPRODUCED, id="the same values"),
        pytest.param(1.0, Verdict.REPRODUCED, id="a point off, within noise"),
        pytest.param(12.0, Verdict.NOT_REPRODUCED, id="four percent off"),
    ],
)
def test_values_agree_within_the_noise_of_both(off: float, verdict: Verdict) -> None:
    values = {key: (low + high) / 2 + off + np.array([-1.0, 0.0, 1.0]) for key, (low, high, _) in BASE.items()}
    claim = base_agreement(values, {n: 600.0 for _, n in BASE})
    assert claim.verdict is verdict
    assert len(claim.tables[0].rows) == len(BASE)


def test_what_was_not_run_is_left_out_and_nothing_run_is_undecided() -> None:
    claim = base_agreement({("GG-SP", 500): np.array([290.0, 290.5, 291.0])}, {500: 600.0})
    assert [row[:2] for row in claim.tables[0].rows] == [("GG-SP", "500")]
    assert base_agreement({}, {}).verdict is Verdict.CANNOT_TELL


@pytest.mark.parametrize(("off", "verdict"), [(0.0, Verdict.REPRODUCED), (0.2, Verdict.NOT_REPRODUCED)])
def test_panels_agree_within_the_noise_of_both(off: float, verdict: Verdict) -> None:
    shares = {
        key: {
            name: mean - off + np.array([-0.01, 0.0, 0.01]) for name, (mean, _) in zip(PANEL_REGIMES, row, strict=True)
        }
        for key, row in PANEL.items()
    }
    assert panel_agreement(shares).verdict is verdict


def test_the_programs_have_the_shapes_that_the_paper_tells() -> None:
    verdicts = {claim.name: claim.verdict for claim in promises_and_sensitivity()}
    assert set(verdicts.values()) == {Verdict.REPRODUCED}
    assert {"Fig8-decode", "Fig8-TPOT", "sens-beta", "sens-gamma", "sens-prices"} <= set(verdicts)


def test_the_full_scale_holds_every_published_cell_and_the_quick_one_its_first() -> None:
    assert {n for _, n in BASE} <= set(FULL.sizes)
    assert set(PANEL) <= {(classes, n) for classes in FULL.panel_classes for n in FULL.panel_sizes}
    assert set(QUICK.sizes) == {5, 20, 50, 200, 500}


@pytest.mark.parametrize("points", [3, 200])
def test_a_logarithmic_axis_is_marked_where_few_points_are(points: int, tmp_path: Path) -> None:
    axis = tuple(float(k) for k in range(1, points + 1))
    lines = tuple(Line(label=name, x=axis, y=axis) for name in ("a", "b"))
    chart = Chart(name="c", title="t", x_label="x", y_label="y", lines=lines, logarithmic_x=True)
    assert draw(chart, tmp_path).read_bytes().startswith(b"\x89PNG")


def test_lines_that_coincide_are_one_with_both_names() -> None:
    one, two = (Line(label=name, x=(1.0, 2.0), y=(3.0, 4.0)) for name in ("a", "b"))
    other = Line(label="c", x=(1.0, 2.0), y=(3.0, 5.0))
    assert [line.label for line in distinct((one, other, two))] == ["a = b", "c"]


@pytest.mark.parametrize("logarithmic", [True, False])
def test_error_bars_stand_apart_and_lines_without_stay(logarithmic: bool) -> None:
    axis = (5.0, 50.0, 500.0)
    bars = [Line(label=name, x=axis, y=axis, error=axis) for name in "abc"]
    moved = apart(bars, logarithmic=logarithmic)
    assert len({line.x[1] for line in moved}) == 3
    assert moved[1].x == pytest.approx(axis)
    bare = [replace(line, error=()) for line in bars]
    assert apart(bare, logarithmic=logarithmic) == bare
