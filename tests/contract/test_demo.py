"""The whole demo, some seconds of it: real Envoy, real Prometheus, the operator and the gate themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.demo import programs
from sluice.demo.scene import SCENE, Control
from sluice.demo.show import DOCUMENT, PICTURE, DemoSettings, perform
from sluice.gate.decision_log import lines_about


@pytest.fixture(scope="module")
def prometheus() -> Path:
    try:
        return programs.prometheus()
    except programs.ProgramMissingError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("prometheus")
@pytest.mark.timeout(240)
async def test_the_same_load_under_each_control_ends_with_figures_a_document_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = replace(SCENE, replicas=1).lasting(6.0)
    outcome = await perform(DemoSettings(scene=scene, drain_seconds=1.0, out=tmp_path, live=False))
    assert [run.control for run in outcome.runs] == list(Control)
    numbers = {run.control: {name: entry.sent for name, entry in run.totals().items()} for run in outcome.runs}
    assert numbers[Control.NONE] == numbers[Control.LIMITS] == numbers[Control.GATE]
    for run in outcome.runs:
        assert all(entry.done > 0 and entry.failed == 0 for entry in run.totals().values()), run.control
    none, limits, gate = outcome.runs
    assert not any(moment.reading.plan for moment in none.moments)
    assert all(any(moment.reading.plan for moment in run.moments) for run in (limits, gate))
    assert gate.gate is not None
    assert gate.gate.reading.freed["FirstChunk"] > 0, "requests passed the gate"
    assert sum(gate.gate.reading.bypassed.values()) == 0
    assert gate.gate.obeyed_seconds
    held = max(gate.records.values(), key=lambda record: record.waited_seconds)
    assert held.request_id is not None
    assert list(lines_about(tmp_path / "demo" / "gate" / "decisions", held.request_id))
    assert (tmp_path / PICTURE).read_bytes().startswith(b"\x89PNG")
    document = json.loads((tmp_path / DOCUMENT).read_text())
    assert set(document["controls"]) == {"none", "limits", "gate"}
    assert set(document["controls"]["gate"]["acts"]) == {"calm", "ramp", "burst", "back"}
    said = capsys.readouterr().out
    assert "Replicas are simulated" in said
    assert f"sluice explain {held.request_id}" in said
    assert not (tmp_path / "demo" / "none" / "prometheus").exists(), "nothing of no further use is left"
