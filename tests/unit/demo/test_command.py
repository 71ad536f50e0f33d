"""What the options of ``sluice demo`` choose."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sluice.cli.app import application
from sluice.demo import show
from sluice.demo.processes import DemoError
from sluice.demo.scene import SCENE, Control
from sluice.demo.show import DemoSettings
from sluice.model.fleet import LimitKind


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[DemoSettings]:
    """The settings that the demo would have been run with."""
    kept: list[DemoSettings] = []

    def run(settings: DemoSettings) -> int:
        kept.append(settings)
        return 0

    monkeypatch.setattr(show, "run", run)
    return kept


def command(*options: str) -> int:
    return CliRunner().invoke(application, ["demo", *options]).exit_code


def test_without_options_every_control_plays_every_act_with_the_products_defaults(asked: list[DemoSettings]) -> None:
    assert command() == 0
    (settings,) = asked
    assert settings.controls == (Control.NONE, Control.LIMITS, Control.GATE)
    assert settings.scene == SCENE
    assert not settings.prints_json


def test_options_choose_controls_acts_length_limit_and_placement(asked: list[DemoSettings]) -> None:
    chosen = ["--control", "gate", "--control", "none", "--act", "burst", "--act", "calm", "--seconds", "32"]
    assert command(*chosen, "--limit", "InFlight", "--no-placement", "--seed", "7", "--output", "json") == 0
    (settings,) = asked
    assert settings.controls == (Control.NONE, Control.GATE)
    assert [(act.name, act.seconds) for act in settings.scene.acts] == [("calm", 8.0), ("burst", 6.0)]
    assert settings.scene.limit is LimitKind.IN_FLIGHT
    assert not settings.scene.placement
    assert settings.seed == 7
    assert settings.prints_json


def test_a_quick_look_takes_a_third_of_the_time(asked: list[DemoSettings]) -> None:
    assert command("--quick") == 0
    assert asked[0].scene.seconds == pytest.approx(SCENE.seconds / 3.0, rel=0.1)


@pytest.mark.parametrize(
    "options",
    [
        ["--quick", "--seconds", "30"],
        ["--control", "both"],
        ["--act", "storm"],
        ["--seconds", "1"],
        ["--limit", "None"],
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(asked: list[DemoSettings], options: list[str]) -> None:
    assert command(*options) == 2
    assert not asked


def test_the_longest_run_has_enough_real_requests(asked: list[DemoSettings]) -> None:
    assert command("--seconds", "120") == 0
    assert len(asked[0].scene.arrivals(unit_rate=12.0, seed=1)) > 2000


def test_a_folder_that_is_not_the_demos_own_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "demo" / "precious"
    precious.mkdir(parents=True)
    with pytest.raises(DemoError, match="not from an earlier demo"):
        show.make_room(tmp_path / "demo")
    assert precious.exists()
