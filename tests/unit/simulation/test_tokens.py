"""Conclusions at token level: an advantage survives where at least half of the network's is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from sluice.simulation.catalogue import NETWORK
from sluice.simulation.claims import Verdict
from sluice.simulation.experiments import QUICK
from sluice.simulation.instances import PAPER_8B
from sluice.simulation.jobs import run_here
from sluice.simulation.network import Trial
from sluice.simulation.tokens import LENGTHS, LOADS, REGIMES, TokenTrial, conclusions_at_token_level

SHORT = Trial(
    instance=PAPER_8B,
    replicas=4,
    regime=NETWORK["XI-WSP"],
    horizon_seconds=30.0,
    warmup_seconds=10.0,
    seed=1,
)
IN_NETWORK = {"FI-WSP": 0.90, "XI-WSP": 0.98, "GI-WSP": 0.94}


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [
        pytest.param(1.0, Verdict.REPRODUCED, id="all of it"),
        pytest.param(0.25, Verdict.NOT_REPRODUCED, id="a quarter of it"),
    ],
)
def test_what_is_kept_of_the_networks_advantage_decides(kept: float, verdict: Verdict) -> None:
    plain = run_here([SHORT])[0]
    asked: list[TokenTrial] = []

    def earned(job: Any) -> Any:
        if isinstance(job, Trial):
            return replace(plain, trial=job, value=plain.bound * IN_NETWORK[job.regime.name])
        asked.append(job)
        order = {"index": "XI-WSP", "gate": "GI-WSP"}.get(job.regime.name.partition(",")[0], "FI-WSP")
        return 300.0 * (1.0 + kept * (IN_NETWORK[order] - IN_NETWORK["FI-WSP"]))

    def run(jobs: Sequence[Any]) -> list[Any]:
        return [earned(job) for job in jobs]

    claims = conclusions_at_token_level(run, replace(QUICK, token_seeds=2, seeds=1))
    assert {claim.verdict for claim in claims} == {verdict}
    assert len(asked) == 2 * len(LOADS) * len(LENGTHS) * len(REGIMES)
    assert len(claims[0].tables[0].rows) == len(asked) // 2
