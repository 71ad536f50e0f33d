"""How long a plan takes, beside two other solvers on the same program in the same run.

``make bench`` prints it. *Answer* is what the bars are for: build, solve, duals, certificate and
explanation. *Plan* is the whole call, with the document that is checked against its schema and
digested. The others get the finished matrix and only solve it and return
duals; HiGHS in a process of its own, because it cannot be imported beside OR-Tools. Beside
the time on the clock stands the processor time, which a busy machine distorts less.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import pulp
import pytest

from sluice.model.fleet import Charging
from sluice.planning import plan
from sluice.planning.answer import answer
from sluice.planning.explain import Explanation, explain
from sluice.planning.formulate import formulate
from sluice.planning.modes import Mode
from sluice.planning.problem import ClassInput, PoolInput, Problem
from sluice.planning.program import Program

SIZES = ((10, 1), (10, 3), (100, 1), (100, 3), (1000, 1), (1000, 3))
BARS_MILLISECONDS = {(10, 1): 1.0, (100, 3): 10.0, (1000, 3): 300.0}

HIGHS = """
import json, sys, time
import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix
for line in sys.stdin:
    p = json.loads(line)
    spent = []
    for _ in range(p["runs"]):
        begin, busy = time.perf_counter(), time.process_time()
        a = csr_matrix((p["values"], (p["rows"], p["columns"])), shape=(len(p["upper"]), len(p["objective"])))
        equal = np.array(p["equal"])
        answer = linprog(-np.array(p["objective"]), A_ub=a[~equal], b_ub=np.array(p["upper"])[~equal],
                         A_eq=a[equal], b_eq=np.array(p["upper"])[equal], method="highs")
        duals = answer.ineqlin.marginals, answer.eqlin.marginals
        spent.append((time.perf_counter() - begin, time.process_time() - busy))
    wall, cpu = (sorted(each)[len(spent) // 2] for each in zip(*spent))
    print(json.dumps([1000 * wall, 1000 * cpu, -answer.fun]))
"""


class Spent(NamedTuple):
    """Medians of one piece of work, milliseconds."""

    wall: float
    processor: float
    """Of this process and of those it started and waited for."""


def instance(classes: int, pools: int) -> Problem:
    """A fleet overloaded one and a half times or more, every class its own lengths and prices."""
    draw = random.Random(classes * 10 + pools)
    return Problem(
        fleet="default/bench",
        charging=Charging.BUNDLED,
        pools=tuple(
            PoolInput(
                name=f"pool-{k}",
                ready=max(2, classes // 2),
                modes=(Mode(256, 15, 0.0333 * (1 + 0.3 * k)), Mode(0, 16, 0.022 * (1 + 0.2 * k))),
            )
            for k in range(pools)
        ),
        classes=tuple(_class(draw, i, pools) for i in range(classes)),
    )


def _class(draw: random.Random, i: int, pools: int) -> ClassInput:
    prompt = draw.uniform(200, 3000)
    return ClassInput(
        name=f"class-{i}",
        rate=draw.choice([0.25, 0.5]) * pools,
        prompt_tokens=prompt,
        uncached_prompt_tokens=prompt,
        output_tokens=draw.uniform(200, 3000),
        abandonment_rate=0.1,
        prompt_token_price=draw.uniform(0.05, 0.2),
        output_token_price=draw.uniform(0.1, 0.4),
    )


def processor_seconds() -> float:
    """Of this process, and of its children once they have ended (ours end with the call)."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def median_milliseconds(work: Callable[[], object], runs: int) -> Spent:
    work()
    walls, busy = [], []
    for _ in range(runs):
        begin, before = time.perf_counter(), processor_seconds()
        work()
        walls.append(time.perf_counter() - begin)
        busy.append(processor_seconds() - before)
    return Spent(1000 * statistics.median(walls), 1000 * statistics.median(busy))


def explained(problem: Problem) -> Explanation:
    """Build, solve, duals, proof, and the reasons behind them."""
    assert not problem.faults()
    found = answer(problem)
    assert found.is_optimal
    assert found.certificate is not None
    return explain(found.formulation, found.solution, found.certificate)


def highs(programs: list[Program], runs: list[int]) -> list[tuple[Spent, float]]:
    lines = [
        json.dumps(
            {
                "runs": count,
                "objective": program.objective.tolist(),
                "rows": program.entry_rows.tolist(),
                "columns": program.entry_columns.tolist(),
                "values": program.entries.tolist(),
                "upper": program.row_upper.tolist(),
                "equal": (program.row_lower == program.row_upper).tolist(),
            }
        )
        for program, count in zip(programs, runs, strict=True)
    ]
    run = subprocess.run(
        [sys.executable, "-c", HIGHS], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    return [(Spent(wall, cpu), value) for wall, cpu, value in map(json.loads, run.stdout.splitlines())]


def cbc(program: Program) -> float:
    """One solve with PuLP and CBC, its own building of rows included: it takes no matrix."""
    question = pulp.LpProblem("plan", pulp.LpMaximize)
    x = [pulp.LpVariable(f"x{j}", 0) for j in range(program.columns)]
    question += pulp.LpAffineExpression((x[j], c) for j, c in enumerate(program.objective.tolist()) if c)
    terms: list[list[tuple[pulp.LpVariable, float]]] = [[] for _ in range(program.rows)]
    for row, column, entry in zip(
        program.entry_rows.tolist(), program.entry_columns.tolist(), program.entries.tolist(), strict=True
    ):
        terms[row].append((x[column], entry))
    for row, low, high in zip(terms, program.row_lower.tolist(), program.row_upper.tolist(), strict=True):
        left = pulp.LpAffineExpression(row)
        question += (left == high) if low == high else (left <= high)
    question.solve(pulp.PULP_CBC_CMD(msg=False))
    return float(pulp.value(question.objective))


@pytest.mark.benchmark
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PuLP announces its next major version
def test_a_plan_is_made_in_milliseconds(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [instance(*size) for size in SIZES]
    programs = [formulate(problem).program for problem in problems]
    runs = [max(5, 2000 // classes) for classes, _ in SIZES]
    others = highs(programs, [max(3, count // 4) for count in runs])
    lines = [
        "medians in ms, on the clock and (of processors)",
        "answer: build + solve + duals + proof + explanation; plan: the same as a checked and digested document",
        f"classes x pools   bar {'answer':>17} {'plan':>17} {'HiGHS':>17} {'CBC':>17}",
    ]
    for size, problem, program, count, (of_highs, highs_value) in zip(
        SIZES, problems, programs, runs, others, strict=True
    ):
        times = min(count, 100)
        bare = median_milliseconds(lambda problem=problem: explained(problem), times)  # type: ignore[misc]  # bound now
        ours = median_milliseconds(lambda problem=problem: plan(problem, now=0.0), times)  # type: ignore[misc]  # bound now
        of_cbc = median_milliseconds(lambda program=program: cbc(program), 3)  # type: ignore[misc]  # bound now
        bar = BARS_MILLISECONDS.get(size)
        columns = "".join(f" {spent.wall:8.2f} ({spent.processor:6.2f})" for spent in (bare, ours, of_highs, of_cbc))
        lines.append(f"{size[0]:7d} x {size[1]}     {'' if bar is None else f'{bar:.0f}':>3} {columns}")
        outcome = plan(problem, now=0.0)
        assert outcome.plan is not None
        assert outcome.plan.value_per_second == pytest.approx(highs_value, rel=1e-6)
        assert outcome.plan.value_per_second == pytest.approx(cbc(program), rel=1e-5)
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
