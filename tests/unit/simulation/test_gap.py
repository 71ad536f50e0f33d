"""The operator beside its ideal: what the claim says follows from the intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sluice.simulation.claims import Table, Verdict
from sluice.simulation.comparison import with_ideals
from sluice.simulation.gap import JUDGED_SEEDS, LOADS, MEANS, SeedRun, _claim, _joined, _kept, gap_to_the_ideal
from sluice.simulation.gate_panel import TRAFFIC
from sluice.simulation.measure import Interval

TABLE = Table(title="t", columns=("c",), rows=())


@pytest.mark.parametrize(
    ("shares", "verdict", "told"),
    [
        pytest.param([(0.98, 0.01), (0.99, 0.02)], Verdict.REPRODUCED, "nearest", id="all surely above"),
        pytest.param([(0.98, 0.04), (0.99, 0.02)], Verdict.CANNOT_TELL, "unclear: cell 0", id="one on both sides"),
        pytest.param([(0.98, 0.04), (0.9, 0.02)], Verdict.NOT_REPRODUCED, "below: cell 1", id="one surely below"),
    ],
)
def test_one_share_surely_below_decides(shares: list[tuple[float, float]], verdict: Verdict, told: str) -> None:
    claim = _claim([(f"cell {k}", Interval(*share), 0.95) for k, share in enumerate(shares)], 8, TABLE)
    assert claim.verdict is verdict
    assert told in claim.evidence


def test_shares_are_paired_by_seed() -> None:
    runs = {
        "sluice-both": (np.array([9.0, 18.0]), np.array([8.0, 16.0])),
        "sluice-both-ideal": (np.array([10.0, 20.0]), np.array([10.0, 20.0])),
        "sluice-rate": (np.array([1.0]), np.array([1.0])),
    }
    joined = _joined(runs, {name: runs[name] for name in ("sluice-both", "sluice-both-ideal")})
    assert _kept(joined, "both", 0) == pytest.approx([0.9] * 4)
    assert _kept(joined, "both", 1) == pytest.approx([0.8] * 4)
    assert _joined(runs, {}) is runs


@pytest.mark.parametrize(("share", "verdict"), [(0.99, Verdict.REPRODUCED), (0.9, Verdict.NOT_REPRODUCED)])
def test_every_cell_is_asked_for_by_enough_seeds_and_told(share: float, verdict: Verdict) -> None:
    """A runner that knows what everybody earns: the operator so much of its ideal."""
    asked: list[SeedRun] = []

    def run(jobs: Sequence[Any]) -> list[Any]:
        asked.extend(jobs)
        return [
            {name: (90.0, 80.0) if name.endswith("-ideal") else (90.0 * share, 80.0 * share) for name in ideals}
            for ideals in (with_ideals(job.names) for job in jobs)
        ]

    (claim,) = gap_to_the_ideal(2, 60.0, run)
    assert claim.verdict is verdict
    assert len(claim.tables[0].rows) == len(TRAFFIC) * len(LOADS) * len(MEANS)
    seeds = {job.seed for job in asked if (job.traffic, job.load) == ("answers", 1.5)}
    assert len(seeds) == JUDGED_SEEDS
    assert sum(len(job.names) > 1 for job in asked) == 2 * len(TRAFFIC) * len(LOADS)
