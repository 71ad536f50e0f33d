"""What the command line says to a wrong word: which option or file, and what would be right. Never a traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sluice.cli import extras
from sluice.cli.app import application

SAMPLES = Path(__file__).resolve().parents[3] / "crds" / "samples"
FLEET, TWO = str(SAMPLES / "fleet"), str(SAMPLES / "two-class")
RUNNER = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["plan", "-f", "nowhere"], ["nowhere", "cannot be read"], id="a file that is not there"),
        pytest.param(
            ["plan", "-f", f"{FLEET}/classes.yaml"],
            ["4 objects", "classes.yaml", "InferenceFleet"],
            id="classes without their fleet",
        ),
        pytest.param(
            ["plan", "-f", FLEET, "--fleet", "lama"], ["lama", "llama-8b"], id="a fleet by a name that none bears"
        ),
        pytest.param(
            ["plan", "-f", FLEET, "--replicas", "a10=+2"], ["a10", "a100, h100"], id="a pool that the fleet lacks"
        ),
        pytest.param(
            ["plan", "-f", FLEET, "--demand", "chatt=x2"], ["chatt", "batch, chat"], id="a class that the fleet lacks"
        ),
        pytest.param(["plan", "-f", FLEET, "--sweep", "sli=ttft:chat:2..1"], ["--sweep", "backwards"], id="a range"),
        pytest.param(["plan", "-f", FLEET, "--diff", "nowhere"], ["--diff nowhere"], id="a plan that is not there"),
        pytest.param(["plan", "-f", FLEET, "--png", "curve.png"], ["--png", "--sweep"], id="a curve of nothing"),
        pytest.param(
            ["simulate", "-f", TWO, "--trace", "chat=nowhere.csv"],
            ["--trace chat=nowhere.csv", "cannot be read"],
            id="a trace that is not there",
        ),
        pytest.param(["simulate", "-f", TWO, "--policy", "best"], ["best", "timely"], id="a policy that is none"),
        pytest.param(["simulate", "-f", TWO, "--replicas", "a=b"], ["--replicas a=b", "POOL=NUMBER"], id="no number"),
        pytest.param(["reproduce", "--traces", "nowhere"], ["--traces", "nowhere"], id="traces, before the long work"),
        pytest.param(["run", "--standalone", FLEET], ["--out"], id="standalone without a place to write"),
        pytest.param(
            ["gate", "--manifests", FLEET, "--listen", "nonsense"], ["--listen", "127.0.0.1:9002"], id="no address"
        ),
        pytest.param(["gate"], ["--fleet"], id="a gate for no fleet"),
        pytest.param(
            ["profile", "engine", "--url", "http://127.0.0.1:9", "--accelerator", "X"],
            ["http://127.0.0.1:9", "does not answer"],
            id="an engine that is not there",
        ),
    ],
)
def test_a_wrong_word_is_named_with_what_would_be_right(arguments: list[str], told: list[str]) -> None:
    result = RUNNER.invoke(application, arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code != 0
    assert [word for word in told if word not in result.output] == [], result.output
    assert "lama-8b  plan" not in result.stdout, "nothing is printed that a later complaint takes back"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["plan", "-f", FLEET, "--sweep", "demand=chat:1..2", "--png", "c.png"], "simulation", id="plan"),
        pytest.param(["simulate", "-f", TWO, "--png", "figures"], "simulation", id="simulate"),
        pytest.param(["reproduce"], "simulation", id="reproduce"),
        pytest.param(["profile", "kernel", "--tiny"], "profiling", id="profile kernel"),
        pytest.param(["profile", "engine", "--url", "http://x", "--accelerator", "X"], "simulation", id="engine"),
    ],
)
def test_an_extra_that_is_missing_is_told_before_any_work(
    arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    result = RUNNER.invoke(application, arguments)
    assert result.exit_code == 1
    assert f"pip install 'sluice[{told}]'" in result.stderr
    assert (result.stdout, list(tmp_path.iterdir())) == ("", [])


def test_it_says_which_version_it_is() -> None:
    assert RUNNER.invoke(application, ["--version"]).stdout.startswith("sluice 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["gate", "--manifests", FLEET, "--http-port", "0", "--listen"], id="gate"),
        pytest.param(["run", "--standalone", TWO, "--out", "out", "--http-port"], id="standalone"),
    ],
)
def test_a_port_that_is_taken_is_told(arguments: list[str], tmp_path: Path) -> None:
    """In a process of its own: both commands set up logging and the environment for theirs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        address = f"127.0.0.1:{port}" if arguments[0] == "gate" else port
        command = [sys.executable, "-m", "sluice", *arguments, address]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert port in done.stderr
    assert "Traceback" not in done.stderr
