"""Traces: shapes that are known, and rows that are refused by file, line and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sluice.simulation import trace_files
from sluice.simulation.trace_files import LONGEST_LINE, MOST_REQUESTS, TraceError
from sluice.simulation.traces import clustered, merge, read_trace

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8"
)


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_azure_times_keep_their_fraction(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "code.csv", AZURE))
    assert trace.arrival == pytest.approx([0.0, 0.052], abs=1e-6)
    assert trace.prompt.tolist() == [4808.0, 3180.0]


def test_an_access_log_is_sorted_by_start_and_keeps_its_ttft(tmp_path: Path) -> None:
    log = (
        '{"start_time": "2026-01-01T00:00:02.000Z", "prompt_tokens": 10, "completion_tokens": 2, "ttft": 250}\n'
        '{"start_time": "2026-01-01T00:00:01.500Z", "prompt_tokens": 20, "completion_tokens": 2, "ttft": null}\n'
    )
    trace = read_trace(written(tmp_path, "access.log", log))
    assert trace.prompt.tolist() == [20.0, 10.0]
    assert trace.logged_ttft is not None
    assert np.isnan(trace.logged_ttft[0])
    assert trace.logged_ttft[1] == 0.25


BAD: dict[str, tuple[str, str | bytes, str]] = {
    "empty file": ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "no requests"),
    "unknown columns": ("a.csv", "when,tokens\n1,2\n", r"a\.csv:2: unknown columns when, tokens"),
    "negative tokens": ("a.csv", "timestamp,input_tokens,output_tokens\n1,-5,2\n", r"a\.csv:2: input_tokens is -5"),
    "not a number": ("a.csv", "timestamp,input_tokens,output_tokens\n1,x,2\n", r"a\.csv:2: input_tokens is 'x'"),
    "not a time": ("a.csv", "timestamp,input_tokens,output_tokens\nsoon,1,2\n", r"timestamp is 'soon', not a time"),
    "unsorted": (
        "a.csv",
        "timestamp,input_tokens,output_tokens\n2,1,1\n1,1,1\n",
        r"a\.csv:3: timestamp goes back by 1 s",
    ),
    "not JSON": ("a.jsonl", "{\n", r"a\.jsonl:1: not JSON"),
    "not text": ("a.csv", b"\x00\x01\xff\xfe", "not a text file"),
    "a list": ("a.jsonl", "[1]\n", r"a\.jsonl:1: expected an object"),
    "no line ends, JSON": ("a.jsonl", " " * (LONGEST_LINE + 1), r"a\.jsonl:1: a line of more than"),
    "no line ends, CSV": ("a.csv", "x" * (LONGEST_LINE + 1), r"a\.csv:1: a line of more than"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_trace_is_refused_by_name(case: str, tmp_path: Path) -> None:
    name, text, message = BAD[case]
    with pytest.raises(TraceError, match=message):
        read_trace(written(tmp_path, name, text))


def test_classes_come_from_a_column(tmp_path: Path) -> None:
    text = "timestamp,input_tokens,output_tokens,team\n0,1,1,red\n1,1,1,blue\n2,1,1,red\n"
    trace = read_trace(written(tmp_path, "a.csv", text), class_column="team")
    workload = merge([trace], patience_seconds={"red": None, "blue": 4.0}, seed=1)
    assert workload.classes == ("red", "blue")
    assert workload.requests["klass"].tolist() == [0, 1, 0]
    assert np.isfinite(workload.requests["patience"]).tolist() == [False, True, False]


def test_clustering_separates_short_from_long(tmp_path: Path) -> None:
    rows = "".join(f"{k},{10 if k % 2 else 5000},{20 if k % 2 else 900}\n" for k in range(20))
    trace = read_trace(written(tmp_path, "a.csv", "timestamp,input_tokens,output_tokens\n" + rows))
    labels = clustered(trace, 2).label
    assert len(set(labels[::2])) == len(set(labels[1::2])) == 1
    assert labels[0] != labels[1]


def test_a_trace_of_gigabytes_is_refused_by_its_size_before_it_is_read(tmp_path: Path) -> None:
    """Sparse, so that it takes no room: rows in the first megabyte, then holes."""
    row = "0,1,1\n"
    path = written(tmp_path, "a.csv", "timestamp,input_tokens,output_tokens\n" + row * 200_000)
    with path.open("r+b") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(TraceError, match=rf"2\.0 GB, about .* more than {MOST_REQUESTS:,} requests"):
        read_trace(path)


def test_a_trace_ends_at_the_row_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_files, "MOST_REQUESTS", 3)
    text = "timestamp,input_tokens,output_tokens\n" + "0,1,1\n" * 4
    with pytest.raises(TraceError, match=r"a\.csv:5: more than 3 requests"):
        read_trace(written(tmp_path, "a.csv", text))


def test_traces_that_are_too_many_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traces = [read_trace(written(tmp_path, "a.csv", AZURE)) for _ in range(3)]
    monkeypatch.setattr("sluice.simulation.traces.MOST_REQUESTS", 5)
    with pytest.raises(TraceError, match="the traces together have more than"):
        merge(traces, patience_seconds={}, seed=1)
