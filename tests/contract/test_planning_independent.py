"""The planner against an independent statement and an independent solver, on random instances over all features."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.contract.planning_instances import problem

from sluice.model.plan import Verdict
from sluice.planning import plan
from sluice.planning.answer import Answer, answer
from sluice.planning.conflict import relaxed
from sluice.planning.problem import Problem

INSTANCES = 1000
REFERENCE = Path(__file__).with_name("planning_reference.py")


def referenced(problems: list[Problem]) -> list[float | None]:
    """Best value of each problem by HiGHS, in a process of its own; None where nothing is feasible."""
    lines = "\n".join(json.dumps(asdict(entry)) for entry in problems)
    run = subprocess.run(
        [sys.executable, str(REFERENCE)], input=lines, capture_output=True, text=True, check=True, timeout=600
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return [problem(seed) for seed in range(INSTANCES)]


@pytest.fixture(scope="module")
def answers(problems: list[Problem]) -> list[Answer]:
    return [answer(entry) for entry in problems]


def test_instances_cover_all_features(problems: list[Problem], answers: list[Answer]) -> None:
    seen: Counter[str] = Counter()
    for entry, found in zip(problems, answers, strict=True):
        seen[entry.charging.value] += 1
        seen["infeasible"] += found.solution.verdict is Verdict.INFEASIBLE
        seen["replica cost"] += entry.charge_replicas
        seen["theta = 0"] += any(c.abandonment_rate == 0 for c in entry.classes)
        seen["uncertain"] += any(c.rate_spread > 0 for c in entry.classes)
        seen["speculative"] += any(c.tokens_per_step > 1 for c in entry.classes)
        seen["admissibility"] += any(c.pools for c in entry.classes)
        seen["KV memory"] += any(p.kv_token_capacity is not None for p in entry.pools)
        seen["transfer"] += any(p.transfer_cost_per_token > 0 for p in entry.pools)
        seen["API"] += any(p.external is not None for p in entry.pools)
        seen["table"] += any(len(p.modes) > 2 for p in entry.pools)
        for promise in entry.promises:
            seen[f"{'hard' if promise.hard else 'soft'} {promise.kind.value}"] += 1
    assert len(seen) >= 30
    assert min(seen.values()) >= 5, seen


def test_value_feasibility_and_duality_agree_with_an_independent_solver(
    problems: list[Problem], answers: list[Answer]
) -> None:
    wrong = []
    for seed, (found, best) in enumerate(zip(answers, referenced(problems), strict=True)):
        if best is None or found.certificate is None:
            if best is not None or found.solution.verdict is not Verdict.INFEASIBLE:
                wrong.append(f"{seed}: {found.solution.verdict} against {best}")
            continue
        proof = found.certificate
        if abs(proof.value - best) > 1e-7 * max(1e-6, abs(best)):
            wrong.append(f"{seed}: {proof.value} against {best}")
        if not (proof.primal_residual <= 1e-9 and proof.dual_residual <= 1e-7 and proof.gap <= 1e-7):
            wrong.append(f"{seed}: {proof.failure}")
    assert not wrong


def test_what_is_planned_in_a_conflict_is_the_best_of_the_relaxed_problem(
    problems: list[Problem], answers: list[Answer]
) -> None:
    clashing = [p for p, a in zip(problems, answers, strict=True) if a.solution.verdict is Verdict.INFEASIBLE]
    outcomes = [plan(entry, now=0.0) for entry in clashing]
    assert [outcome.verdict for outcome in outcomes] == [Verdict.OPTIMAL] * len(clashing)
    best = referenced([relaxed(entry)[0] for entry in clashing])
    for entry, outcome, value in zip(clashing, outcomes, best, strict=True):
        assert outcome.plan is not None
        conflict = outcome.plan.conflict
        assert conflict is not None
        assert conflict.promises
        assert conflict.relaxed
        assert value is None or outcome.plan.value_per_second == pytest.approx(value, rel=1e-4, abs=1e-4), entry


def test_the_conflicting_set_is_minimal(problems: list[Problem], answers: list[Answer]) -> None:
    """By the other solver: the set alone cannot hold, and can as soon as any one promise is left out."""
    clashing = [p for p, a in zip(problems, answers, strict=True) if a.solution.verdict is Verdict.INFEASIBLE][:20]
    together, without = [], []
    for entry in clashing:
        outcome = plan(entry, now=0.0)
        assert outcome.plan is not None
        assert outcome.plan.conflict is not None
        names = set(outcome.plan.conflict.promises)
        members = [p for p in entry.promises if p.hard and p.name in names]
        others = [p for p in entry.promises if not p.hard]
        together.append(replace(entry, promises=(*members, *others)))
        for left in members:
            without.append(replace(entry, promises=(*(p for p in members if p is not left), *others)))
    values = referenced([*together, *without])
    assert values[: len(together)] == [None] * 20
    assert None not in values[len(together) :]
