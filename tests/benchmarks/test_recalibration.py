"""Prints how fast the law is followed and what that is worth."""

from __future__ import annotations

import pytest
from tests.unit.learning.regret import regret
from tests.unit.learning.test_recalibration import CHANGE, CHAT, LAW, LONG, POINT, SHORT, followed, scaled

from sluice.learning.recalibration import drift


@pytest.mark.benchmark
def test_recalibration_after_a_change_by_thirty_percent(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["load                     change  observed after 1, 3, 5, 10, 20 periods   regret before  after 10"]
    for name, load in (("chat", CHAT), ("long prompts", LONG), ("short prompts", SHORT)):
        for factor in (1.3, 1 / 1.3):
            states = followed(load, factor)
            seen = "  ".join(f"{drift(states[CHANGE + period - 1], POINT):+.3f}" for period in (1, 3, 5, 10, 20))
            true = scaled(LAW, factor)
            before, after = regret(LAW, true), regret(states[CHANGE + 9].law, true)
            lines.append(f"{name:24} {factor - 1:+.3f}  {seen}   {before:.1%}          {after:.1%}")
    with capsys.disabled():
        print("\n" + "\n".join(lines))  # noqa: T201 -- a benchmark prints
