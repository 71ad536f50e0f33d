"""Little's law checks output lengths: what is in flight over what is admitted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.model.residence import (
    implied_output_tokens,
    length_disagreement,
    output_tokens_by_exposure,
    residence_seconds,
)

POSITIVE = st.floats(0.01, 1e3)


@given(rate=POSITIVE, ttft=POSITIVE, tpot=POSITIVE, tokens=st.floats(1, 1e4))
def test_in_a_steady_state_the_implied_length_is_the_true_one(
    rate: float, ttft: float, tpot: float, tokens: float
) -> None:
    in_flight = rate * (ttft + tpot * (tokens - 1))
    assert implied_output_tokens(in_flight, rate, ttft, tpot) == pytest.approx(tokens, rel=1e-6, abs=1e-3)
    assert length_disagreement(in_flight, rate, ttft, tpot, tokens) == pytest.approx(0, abs=1e-9)


@given(rate=POSITIVE, ttft=POSITIVE, tpot=POSITIVE, tokens=st.floats(1.1, 1e4), share=st.floats(0.05, 1))
def test_decoding_time_over_completions_is_the_length_while_a_fleet_fills_up(
    rate: float, ttft: float, tpot: float, tokens: float, share: float
) -> None:
    # Exponential lengths complete in proportion to the time spent decoding, however little that is yet.
    decoding = share * rate * tpot * (tokens - 1)
    found = output_tokens_by_exposure(rate * ttft + decoding, rate, share * rate, ttft, tpot)
    assert found == pytest.approx(tokens, rel=1e-3)
    assert output_tokens_by_exposure(5.0, rate, 0.0, ttft, tpot) is None


@pytest.mark.parametrize(
    ("in_flight", "completed_tokens", "sign"),
    [
        pytest.param(40.0, 100.0, 1, id="short answers complete first, so more is in flight than they explain"),
        pytest.param(10.0, 400.0, -1, id="after a tightening the long ones are left over"),
    ],
)
def test_a_biased_mean_shows_with_its_sign(in_flight: float, completed_tokens: float, sign: int) -> None:
    disagreement = length_disagreement(in_flight, 2.0, 0.5, 0.05, completed_tokens)
    assert disagreement is not None
    assert disagreement * sign > 0.2


def test_without_admissions_nothing_can_be_told() -> None:
    assert residence_seconds(3.0, 0.0) is None
    assert implied_output_tokens(3.0, 0.0, 0.5, 0.05) is None
    assert implied_output_tokens(3.0, 1.0, 0.5, 0.0) is None
    assert length_disagreement(3.0, 1.0, 0.0, 0.0, 1.0) is None
