"""How long a plan takes, beside two other solvers on the same program in the same run.

``make bench`` prints it. *Answer* is what the bars are for: build, solve, duals, certificate and
explanation. *Plan* is the whole call, with the document that is checked against its schema and
digested. The others get the finished matrix and only solve it and return
duals; HiGHS in a process of its own, because it cannot be imported beside OR-Tools. Beside
the time on the clock stands the processor time, which a busy machine distorts less.

Where requests stay on their replica the best pace of each pool is sought too. The others get the
program at the paces that were found, so they solve one of the linear programs that we solve.
"""

from __future__ import annotations

import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pulp
import pytest

from sluice.model.fleet import Charging
from sluice.planning import plan
from sluice.planning.answer import answer
from sluice.planning.explain import Explanation, explain
from sluice.planning.modes import Mode
from sluice.planning.problem import ClassInput, PoolInput, Problem
from sluice.planning.program import Program
from sluice.planning.promises import Promise, PromiseKind

SIZES = ((10, 1), (10, 3), (100, 1), (100, 3), (1000, 1), (1000, 3))
STAYING_SIZES = ((10, 1), (100, 3), (1000, 3))
AMPLE_TOKENS = 1e6
SCARCE_TOKENS = {(10, 1): 30e3, (100, 3): 33e3, (1000, 3): 36e3}
"""KV tokens of one engine: so many that they bind nowhere, and so few that a shared iteration time has its price."""
BARS_MILLISECONDS = {(10, 1): 1.0, (100, 3): 10.0, (1000, 3): 300.0}

HIGHS = """
import json, sys, time
import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, vstack
for line in sys.stdin:
    p = json.loads(line)
    spent = []
    for _ in range(p["runs"]):
        begin, busy = time.perf_counter(), time.process_time()
        a = csr_matrix((p["values"], (p["rows"], p["columns"])), shape=(len(p["upper"]), len(p["objective"])))
        low, high = np.array(p["lower"]), np.array(p["upper"])
        equal = low == high
        above, below = ~equal & np.isfinite(high), ~equal & np.isfinite(low)
        answer = linprog(-np.array(p["objective"]), A_ub=vstack([a[above], -a[below]]),
                         b_ub=np.concatenate([high[above], -low[below]]),
                         A_eq=a[equal], b_eq=high[equal], method="highs")
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
                "lower": program.row_lower.tolist(),
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
        question += (left == high) if low == high else (left <= high) if math.isfinite(high) else (left >= low)
    question.solve(pulp.PULP_CBC_CMD(msg=False))
    return float(pulp.value(question.objective))


def staying(size: tuple[int, int], kv_tokens: float) -> Problem:
    """The same fleet with requests that stay on the replica that prefilled them."""
    entry = instance(*size)
    pools = tuple(replace(pool, decodes_move=False, kv_token_capacity=kv_tokens) for pool in entry.pools)
    return replace(entry, pools=pools)


def promised(size: tuple[int, int]) -> Problem:
    """The same with a token time promised to one class, near the fastest iterations of the first pool."""
    entry = staying(size, AMPLE_TOKENS)
    first = entry.pools[0].modes
    target = 0.95 * min(mode.seconds for mode in first) + 0.05 * max(mode.seconds for mode in first)
    promises = (
        Promise(kind=PromiseKind.TPOT, class_name="class-0", target=target),
        # Without a floor the class would be refused, and the promise be kept at no cost.
        Promise(kind=PromiseKind.SERVED, class_name="class-0", target=0.3),
    )
    return replace(entry, promises=promises)


class Case(NamedTuple):
    """One row of the table."""

    what: str
    size: tuple[int, int]
    problem: Problem
    costs: bool = False
    """Whether requests that stay make the plan earn less."""


CASES = (
    *(Case("", size, instance(*size)) for size in SIZES),
    *(Case("requests stay, memory is ample", size, staying(size, AMPLE_TOKENS)) for size in STAYING_SIZES),
    *(Case("requests stay, memory binds", size, staying(size, SCARCE_TOKENS[size]), True) for size in STAYING_SIZES),
    *(Case("requests stay, a token time binds", size, promised(size), True) for size in STAYING_SIZES),
)


@pytest.mark.benchmark
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PuLP announces its next major version
def test_a_plan_is_made_in_milliseconds(capsys: pytest.CaptureFixture[str]) -> None:
    found = [answer(case.problem) for case in CASES]
    programs = [entry.formulation.program for entry in found]
    runs = [max(5, 2000 // case.size[0]) for case in CASES]
    others = highs(programs, [max(3, count // 4) for count in runs])
    lines = [
        "medians in ms, on the clock and (of processors)",
        "answer: build + solve + duals + proof + explanation; plan: the same as a checked and digested document",
        f"classes x pools   bar {'answer':>17} {'plan':>17} {'HiGHS':>17} {'CBC':>17}",
    ]
    for case, made, count, (of_highs, highs_value) in zip(CASES, found, runs, others, strict=True):
        problem, program, size = case.problem, made.formulation.program, case.size
        assert any("requests stay" in note for note in made.notes) is case.costs
        times = min(count, 100)
        bare = median_milliseconds(lambda problem=problem: explained(problem), times)  # type: ignore[misc]  # bound now
        ours = median_milliseconds(lambda problem=problem: plan(problem, now=0.0), times)  # type: ignore[misc]  # bound now
        of_cbc = median_milliseconds(lambda program=program: cbc(program), 3)  # type: ignore[misc]  # bound now
        bar = BARS_MILLISECONDS.get(size)
        columns = "".join(f" {spent.wall:8.2f} ({spent.processor:6.2f})" for spent in (bare, ours, of_highs, of_cbc))
        lines.append(f"{size[0]:7d} x {size[1]}     {'' if bar is None else f'{bar:.0f}':>3} {columns}  {case.what}")
        outcome = plan(problem, now=0.0)
        assert outcome.plan is not None
        assert outcome.plan.value_per_second == pytest.approx(highs_value, rel=1e-6)
        assert outcome.plan.value_per_second == pytest.approx(cbc(program), rel=1e-5)
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
