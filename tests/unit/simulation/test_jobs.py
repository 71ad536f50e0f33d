"""What was computed is found again, in the same digits, and never by other fields or other code."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sluice.simulation import jobs
from sluice.simulation.catalogue import NETWORK
from sluice.simulation.gap import SeedRun
from sluice.simulation.instances import PAPER_8B
from sluice.simulation.job_book import JobBook
from sluice.simulation.jobs import key_of, run_here, sources_digest
from sluice.simulation.network import Trial
from sluice.simulation.reproduction import Meter, in_processes
from sluice.simulation.tokens import REGIMES, TokenTrial

TRIAL = Trial(
    instance=PAPER_8B,
    replicas=4,
    regime=NETWORK["TI-WSP"],
    horizon_seconds=60.0,
    warmup_seconds=20.0,
    seed=1,
    index=PAPER_8B.token_row_index(),
)
TOKENS = TokenTrial(instance=PAPER_8B, lengths="constant", regime=REGIMES[0], seed=1, horizon_seconds=20.0)


@dataclass(frozen=True)
class Fails:
    """A job that nobody may run."""

    number: int = 0
    cost_seconds: float = 1.0

    def run(self) -> float:
        raise AssertionError("this was run before")

    def written(self, result: float) -> object:
        return result

    def read(self, written: Any) -> float:
        return float(written)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(TRIAL, seed=2), id="another seed"),
        pytest.param(replace(TRIAL, regime=NETWORK["XI-WSP"]), id="another order"),
        pytest.param(replace(TRIAL, warmup_seconds=21.0), id="another warm-up"),
        pytest.param(replace(TRIAL, instance=PAPER_8B.scaled(1.01)), id="another instance"),
        pytest.param(
            replace(TRIAL, regime=replace(TRIAL.regime, admission=replace(TRIAL.regime.admission, fill=0.6))),
            id="another parameter of the order",
        ),
    ],
)
def test_whatever_a_result_depends_on_is_in_its_key(other: Trial) -> None:
    assert key_of(other) != key_of(TRIAL)
    assert key_of(replace(TRIAL)) == key_of(TRIAL)


def test_another_process_finds_the_same_key() -> None:
    """Sets are walked in another order there."""
    code = (
        "from sluice.simulation.catalogue import NETWORK as n; from sluice.simulation.network import Trial\n"
        "from sluice.simulation.instances import PAPER_8B as p; from sluice.simulation.jobs import key_of\n"
        "print(key_of(Trial(instance=p, replicas=4, regime=n['TI-WSP'], horizon_seconds=60.0, warmup_seconds=20.0,"
        " seed=1, index=p.token_row_index())))"
    )
    environment = {"PYTHONPATH": str(jobs.PACKAGE.parent), "PYTHONHASHSEED": "7"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == key_of(TRIAL)


def test_what_has_no_digest_may_not_be_depended_on() -> None:
    with pytest.raises(TypeError, match="it has no digest"):
        key_of(replace(TRIAL, regime=print))  # type: ignore[arg-type]  # what a job may not hold


def test_the_digest_reaches_every_room_a_trial_runs_in_and_no_room_that_shows_it() -> None:
    reached = {str(path.relative_to(jobs.PACKAGE)) for path in jobs._reached(["sluice.simulation.network"])}
    assert {"policy/timely.py", "policy/kernels.py", "planning/solver.py", "simulation/engine.py"} <= reached
    assert not {"simulation/claims.py", "simulation/figures.py", "simulation/experiments.py"} & reached


def test_changed_code_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "sluice"
    (package / "far").mkdir(parents=True)
    (package / "near.py").write_text("def f():\n    from sluice.far import away\n")
    (package / "far" / "__init__.py").write_text("")
    (package / "far" / "away.py").write_text("x = 1\n")
    monkeypatch.setattr(jobs, "PACKAGE", package)
    found = []
    for text in ("x = 1\n", "x = 2\n", "x = 1\n"):
        (package / "far" / "away.py").write_text(text)
        sources_digest.cache_clear()
        found.append(sources_digest("sluice.near"))
    sources_digest.cache_clear()
    assert found[0] == found[2] != found[1]


def test_results_come_back_in_the_same_digits(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    trial, tokens = run_here([TRIAL])[0], 0.1 + 0.2
    JobBook(path).keep(TRIAL, trial, 1.0)
    JobBook(path).keep(TOKENS, tokens, 1.0)
    book = JobBook(path)
    assert len(book) == 2
    again = book.find(TRIAL)[0]
    assert repr(again.measure) == repr(trial.measure)
    assert (again.plan.plan_id, again.value, again.bound) == (trial.plan.plan_id, trial.value, trial.bound)
    assert (again.served, again.calm_share) == (trial.served, trial.calm_share)
    assert book.find(TOKENS) == [tokens]
    assert book.find(replace(TRIAL, seed=2)) == []


def test_the_operators_runs_come_back(tmp_path: Path) -> None:
    job = SeedRun(traffic="prompts", load=1.2, seed=1, horizon_seconds=60.0, names=("sluice-both",))
    path, earned = tmp_path / "jobs.jsonl", {"sluice-both": (96.0, 80.25)}
    JobBook(path).keep(job, earned, 1.0)
    assert JobBook(path).find(job) == [earned]


def test_a_line_that_was_cut_off_is_run_again(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    for number in range(2):
        JobBook(path).keep(Fails(number), 0.5, 1.0)
    path.write_text(path.read_text()[:-12])
    book = JobBook(path)
    assert [book.find(Fails(number)) for number in range(2)] == [[0.5], []]
    book.keep(Fails(1), 0.25, 1.0)
    assert [json.loads(line)["result"] for line in path.read_text().splitlines()[-1:]] == [0.25]
    assert JobBook(path).find(Fails(1)) == [0.25]


def test_a_run_that_was_stopped_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    path, trials = tmp_path / "jobs.jsonl", [replace(TRIAL, seed=seed) for seed in (1, 2, 3)]
    told: list[tuple[float, bool]] = []
    meter = Meter(lambda cost, known: told.append((cost, known)))
    with in_processes(1, JobBook(path), meter) as run:
        first = run(trials[:2])
        again = run(trials)
    JobBook(path).keep(Fails(7), 0.5, 1.0)
    with in_processes(1, JobBook(path), meter) as run:
        assert run([Fails(7)]) == [0.5]
    assert [r.value for r in again[:2]] == [r.value for r in first]
    assert [r.trial.seed for r in again] == [1, 2, 3]
    assert (meter.run, meter.known) == (3, 3)
    assert meter.processor_seconds > 0.0
    with in_processes(1, JobBook(path), meter) as run:
        assert [asdict(r)["value"] for r in run(trials)] == [r.value for r in again]
    assert (meter.run, meter.known) == (3, 6)
    assert {known for _, known in told} == {True, False}
