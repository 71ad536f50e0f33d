"""Formulas against known values, and the engine against the formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sluice.simulation.catalogue import NETWORK
from sluice.simulation.checks import abandonment_checks, delay_check
from sluice.simulation.closed_forms import erlang_a, erlang_c_wait, first_come_share, fluid_wait
from sluice.simulation.instances import PAPER_8B
from sluice.simulation.network import Trial, run_trial


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


@pytest.mark.parametrize(
    ("rates", "share"),
    [
        pytest.param((0.25, 0.25), 1.0, id="below load 1 everybody is served"),
        pytest.param((0.5, 0.5), 292.144 / 297.716, id="305 offered at 1.0440 times the token row"),
        pytest.param((1.0, 1.0), 292.144 / 429.94, id="twice the arrivals: all of class 1, the rest of class 0"),
    ],
)
def test_first_come_earns_what_the_fluid_says(rates: tuple[float, float], share: float) -> None:
    """The formula by hand: offered value, scaled to the token row, over the knapsack's; and a run beside it."""
    classes = tuple(replace(c, rate=rate) for c, rate in zip(PAPER_8B.classes, rates, strict=True))
    instance = replace(PAPER_8B, classes=classes)
    assert first_come_share(instance) == pytest.approx(share, abs=2e-4)
    found = run_trial(
        Trial(
            instance=instance,
            replicas=50,
            regime=NETWORK["FI-WSP"],
            horizon_seconds=900.0,
            warmup_seconds=300.0,
            seed=1,
        )
    )
    assert found.calm_share == pytest.approx(share, abs=0.01)
