"""Following the law gives back most of what a wrong one costs."""

from __future__ import annotations

import pytest
from tests.unit.learning.regret import regret
from tests.unit.learning.test_recalibration import CHANGE, CHAT, LAW, followed, scaled


@pytest.mark.parametrize("factor", [pytest.param(1.3, id="30 % slower"), pytest.param(1 / 1.3, id="30 % faster")])
def test_the_regret_of_a_changed_law_is_mostly_gone_after_ten_periods(factor: float) -> None:
    true = scaled(LAW, factor)
    before = regret(LAW, true)
    after = regret(followed(CHAT, factor)[CHANGE + 9].law, true)
    assert before > 0.08
    assert after < before / 4


def test_the_true_law_leaves_nothing_to_regret() -> None:
    assert regret(LAW, LAW) == pytest.approx(0.0, abs=1e-6)
