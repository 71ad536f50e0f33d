"""``sluice plan`` on the shipped samples and on broken files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from sluice.actuate.plan_config_map import PLAN_KEY
from sluice.api.resolve import resolve
from sluice.cli import plan_tables
from sluice.cli.app import application
from sluice.cli.manifest_files import read
from sluice.model.plan import Plan
from sluice.planning.explain import standing

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "crds" / "samples"
RUNNER = CliRunner()


@pytest.mark.parametrize("sample", ["two-class", "first-day", "fleet"])
def test_every_sample_folder_plans(sample: str) -> None:
    result = RUNNER.invoke(application, ["plan", "-f", str(SAMPLES / sample)])
    assert result.exit_code == 0, result.output
    assert "value" in result.stdout


@pytest.mark.parametrize("width", [80, 100, 130, 160])
def test_a_terminal_of_usual_width_shows_every_class_in_one_line(width: int) -> None:
    """What is spared there are columns that the others imply; the sentence of each class stays."""
    folder = str(SAMPLES / "fleet")
    plan = Plan.model_validate(json.loads(RUNNER.invoke(application, ["plan", "-f", folder, "-o", "json"]).stdout))
    manifests = read([Path(folder)])
    fleet = resolve(manifests.fleets[0], manifests.profiles, manifests.classes).fleet
    assert fleet is not None
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with console.capture() as shown:
        plan_tables.show(console, fleet, plan)
    lines = [line.rstrip() for line in shown.get().splitlines()]
    assert max(map(len, lines)) <= width
    for entry in plan.classes:
        weights = " ".join(f"{part.pool}={part.weight_permille}" for part in entry.pools)
        assert [line for line in lines if line.startswith(entry.name) and weights in line] != []
        assert "".join(entry.standing.split())[:30] in "".join("".join(lines).split())


def test_json_and_yaml_are_the_plan_itself() -> None:
    arguments = ["plan", "-f", str(SAMPLES / "two-class"), "-o"]
    as_json = RUNNER.invoke(application, [*arguments, "json"])
    as_yaml = RUNNER.invoke(application, [*arguments, "yaml"])
    plan = Plan.model_validate(json.loads(as_json.stdout))
    assert plan.value_per_second == pytest.approx(2977.16190347, rel=1e-9)
    assert Plan.model_validate(yaml.safe_load(as_yaml.stdout)).plan_id == plan.plan_id


def test_a_value_that_is_no_money_is_said_to_be_none() -> None:
    told = {
        sample: RUNNER.invoke(application, ["plan", "-f", str(SAMPLES / sample)]).stderr
        for sample in ("first-day", "fleet")
    }
    assert "note: no prices for background, interactive" in told["first-day"]
    assert told["fleet"] == ""


def test_several_files_may_follow_one_option() -> None:
    folder = SAMPLES / "fleet"
    result = RUNNER.invoke(application, ["plan", "-f", *map(str, sorted(folder.glob("*.yaml")))])
    assert result.exit_code == 0, result.output


def test_a_broken_file_is_named_with_object_and_field(tmp_path: Path) -> None:
    text = (SAMPLES / "two-class" / "two-class.yaml").read_text().replace("outputTokens: 400", "outputTokens: -4")
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    result = RUNNER.invoke(application, ["plan", "-f", str(broken)])
    assert result.exit_code == 1
    assert "prefill-heavy" in result.stderr
    assert "outputTokens" in result.stderr
    assert str(broken) in result.stderr


def test_a_fleet_without_replicas_to_count_says_which_pool(tmp_path: Path) -> None:
    text = (SAMPLES / "first-day" / "first-day.yaml").read_text()
    lone = tmp_path / "lone.yaml"
    lone.write_text(text.partition("# Says how many replicas")[0])
    result = RUNNER.invoke(application, ["plan", "-f", str(lone)])
    assert result.exit_code == 1
    assert "h100" in result.stderr
    assert "ReplicasUnknown" in result.stderr


def test_a_missing_file_and_an_unknown_fleet_are_errors(tmp_path: Path) -> None:
    missing = RUNNER.invoke(application, ["plan", "-f", str(tmp_path / "nothing.yaml")])
    unknown = RUNNER.invoke(application, ["plan", "-f", str(SAMPLES / "two-class"), "--fleet", "other"])
    assert (missing.exit_code, unknown.exit_code) == (1, 1)
    assert "nothing.yaml" in missing.stderr
    assert "other" in unknown.stderr


def test_what_if_and_diff_say_what_changes(tmp_path: Path) -> None:
    sample = ["plan", "-f", str(SAMPLES / "two-class")]
    before = tmp_path / "before.json"
    before.write_text(RUNNER.invoke(application, [*sample, "-o", "json"]).stdout)
    same = RUNNER.invoke(application, [*sample, "--diff", str(before)])
    other = RUNNER.invoke(
        application, [*sample, "--diff", str(before), "--demand", "decode-heavy=x0.5", "--replicas", "a100=+4"]
    )
    assert "no difference" in same.stdout
    assert "class decode-heavy" in other.stdout
    assert "pool a100" in other.stdout


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_diff_and_sensitivity_are_documents_too(tmp_path: Path, output: str) -> None:
    sample = ["plan", "-f", str(SAMPLES / "two-class"), "-o", output]
    before = tmp_path / "before"
    before.write_text(RUNNER.invoke(application, [*sample, "--sensitivity"]).stdout)
    asked = [*sample, "--diff", str(before), "--sensitivity", "--demand", "decode-heavy=x0.5"]
    document = yaml.safe_load(RUNNER.invoke(application, asked).stdout)
    old = yaml.safe_load(before.read_text())
    assert set(old) == {"plan", "sensitivity"}
    assert set(document) == {"plan", "sensitivity", "diff"}
    assert Plan.model_validate(document["plan"]).plan_id != old["plan"]["planId"]
    assert document["diff"]["planId"] == old["plan"]["planId"]
    changed = {(change["subject"], change["field"]) for change in document["diff"]["changes"]}
    assert ("class decode-heavy", "offered/s") in changed
    first = document["sensitivity"][0]
    assert first["class"] == "decode-heavy"
    assert first["sameClassesServedFrom"] <= 0.5 * old["plan"]["classes"][0]["arrivalRate"]
    assert first["sameClassesServedTo"] is None or first["sameClassesServedTo"] > first["sameClassesServedFrom"]


def test_sensitivity_of_a_plan_with_relaxed_promises(tmp_path: Path) -> None:
    text = (SAMPLES / "two-class" / "two-class.yaml").read_text()
    promise = "slis:\n  - {signal: TTFT, statistic: Mean, targetMilliseconds: 300, hardness: Hard}\n"
    clashing = tmp_path / "clashing.yaml"
    clashing.write_text(_with_promises(text, promise))
    result = RUNNER.invoke(application, ["plan", "-f", str(clashing), "--sensitivity", "-o", "json"])
    document = json.loads(result.stdout)
    assert document["plan"]["conflict"]["promises"]
    assert len(document["sensitivity"]) == len(document["plan"]["classes"])


def _with_promises(text: str, promise: str) -> str:
    """Every WorkloadClass with one more promise."""
    documents = [document for document in yaml.safe_load_all(text) if document]
    for document in documents:
        if document["kind"] == "WorkloadClass":
            document["spec"] |= yaml.safe_load(promise)
    return yaml.safe_dump_all(documents)


def test_diff_reads_the_plan_config_map(tmp_path: Path) -> None:
    sample = ["plan", "-f", str(SAMPLES / "two-class")]
    text = RUNNER.invoke(application, [*sample, "-o", "json"]).stdout
    stored = tmp_path / "configmap.yaml"
    stored.write_text(yaml.safe_dump({"kind": "ConfigMap", "data": {PLAN_KEY: text}}))
    assert "no difference" in RUNNER.invoke(application, [*sample, "--diff", str(stored)]).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--replicas", "a100=many"],
        ["--replicas", "h200=+1"],
        ["--replicas", "a100=-99"],
        ["--demand", "decode-heavy"],
        ["--demand", "nobody=x2"],
        ["--demand", "decode-heavy=xNaN"],
        ["--sweep", "sli=speed:decode-heavy:1..2"],
        ["--sweep", "demand=decode-heavy:2..1"],
        ["--sweep", "weather=decode-heavy:1..2"],
        ["--diff", "nowhere.json"],
    ],
    ids=" ".join,
)
def test_a_question_that_makes_no_sense_is_refused_with_the_reason(arguments: list[str]) -> None:
    result = RUNNER.invoke(application, ["plan", "-f", str(SAMPLES / "two-class"), *arguments])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "question",
    [
        "sli=wait:decode-heavy:0.4..1/4",
        "demand=decode-heavy:0.5..2/4",
        "replicas=a100:8..11",
        "price=decode-heavy:0.5..2/4",
    ],
)
def test_a_sweep_prints_a_row_per_point_and_draws(question: str, tmp_path: Path) -> None:
    png = tmp_path / "curve.png"
    result = RUNNER.invoke(
        application, ["plan", "-f", str(SAMPLES / "two-class"), "--sweep", question, "--png", str(png)]
    )
    assert result.exit_code == 0, result.output
    rows = result.stdout.partition("sweep of")[2].splitlines()[2:6]
    assert all("%" in row for row in rows)
    assert png.read_bytes().startswith(b"\x89PNG")


def test_sensitivities_say_between_which_rates_a_re_solve_cannot_matter() -> None:
    result = RUNNER.invoke(application, ["plan", "-f", str(SAMPLES / "two-class"), "--sensitivity"])
    assert result.exit_code == 0, result.output
    assert "any more" in result.stdout


def test_the_fleet_sample_rations_one_class_and_prices_replicas_like_replicas() -> None:
    """What a newcomer sees first: about 1.1 times capacity, and a replica worth a few times its own cost per hour."""
    result = RUNNER.invoke(application, ["plan", "-f", str(SAMPLES / "fleet"), "-o", "json"])
    plan = Plan.model_validate_json(result.stdout)
    assert [entry.name for entry in plan.classes if entry.rationed] == ["batch"]
    assert all(promise.held for promise in plan.promises)
    worth = {pool.name: pool.value_per_replica_hour or 0.0 for pool in plan.pools}
    assert 1.80 < worth["a100"] < 5 * 1.80
    assert 3.20 < worth["h100"] < 5 * 3.20
    short = 13 - sum(entry.admitted_rate for entry in plan.classes if entry.name == "batch")
    assert 0.5 < short < 5


def test_a_class_that_no_price_saves_is_called_hopeless() -> None:
    assert standing(False, 0.0, -235.0, False) == "refused; hopeless at present prices"
    assert "rises by 900.0%" in standing(False, 0.0, -9.0, False)


@pytest.mark.parametrize(("output", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_a_sweep_is_a_document_too(output: str, read: Callable[[str], Any], tmp_path: Path) -> None:
    png = tmp_path / "curve.png"
    question = ["--sweep", "sli=served:decode-heavy:0.5..1/3", "--png", str(png)]
    result = RUNNER.invoke(application, ["plan", "-f", str(SAMPLES / "two-class"), "-o", output, *question])
    assert result.exit_code == 0, result.output
    swept = read(result.stdout)
    assert (swept["sweep"], swept["unit"]) == ("served:decode-heavy", "share")
    assert [point["at"] for point in swept["points"]] == [0.5, 0.75, 1.0]
    values = [point["valuePerSecond"] for point in swept["points"]]
    assert values == sorted(values, reverse=True)
    assert all(set(point["served"]) == {"decode-heavy", "prefill-heavy"} for point in swept["points"])
    assert swept["points"][0]["served"]["decode-heavy"] >= 0.5
    assert png.exists()
