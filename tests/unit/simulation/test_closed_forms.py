"""Formulas against known values, and the engine against the formulas."""

from __future__ import annotations

import math

import pytest

from sluice.simulation.checks import abandonment_checks, delay_check
from sluice.simulation.closed_forms import erlang_a, erlang_c_wait, fluid_wait


def test_one_server_waits_as_m_m_1_does() -> None:
    assert erlang_c_wait(0.5, 1.0, 1) == pytest.approx(1.0)


def test_two_servers_at_three_quarters() -> None:
    # C(2, 1.5) = 0.642857; wait = C / (2 - 1.5)
    assert erlang_c_wait(1.5, 1.0, 2) == pytest.approx(0.642857 / 0.5, rel=1e-6)


def test_a_load_of_one_has_no_steady_state() -> None:
    with pytest.raises(ValueError, match="more than 2 servers"):
        erlang_c_wait(2.0, 1.0, 2)


def test_patience_equal_to_service_makes_everyone_a_server() -> None:
    # theta = mu: the number in system is Poisson(lambda/mu), so P(leaves) follows from it.
    exact = erlang_a(3.0, 1.0, 2, 1.0)
    queue = sum((k - 2) * math.exp(-3) * 3**k / math.factorial(k) for k in range(3, 60))
    assert exact.mean_queue == pytest.approx(queue)


def test_fluid_wait_inverts_exponential_patience() -> None:
    assert fluid_wait(1.0, math.exp(-0.3), 0.1) == pytest.approx(3.0)


def test_the_engine_agrees_with_m_m_c_and_with_abandonment() -> None:
    for check in (delay_check(horizon=6000.0), *abandonment_checks(horizon=3000.0)):
        assert check.agrees, check
