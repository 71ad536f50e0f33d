"""Bytes per token, class by class, from counts that know no classes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.gate.calibration import ENOUGH_TOKENS, LEAST, MOST, Calibration


def corrected(truth: dict[str, float], shares: list[dict[str, float]], rounds: int) -> Calibration:
    """What is learnt where a class's prompts really have ``truth`` times the tokens first estimated."""
    calibration = Calibration()
    for number in range(rounds):
        plain = {name: share * ENOUGH_TOKENS * 1.1 for name, share in shares[number % len(shares)].items()}
        estimated = {name: tokens * calibration.factor(name) for name, tokens in plain.items()}
        calibration.add(estimated, sum(tokens * truth[name] for name, tokens in plain.items()))
    return calibration


def test_classes_are_told_apart_where_their_mix_changes() -> None:
    truth = {"chat": 1.0, "code": 1.8}
    mixes = [{"chat": 0.8, "code": 0.2}, {"chat": 0.3, "code": 0.7}]
    learnt = corrected(truth, mixes, 400)
    assert {name: learnt.factor(name) for name in truth} == pytest.approx(truth, rel=0.03)


def test_where_the_mix_never_changes_the_sum_is_right() -> None:
    truth, mix = {"chat": 1.0, "code": 1.8}, {"chat": 0.6, "code": 0.4}
    learnt = corrected(truth, [mix], 200)
    total = sum(share * learnt.factor(name) for name, share in mix.items())
    assert total == pytest.approx(0.6 * 1.0 + 0.4 * 1.8, rel=0.01)


def test_a_class_without_traffic_keeps_its_factor() -> None:
    learnt = corrected({"chat": 0.5, "code": 1.0}, [{"chat": 1.0}], 50)
    assert learnt.factor("chat") == pytest.approx(0.5, rel=0.01)
    assert learnt.factor("code") == 1.0


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6))
def test_whatever_engines_count_factors_stay_within_bounds(seed: int) -> None:
    draw, calibration = random.Random(seed), Calibration()
    for _ in range(200):
        calibration.add({draw.choice("ab"): draw.uniform(0, 1e5)}, draw.uniform(0, 1e6))
    assert all(LEAST <= factor <= MOST for factor in calibration.factors.values())
