"""The demo's whole closed loop, some seconds of it: real Envoy, real Prometheus, the operator itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sluice.demo import programs
from sluice.demo.scene import SCENE
from sluice.demo.show import PICTURE, DemoSettings, perform


@pytest.fixture(scope="module")
def prometheus() -> Path:
    try:
        return programs.prometheus()
    except programs.ProgramMissingError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("prometheus")
async def test_two_short_runs_end_with_a_plan_measured_figures_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = DemoSettings(seconds=5.0, drain_seconds=0.5, out=tmp_path, live=False, scene=replace(SCENE, replicas=1))
    outcome = await perform(settings)
    for act in (outcome.without, outcome.with_sluice):
        assert all(totals.done > 0 and totals.failed == 0 for totals in act.totals.values()), act.title
    assert [t.sent for t in outcome.without.totals.values()] == [t.sent for t in outcome.with_sluice.totals.values()]
    assert not any(moment.reading.plan for moment in outcome.without.moments)
    assert outcome.predicted_value is not None
    assert outcome.effective_share > 0.0
    assert (tmp_path / PICTURE).read_bytes().startswith(b"\x89PNG")
    assert "Replicas are simulated" in capsys.readouterr().out
