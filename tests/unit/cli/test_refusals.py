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
        pytest.param(
            ["plan", "-f", FLEET, "--diff", f"{FLEET}/fleet.yaml"], ["is no plan", "-o json"], id="a manifest as a plan"
        ),
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
            ["plan", "-f", FLEET, "--sweep", "demand=chat:1..2", "--png", FLEET], ["--png", "PNG"], id="no picture"
        ),
        pytest.param(
            ["simulate", "-f", FLEET, "-f", TWO], ["llama-8b, two-class", "--fleet"], id="which of two fleets"
        ),
        pytest.param(["simulate", "-f", TWO, "--fleet", "tow"], ["tow", "two-class"], id="a fleet to simulate"),
        pytest.param(["simulate", "-f", TWO, "--replicas", "b=2"], ["pool b", "a100"], id="a pool to simulate"),
        pytest.param(["simulate", "-f", TWO, "--seed", "-1"], ["--seed"], id="a seed below zero"),
        pytest.param(["simulate", "-f", TWO, "--seconds", "inf"], ["--seconds"], id="traffic without end"),
        pytest.param(["simulate", "-f", TWO, "--clusters", "3"], ["--clusters", "--trace"], id="parts of no trace"),
        pytest.param(
            ["simulate", "-f", TWO, "--class-column", "model"], ["--class-column", "--trace"], id="a column of no trace"
        ),
        pytest.param(
            ["simulate", "-f", TWO, "--png", f"{FLEET}/fleet.yaml"], ["--png", "fleet.yaml"], id="a file as a folder"
        ),
        pytest.param(
            ["run", "--standalone", TWO, "--out", f"{FLEET}/fleet.yaml"], ["--out", "fleet.yaml"], id="output to a file"
        ),
        pytest.param(
            ["run", "--standalone", TWO, "--out", "/proc/1/out"], ["--out", "/proc/1/out"], id="output to nowhere"
        ),
        pytest.param(["run", "--http-port", "99999"], ["--http-port"], id="a port that no machine has"),
        pytest.param(["run", "--kubeconfig", "nowhere"], ["--kubeconfig", "nowhere"], id="no kubeconfig"),
        pytest.param(
            ["gate", "--fleet", "x", "--kubeconfig", "nowhere"], ["--kubeconfig", "nowhere"], id="nor a gate's"
        ),
        pytest.param(["gate", "--fleet", "x", "--http-port", "99999"], ["--http-port"], id="nor a gate's port"),
        pytest.param(["profile", "published", "--data", FLEET], ["aic_iteration_table.csv", FLEET], id="no tables"),
        pytest.param(["profile", "published", "--context", "7"], ["7 tokens", "1024"], id="a context nobody measured"),
        pytest.param(["profile", "kernel", "--device", "tpu"], ["--device", "cuda"], id="a device that is none"),
        pytest.param(["profile", "fit", sys.executable], [Path(sys.executable).name, "no text"], id="rows of no text"),
        pytest.param(
            ["profile", "engine", "--url", "localhost", "--accelerator", "X"], ["--url", "http://"], id="no URL"
        ),
        pytest.param(
            ["profile", "engine", "--url", "http://127.0.0.1:9", "--accelerator", "X", "-o", "/tmp"],
            ["http://127.0.0.1:9", "does not answer"],
            id="an engine that is not there",
        ),
    ],
)
def test_a_wrong_word_is_named_with_what_would_be_right(arguments: list[str], told: list[str]) -> None:
    result = RUNNER.invoke(application, arguments, env={"COLUMNS": "240"})
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


def _commands() -> list[tuple[str, ...]]:
    return [
        *((name,) for name in ("demo", "explain", "gate", "plan", "run", "simulate", "profile")),
        *(("profile", name) for name in ("kernel", "engine", "fit", "published")),
    ]


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_help_shows_what_to_type(command: tuple[str, ...]) -> None:
    told = RUNNER.invoke(application, [*command, "--help"], env={"COLUMNS": "240"}).stdout
    examples = [line for line in told.splitlines() if line.strip().startswith(f"sluice {' '.join(command)} ")]
    assert examples != [], told


def test_an_empty_folder_is_told_with_what_was_looked_for(tmp_path: Path) -> None:
    for command in ("plan", "simulate"):
        result = RUNNER.invoke(application, [command, "-f", str(tmp_path)])
        assert result.exit_code == 1
        assert (
            result.stderr.splitlines()[-1] == f"error: {tmp_path}: the folder holds no manifest (*.json, *.yaml, *.yml)"
        )


def test_a_class_of_a_fleet_that_is_not_there_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    text = (Path(TWO) / "two-class.yaml").read_text()
    first, found, rest = text.rpartition("fleetRef:\n    name: two-class")
    (tmp_path / "all.yaml").write_text(f"{first}{found.replace('two-class', 'tow-class')}{rest}")
    # The simulation is not begun, for it compiles for a minute: the fleet is read before the policy is looked up.
    for command, status in ((["plan"], 0), (["simulate", "--policy", "none"], 1)):
        result = RUNNER.invoke(application, [*command, "-f", str(tmp_path)])
        assert result.exit_code == status, result.output
        (told,) = [line for line in result.stderr.splitlines() if line.startswith("warning")]
        assert [word for word in ("prefill-heavy", "FleetNotFound", "tow-class", "two-class") if word not in told] == []


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
