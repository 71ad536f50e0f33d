"""``sluice simulate`` and ``sluice reproduce`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sluice.cli.app import application
from sluice.simulation.accuracy import law_errors

SAMPLE = Path(__file__).parents[3] / "crds" / "samples" / "two-class"


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(application, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_two_policies_see_the_same_arrivals() -> None:
    code, out, err = run(
        "simulate", "-f", str(SAMPLE), "--seconds", "120", "--policy", "chunked", "--policy", "first-come", "-o", "json"
    )
    assert code == 0, err
    values = next(iter(json.loads(out).values()))
    assert [row["policy"] for row in values] == ["chunked", "first-come"]
    assert all(0.5 < row["share of R*"] < 1.1 for row in values)


def test_every_class_is_told_in_full_and_every_figure_is_drawn(tmp_path: Path) -> None:
    arguments = ("--seconds", "60", "--policy", "chunked", "-o", "json", "--png", str(tmp_path))
    code, out, err = run("simulate", "-f", str(SAMPLE), *arguments)
    assert code == 0, err
    document = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    row = document["By class (seconds)"][0]
    assert {"value/s", "good value/s", "of R*", "served", "waiting"} <= set(row)
    assert {f"{s} {k}" for s in ("TTFT", "TPOT") for k in ("mean", "p50", "p95", "p99")} <= set(row)
    assert {path.name for path in tmp_path.iterdir()} == {"ttft.png", "tpot.png", "good-value.png", "waiting.png"}


@pytest.mark.parametrize("wrong", [("--seconds", "-5"), ("-o", "yaml"), ("--proxies", "0")])
def test_an_impossible_option_is_refused_in_a_sentence(wrong: tuple[str, str]) -> None:
    code, _, err = run("simulate", "-f", str(SAMPLE), *wrong)
    assert code == 2
    assert wrong[0] in err


def test_an_access_log_is_told_beside_the_prediction(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    line = {"start_time": "2026-01-01T00:00:00Z", "prompt_tokens": 300, "completion_tokens": 20, "ttft": 200}
    starts = (f"2026-01-01T00:00:{k:02d}.000Z" for k in range(40))
    log.write_text("".join(json.dumps({**line, "start_time": start}) + "\n" for start in starts))
    code, out, err = run("simulate", "-f", str(SAMPLE), "--trace", f"decode-heavy={log}", "--policy", "chunked")
    assert code == 0, err
    assert "chunked: predicted TTFT mean" in out
    assert "p95" in out
    assert "logged 0.200 s, error" in out


def test_what_sluice_does_stands_beside_its_ideal_and_no_bar_goes_into_a_pipe() -> None:
    code, out, err = run("simulate", "-f", str(SAMPLE), "--seconds", "90", "--policy", "sluice", "--proxies", "2")
    assert code == 0, err
    assert err == ""
    assert "sluice-ideal" in out
    assert "What Sluice really does beside the ideal" in out


def test_clusters_of_a_trace_inherit_the_terms_of_its_class(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    rows = "".join(f"{k / 4},{100 if k % 2 else 4000},{20 if k % 2 else 300}\n" for k in range(80))
    trace.write_text("timestamp,input_tokens,output_tokens\n" + rows)
    arguments = ("--trace", f"prefill-heavy={trace}", "--clusters", "2", "--policy", "chunked", "-o", "json")
    code, out, err = run("simulate", "-f", str(SAMPLE), *arguments)
    assert code == 0, err
    by_class = json.loads(out)["By class (seconds)"]
    assert {row["class"] for row in by_class} == {"prefill-heavy-0", "prefill-heavy-1"}


BAD = {
    "more clusters than requests": (("--trace", "chat=TRACE", "--clusters", "9"), "the trace has 1 requests"),
    "clusters and a column": (
        ("--trace", "chat=TRACE", "--class-column", "input_tokens", "--clusters", "1"),
        "both say what a class is",
    ),
    "an unknown policy": (("--policy", "magic"), "no policy magic"),
    "an unknown pool": (("--replicas", "nowhere=3"), "has no pool nowhere"),
    "no number of replicas": (("--replicas", "a100=many"), "expected POOL=NUMBER"),
    "a trace of an unknown class": (("--trace", "stranger=TRACE"), "the trace has classes stranger"),
    "a trace that is not there": (("--trace", "nothing.csv"), "nothing.csv"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_says_why(case: str, tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("timestamp,input_tokens,output_tokens\n0,10,5\n")
    arguments, message = BAD[case]
    code, _, err = run("simulate", "-f", str(SAMPLE), *(a.replace("TRACE", str(trace)) for a in arguments))
    assert code == 1
    assert message in err


def test_the_laws_error_is_that_of_a_line(tmp_path: Path) -> None:
    header = "model,hardware,prompt_size,batch_size,token_size,prompt_time,token_time,tensor_parallel\n"
    rows = [f"m,g,{size},1,128,{10 + size / 10},40,4\n" for size in (512, 1024, 2048)]
    rows += [f"m,g,512,{batch},128,61.2,{40 + batch},4\n" for batch in (2, 4, 8)]
    rows += ["m,g-pcap,512,1,128,1,1,4\n"]
    path = tmp_path / "perf.csv"
    path.write_text(header + "".join(rows))
    table = law_errors(path)
    assert [row[0] for row in table.rows] == ["m g TP4"]
    assert table.rows[0][4] == pytest.approx(0.0, abs=1e-9)
