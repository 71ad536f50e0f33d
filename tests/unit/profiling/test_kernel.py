"""The torch profiler on this machine's CPU: the same code that runs on a GPU, on a tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice.api.resources import IterationProfileResource
from sluice.api.validate import problems
from sluice_profiling.grid import Range
from sluice_profiling.measurement import Measurement, Point, read
from sluice_profiling.report import conclude_raw
from sluice_profiling.shape import SHAPES, Shape, UnsupportedShapeError, from_config, shape_of
from sluice_profiling.timing import Patience, Timing

ROOT = Path(__file__).resolve().parents[3]
SMALL = Shape(
    name="small",
    hidden_size=64,
    layers=2,
    attention_heads=4,
    key_value_heads=2,
    head_size=16,
    intermediate_size=128,
    vocabulary=256,
)
LIMITS = Range(operating_batch=4, largest_batch=8, smallest_chunk=16, largest_chunk=64, context_tokens=32)
QUICK = Patience(warm_up=1, fewest=3, most=10, relative_half_width=0.05, seconds=0.1)


@pytest.fixture
def kernel(torch_installed: None) -> Any:
    from sluice_profiling import kernel  # noqa: PLC0415 -- torch may be missing

    return kernel


@pytest.fixture
def machine(torch_installed: None) -> Any:
    from sluice_profiling import hardware  # noqa: PLC0415 -- torch may be missing

    return hardware.find("cpu")


@pytest.fixture
def task(kernel: Any, tmp_path: Path) -> Any:
    return kernel.Task(shape=SMALL, limits=LIMITS, raw=tmp_path / "small.csv", budget_seconds=60.0, patience=QUICK)


def measured(kernel: Any, task: Any, machine: Any) -> list[Measurement]:
    return [progress.measurement for progress in kernel.run(task, machine)]


def test_a_run_leaves_a_profile_that_the_api_accepts(kernel: Any, task: Any, machine: Any) -> None:
    rows = measured(kernel, task, machine)
    assert len(rows) >= 12
    conclusion = conclude_raw(task.raw, "small", LIMITS.operating_batch)
    document = yaml.safe_load(conclusion.manifest.read_text(encoding="utf-8"))
    assert problems(document) == []
    law = IterationProfileResource.model_validate(document).spec.law()
    assert law.solo_seconds == pytest.approx(conclusion.choice.chosen.law.solo_seconds, abs=1e-8)
    assert law.mixed(64, 4) == pytest.approx(conclusion.choice.chosen.law.mixed(64, 4), abs=1e-7)
    assert conclusion.picture.read_bytes().startswith(b"\x89PNG")
    assert "no GPU figure" in document["spec"]["provenance"]["source"]
    assert document["spec"]["accelerator"].startswith("CPU")


def test_more_prompt_tokens_take_longer(kernel: Any, task: Any, machine: Any) -> None:
    seconds = {entry.point: entry.seconds for entry in measured(kernel, task, machine)}
    assert seconds[Point(64, 4, 32)] > seconds[Point(0, 4, 32)]


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(kernel: Any, task: Any, machine: Any) -> None:
    first = [next(iter(kernel.run(task, machine))).measurement]
    with task.raw.open("a", encoding="utf-8") as raw:
        raw.write("64,4,32,0.0")  # the crash came in the middle of a line
    _, kept = read(task.raw)
    assert [entry.point for entry in kept] == [entry.point for entry in first]


def test_a_resumed_run_measures_the_rest_only(kernel: Any, task: Any, machine: Any) -> None:
    runs = kernel.run(task, machine)
    before = {next(runs).measurement.point for _ in range(3)}
    runs.close()
    after = {entry.point for entry in measured(kernel, task, machine)}
    assert before & after == set()
    _, rows = read(task.raw)
    assert {entry.point for entry in rows} == before | after


def test_a_file_about_something_else_is_not_continued(kernel: Any, task: Any, machine: Any) -> None:
    next(iter(kernel.run(task, machine)))
    other = replace(task, shape=replace(SMALL, name="other"))
    with pytest.raises(ValueError, match="'small', not 'other'"):
        measured(kernel, other, machine)


def test_no_point_begins_after_the_budget(kernel: Any, task: Any, machine: Any) -> None:
    assert measured(kernel, replace(task, budget_seconds=0.0), machine) == []


def test_scaled_layers_are_scaled_and_said(kernel: Any, task: Any, machine: Any) -> None:
    deep = replace(task, shape=replace(SMALL, layers=20), built_layers=1)
    assert [shape.layers for shape in kernel.built_shapes(deep)] == [1, 2]
    assert "1 and 2 layers scaled to 20" in kernel.describe(deep, machine).method
    assert "scaled" not in kernel.describe(task, machine).method


def test_scaling_adds_the_cost_of_the_layers_that_were_not_built(kernel: Any) -> None:
    one, two = (Timing(seconds=t, half_width_seconds=0.1, samples=9, rejected=0) for t in (5.0, 7.0))
    seconds, half = kernel.scaled([one, two], 1, 10)
    assert seconds == pytest.approx(5.0 + 9 * 2.0)
    assert half == pytest.approx(0.1 * (8**2 + 9**2) ** 0.5)


def test_chunk_and_decodes_do_not_look_at_each_other(machine: Any) -> None:
    """What a decoding sequence answers is the same with and without a chunk beside it."""
    import torch  # noqa: PLC0415 -- torch may be missing

    from sluice_profiling.transformer import Transformer  # noqa: PLC0415 -- torch may be missing

    model = Transformer(SMALL, machine.placement)
    with torch.inference_mode():
        mixed, solo = model.iteration(Point(16, 4, 8)), model.iteration(Point(0, 4, 8))
        solo.tokens = mixed.tokens[16:]
        together, alone = model.run(mixed), model.run(solo)
    assert together.shape == (5, SMALL.vocabulary)
    assert torch.allclose(together[1:], alone, atol=1e-5)


SPLIT = """
import torch
from sluice_profiling import hardware
from sluice_profiling.measurement import Point
from sluice_profiling.shape import Shape
from sluice_profiling.transformer import Transformer
import dataclasses, json, os, sys
shape = Shape(**json.loads(sys.argv[1]))
machine = hardware.find("cpu")
timer = machine.timer(Transformer(shape, machine.placement), Point(16, 2, 8))
seconds = [timer() for _ in range(3)]
print(json.dumps(machine.agreed(seconds) == seconds and min(seconds) > 0))
torch.distributed.destroy_process_group()
"""


def test_ranks_split_the_model_and_agree_on_the_time(torch_installed: None, tmp_path: Path) -> None:
    script = tmp_path / "split.py"
    script.write_text(SPLIT)
    shape = json.dumps({name: getattr(SMALL, name) for name in SMALL.__dataclass_fields__})
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    path = os.pathsep.join((str(ROOT / "operator"), str(ROOT / "profiling")))
    done = subprocess.run(
        [*launch, str(script), shape],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Two processes share one pipe: their newlines may come after both words.
    assert "".join(done.stdout.split()) == "truetrue"


CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


def test_a_hugging_face_configuration_gives_the_shape(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    assert from_config(path) == replace(SHAPES["llama-3.1-8b"], name="llama")
    assert shape_of(str(path)) == from_config(path)
    assert from_config(path).parameters == pytest.approx(8.03e9, rel=0.01)


def test_a_shape_that_is_neither_known_nor_a_file_is_told_with_those_there_are() -> None:
    with pytest.raises(UnsupportedShapeError, match=r"llama: neither one of tiny, llama-3.1-8b"):
        shape_of("llama")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"num_local_experts": 8}, "8 experts", id="a mixture of experts"),
        pytest.param({"num_key_value_heads": 5}, "multiple", id="heads that do not divide"),
        pytest.param({"intermediate_size": None}, "intermediate_size", id="a size that is missing"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({key: value for key, value in (CONFIG | change).items() if value is not None}))
    with pytest.raises(UnsupportedShapeError, match=said):
        from_config(path)
    assert SHAPES["llama-3.1-8b"].check_parallel(8) is None  # type: ignore[func-returns-value]  # it raises or does not


def test_the_command_gives_a_profile_that_plan_accepts(torch_installed: None, tmp_path: Path) -> None:
    """The whole way, on a grid that takes seconds: kernel, then the sample fleet with this profile."""
    run = [sys.executable, "-m", "sluice"]
    options = "--batch 4 --largest-batch 8 --largest-chunk 32 --context 32 --minutes 0.2 --device cpu"
    command = [*run, "profile", "kernel", *options.split(), "--name", "measured", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    fleet = (ROOT / "crds" / "samples" / "first-day" / "first-day.yaml").read_text(encoding="utf-8")
    manifests = tmp_path / "fleet.yaml"
    declared, measured_here = (f"profileRef:\n        name: {name}" for name in ("llama-31-8b-h100", "measured"))
    assert declared in fleet
    manifests.write_text(fleet.replace(declared, measured_here))
    plan = [*run, "plan", "-f", str(manifests), "-f", str(tmp_path / "measured.yaml"), "-o", "json"]
    planned = subprocess.run(plan, capture_output=True, text=True, check=False)
    assert planned.returncode == 0, planned.stderr
    assert '"verdict": "Optimal"' in planned.stdout
