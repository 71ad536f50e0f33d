"""Measured tables: two points are the paper's program, more points only help, and holes are named."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.model.law import MeasuredPoint
from sluice.planning import plan
from sluice.planning.modes import Mode
from sluice.planning.problem import PoolInput, Problem
from sluice.planning.tables import mean_context, modes_of_table

Instance = Callable[..., Problem]
TABLES = os.environ.get("SLUICE_ITERATION_TIMES", "")
"""Folder with composed iteration-time tables, where they are at hand (tests/README.md)."""


def point(chunk: int, batch: int, seconds: float, context: int = 1024) -> MeasuredPoint:
    return MeasuredPoint(chunk_tokens=chunk, batch=batch, context_tokens=context, seconds=seconds)


def value(problem: Problem) -> float:
    outcome = plan(problem, now=0.0)
    assert outcome.plan is not None, outcome.message
    return outcome.plan.value_per_second


def test_a_table_of_two_points_is_the_paper_s_program(paper_instance: Instance) -> None:
    problem = paper_instance()
    mixed, solo = problem.pools[0].modes
    modes, remarks = modes_of_table([point(256, 15, mixed.seconds), point(0, 16, solo.seconds)], 1024.0, 16, 256, 272)
    measured = replace(problem, pools=(replace(problem.pools[0], modes=modes),))
    assert not remarks
    assert value(measured) == pytest.approx(297.716190347, rel=1e-9)


def test_more_measured_points_never_lower_the_value_and_name_the_best_chunk(paper_instance: Instance) -> None:
    problem = paper_instance(rate=2.0)
    more = (*problem.pools[0].modes, Mode(512, 15, 0.045), Mode(0, 24, 0.026))
    outcome = plan(replace(problem, pools=(replace(problem.pools[0], modes=more),)), now=0.0)
    assert outcome.plan is not None
    pool = outcome.plan.pools[0]
    assert outcome.plan.value_per_second > value(problem)
    assert pool.batch_cap == 24
    assert pool.chunk_tokens == pytest.approx(512)
    assert sum(mode.share for mode in pool.modes) == pytest.approx(1.0)


def test_the_context_of_the_demand_is_read_between_measured_ones() -> None:
    points = [point(0, 8, 0.010, 1000), point(0, 8, 0.020, 2000), point(128, 8, 0.02, 1000), point(128, 8, 0.04, 2000)]
    modes, remarks = modes_of_table(points, 1500.0, 16, 128, 200)
    assert {(mode.chunk_tokens, mode.seconds) for mode in modes} == {(0, 0.015), (128, 0.03)}
    assert not remarks
    low, _ = modes_of_table(points, 10.0, 16, 128, 200)
    assert {mode.seconds for mode in low} == {0.010, 0.02}


def test_mean_context_is_weighted_by_decode_work() -> None:
    assert mean_context([(1.0, 100.0, 10.0), (1.0, 1000.0, 30.0)]) == pytest.approx((10 * 105 + 30 * 1015) / 40)
    assert mean_context([(0.0, 100.0, 10.0)]) == pytest.approx(105.0)


@pytest.mark.parametrize(
    ("points", "context", "chunk_tokens", "named"),
    [
        pytest.param(
            [point(0, 8, 0.01), point(128, 8, 0.02), point(0, 16, 0.012)], 1024.0, 128, "holes", id="a hole is named"
        ),
        pytest.param([point(0, 8, 0.01), point(128, 8, 0.02)], 9000.0, 128, "9000", id="a context never measured"),
        pytest.param([point(0, 8, 0.01), point(128, 8, 0.02)], 1024.0, 4096, "4096", id="a chunk never measured"),
    ],
)
def test_what_a_table_cannot_answer_is_said(
    points: list[MeasuredPoint], context: float, chunk_tokens: int, named: str
) -> None:
    _, remarks = modes_of_table(points, context, 32, chunk_tokens, 8192)
    assert any(named in remark for remark in remarks)


def test_a_table_without_a_prefill_point_is_a_fault(paper_instance: Instance) -> None:
    problem = paper_instance()
    outcome = plan(replace(problem, pools=(replace(problem.pools[0], modes=(Mode(0, 8, 0.01),)),)), now=0.0)
    assert [(fault.subject, fault.field) for fault in outcome.faults] == [("Pool/pool-0", "modes")]


def _rows(name: str) -> list[dict[str, str]]:
    with (Path(TABLES) / name).open(newline="") as file:
        return list(csv.DictReader(file))


def _composed() -> dict[str, list[MeasuredPoint]]:
    """Every table of the two composed files, by what it was measured on."""
    tables: dict[str, list[MeasuredPoint]] = defaultdict(list)
    for name in ("derived/aic_iteration_table.csv", "derived/vidur_iteration_table.csv"):
        for row in _rows(name):
            label = " ".join(row[key] for key in ("model", "gpu", "backend", "tp") if key in row)
            tables[label].append(point(int(row["C"]), int(row["B"]), float(row["ms"]) / 1000, int(row["kv"])))
    return tables


def _end_to_end() -> dict[str, list[MeasuredPoint]]:
    """Splitwise's engine measurements: whole prompts as chunks without decodes, and decodes alone."""
    samples: dict[str, dict[tuple[int, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in _rows("splitwise/perf_model.csv"):
        if row["hardware"].endswith("pcap"):
            continue
        label = f"{row['model']} {row['hardware']} TP{row['tensor_parallel']}"
        prompt, batch = int(row["prompt_size"]), int(row["batch_size"])
        samples[label][0, batch].append(float(row["token_time"]) / 1000)
        if batch == 1:
            samples[label][prompt, 0].append(float(row["prompt_time"]) / 1000)
    return {
        label: [point(chunk, batch, sorted(times)[len(times) // 2]) for (chunk, batch), times in found.items()]
        for label, found in samples.items()
    }


@pytest.mark.skipif(not TABLES, reason="SLUICE_ITERATION_TIMES names no folder of iteration-time tables")
def test_every_table_at_hand_plans_as_it_is(paper_instance: Instance) -> None:
    problem = paper_instance(replicas=4)
    tables = {**_composed(), **_end_to_end()}
    assert len(tables) > 10
    for label, points in tables.items():
        modes, remarks = modes_of_table(points, 1500.0, 257, 8192, 16384)
        assert not [remark for remark in remarks if "hole" in remark], label
        outcome = plan(replace(problem, pools=(PoolInput(name="pool-0", ready=4, modes=modes),)), now=0.0)
        assert outcome.plan is not None, f"{label}: {outcome.message}"
        assert outcome.plan.value_per_second > 0
        assert outcome.certificate is not None
        assert outcome.certificate.holds
