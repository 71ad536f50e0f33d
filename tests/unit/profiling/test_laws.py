"""Fitting: published figures are reproduced, known laws are found again, intervals hold what they promise."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from sluice.model.law import IterationLaw
from sluice_profiling import published
from sluice_profiling.choice import Verdict, choose
from sluice_profiling.laws import fit_four, fit_paper, predicted_seconds, relative_errors
from sluice_profiling.measurement import Measurement, Point
from sluice_profiling.student import quantile

TABLES = published.load()
LAW = IterationLaw(solo_seconds=0.0100, mixed_base_seconds=0.0076, per_token_seconds=60e-6, per_sequence_seconds=0.0001)
"""Knee at 40 tokens."""
FLAT = replace(LAW, per_sequence_seconds=0.0)
GRID = tuple(itertools.product((0, 16, 32, 64, 128, 256, 512, 1024), (1, 8, 32, 64)))


def measured(law: IterationLaw, noise: float = 0.0, seed: int = 0) -> list[Measurement]:
    """The law at every point of the grid, with relative noise."""
    generator = np.random.default_rng(seed)
    exact = [Measurement(point=Point(chunk, batch, 1024), seconds=1.0) for chunk, batch in GRID]
    return [
        replace(entry, seconds=predicted_seconds(law, entry) * math.exp(noise * generator.standard_normal()))
        for entry in exact
    ]


@pytest.mark.parametrize(
    ("name", "c0_ms", "c1_ms", "slope_us", "knee"),
    [
        ("Llama-3.1-8B H100 TP1 (vllm)", 6.29, 0.057, 18.0, 67),
        ("Llama-3.1-8B A100 TP1 (vllm)", 11.47, 0.117, 55.5, 32),
        ("Llama-3.1-70B H100 TP4 (vllm)", 14.98, 0.067, 57.8, 49),
        ("Llama-3.1-70B A100 TP4 (vllm)", 27.10, 0.172, 158.6, 36),
        ("Llama-2-70B A100 TP2 (vidur)", 53.17, 0.265, 348.6, 41),
    ],
)
def test_the_published_four_parameter_laws_come_out_again(
    name: str, c0_ms: float, c1_ms: float, slope_us: float, knee: float
) -> None:
    fit = fit_four(next(rows for setup, rows in TABLES.items() if str(setup) == name), robust=False)
    assert fit.law.solo_seconds * 1e3 == pytest.approx(c0_ms, abs=0.005)
    assert fit.law.per_sequence_seconds * 1e3 == pytest.approx(c1_ms, abs=0.0005)
    assert fit.law.per_token_seconds * 1e6 == pytest.approx(slope_us, abs=0.05)
    assert fit.of("knee_tokens").value == pytest.approx(knee, abs=0.5)
    assert 0.03 < fit.mean_error < 0.06


@pytest.mark.parametrize(
    ("name", "batch", "alpha_ms", "beta_us"),
    [
        ("Llama-2-70B A100 TP2 (vidur)", 16, 49.999, 347.02),
        ("Llama-2-70B A100 TP2 (vidur)", 64, 57.109, 356.37),
        ("Llama-3.1-8B H100 TP1 (vllm)", 32, 6.789, 18.224),
        ("Llama-3.1-8B H100 TP1 (vllm)", 128, 11.918, 18.812),
    ],
)
def test_the_published_laws_at_one_batch_come_out_again(name: str, batch: int, alpha_ms: float, beta_us: float) -> None:
    fit = fit_paper(next(rows for setup, rows in TABLES.items() if str(setup) == name), batch, robust=False)
    assert fit.law.mixed_base_seconds * 1e3 == pytest.approx(alpha_ms, abs=0.001)
    assert fit.law.per_token_seconds * 1e6 == pytest.approx(beta_us, abs=0.01)
    assert fit.r_squared >= 0.99


def test_a_larger_batch_is_never_taken_to_be_quicker() -> None:
    """Noise may say so; the profile's field holds no negative time, and must not differ from the fit it tells of."""
    falling = [replace(entry, seconds=entry.seconds - 20e-6 * entry.point.batch) for entry in measured(FLAT)]
    fit = fit_four(falling)
    assert fit.law.per_sequence_seconds == 0.0
    assert fit.law.per_token_seconds == pytest.approx(FLAT.per_token_seconds, rel=0.02)
    assert fit.law.solo_seconds < FLAT.solo_seconds, "the other two are fitted to the same points anew"
    assert abs(float(np.mean(relative_errors(fit.law, falling)))) < 0.01


def test_no_closed_law_is_passed_off_for_a_mixture_of_experts() -> None:
    rows = next(rows for setup, rows in TABLES.items() if "A3B" in setup.model)
    choice = choose(rows, operating_batch=64)
    assert choice.verdict is Verdict.TABLE_NEEDED
    assert choice.other is not None
    assert choice.chosen.mean_error < 0.05
    assert choice.other.mean_error > 0.15


def test_the_published_tables_are_shown_beside_the_papers_law() -> None:
    text = published.table(published.compare(setup, rows) for setup, rows in TABLES.items())
    assert "| Llama-3.1-8B H100 TP1 (vllm) | 6.29 | 0.057 | 18.0 | 67 |" in text
    assert text.count("\n") == len(TABLES) + 2


@pytest.mark.parametrize("robust", [False, True])
def test_an_exact_law_is_found_exactly(robust: bool) -> None:
    fit = fit_four(measured(LAW), robust=robust)
    assert fit.law.solo_seconds == pytest.approx(LAW.solo_seconds, rel=1e-4)
    assert fit.law.per_token_seconds == pytest.approx(LAW.per_token_seconds, rel=1e-4)
    assert fit.law.per_sequence_seconds == pytest.approx(LAW.per_sequence_seconds, rel=1e-3)
    assert fit.of("knee_tokens").value == pytest.approx(40, abs=0.1)
    assert fit.worst_error < 1e-3


def test_points_that_stand_out_hardly_move_a_robust_fit() -> None:
    rows = measured(LAW, noise=0.01)
    spoilt = [
        replace(entry, seconds=entry.seconds * 3) if index % 9 == 4 else entry for index, entry in enumerate(rows)
    ]
    point = Measurement(point=Point(512, 32, 1024), seconds=1.0)
    truth = predicted_seconds(LAW, point)
    robust, plain = (predicted_seconds(fit_four(spoilt, robust=how).law, point) / truth - 1 for how in (True, False))
    assert abs(robust) < 0.01
    assert abs(plain) > 0.02


def test_the_intervals_hold_the_truth_together_as_often_as_they_say() -> None:
    """100 experiments: 95 % together, less what chance takes (below 88 has odds under 0.5 %)."""
    truth = {"solo_seconds": 0.0100, "per_sequence_seconds": 0.0001, "per_token_seconds": 60e-6, "knee_tokens": 40.0}
    held = 0
    for seed in range(100):
        fit = fit_four(measured(LAW, noise=0.02, seed=seed), robust=False)
        held += all(fit.of(name).holds(value) for name, value in truth.items())
    assert held >= 88


def test_intervals_narrow_with_less_noise() -> None:
    wide, narrow = (fit_four(measured(LAW, noise=noise)) for noise in (0.05, 0.005))
    for parameter in wide.parameters:
        assert narrow.of(parameter.name).half_width < parameter.half_width / 3


def test_the_measurements_own_noise_is_a_floor_under_the_intervals() -> None:
    rows = [replace(entry, half_width_seconds=0.1 * entry.seconds) for entry in measured(LAW)]
    assert fit_four(rows).of("solo_seconds").half_width > 0.01 * LAW.solo_seconds


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([entry for entry in measured(LAW) if entry.point.batch == 1], id="one batch"),
        pytest.param([entry for entry in measured(LAW) if entry.point.chunk_tokens <= 16], id="two chunks"),
        pytest.param([replace(entry, seconds=0.0) for entry in measured(LAW)], id="a time of zero"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(rows: list[Measurement]) -> None:
    with pytest.raises(ValueError, match=r"needs|positive"):
        fit_four(rows)


@pytest.mark.parametrize(
    ("batches", "verdict"),
    [
        pytest.param((32,), Verdict.ONE_BATCH, id="one batch gives the paper's law"),
        pytest.param((1, 8, 32, 64), Verdict.WHOLE_GRID, id="several batches give the four-parameter law"),
    ],
)
def test_the_choice_says_what_it_rests_on(batches: tuple[int, ...], verdict: Verdict) -> None:
    choice = choose([entry for entry in measured(LAW) if entry.point.batch in batches], operating_batch=32)
    assert choice.verdict is verdict
    assert float(np.abs(relative_errors(choice.chosen.law, measured(LAW)[2:3])).max()) < 1
    assert "%" in choice.why


@pytest.mark.parametrize(
    ("degrees", "value"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042), (120, 1.980)],
)
def test_quantiles_agree_with_the_printed_table(degrees: int, value: float) -> None:
    assert quantile(0.975, degrees) == pytest.approx(value, rel=0.01)
