"""The planner against an independent statement and an independent solver, on random instances over all features."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from tests.contract import planning_paces
from tests.contract.planning_instances import instance
from tests.contract.planning_paces import Paces

from sluice.model.plan import Verdict
from sluice.planning import plan
from sluice.planning.answer import Answer, answer
from sluice.planning.conflict import relaxed
from sluice.planning.problem import Problem

pytestmark = pytest.mark.timeout(600)
"""Half a minute of one idle core, much of it in a fixture."""

INSTANCES = 1000
TIED = 60
"""Instances whose paces are compared with a grid."""
GRID_POINTS = {1: 20, 2: 5}
"""Per pace, by how many there are."""
REFERENCE = Path(__file__).with_name("planning_reference.py")


def referenced(problems: Sequence[Problem], paces: Sequence[Paces] = ()) -> list[float | None]:
    """Best value of each problem at its paces by HiGHS, in a process of its own; None where nothing is feasible."""
    each = zip(problems, paces or [[]] * len(problems), strict=True)
    lines = "\n".join(json.dumps(asdict(entry) | {"paces": own}) for entry, own in each)
    run = subprocess.run(
        [sys.executable, str(REFERENCE)], input=lines, capture_output=True, text=True, check=True, timeout=600
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return [instance(seed) for seed in range(INSTANCES)]


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
        seen["requests stay"] += any(planning_paces.shares_iterations(entry, pool) for pool in entry.pools)
        seen["they stay in one pool and move in another"] += len({p.decodes_move for p in entry.pools}) > 1
        seen["they stay and it costs"] += any("requests stay" in note for note in found.notes)
        seen["table"] += any(len(p.modes) > 2 for p in entry.pools)
        for promise in entry.promises:
            seen[f"{'hard' if promise.hard else 'soft'} {promise.kind.value}"] += 1
    assert len(seen) >= 30
    assert min(seen.values()) >= 5, seen


def test_value_feasibility_and_duality_agree_with_an_independent_solver(
    problems: list[Problem], answers: list[Answer]
) -> None:
    """Where requests stay, at the paces that the plan chose: the program is linear then."""
    wrong = []
    paces = [planning_paces.of_plan(entry, found) for entry, found in zip(problems, answers, strict=True)]
    for seed, (found, best) in enumerate(zip(answers, referenced(problems, paces), strict=True)):
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


def test_no_paces_of_a_grid_earn_much_more_than_those_of_the_plan(
    problems: list[Problem], answers: list[Answer]
) -> None:
    """The best paces are no linear program's answer: the plan's are a local choice, nearly always the best of all."""
    asked: list[tuple[Problem, Paces]] = []
    places: list[tuple[int, slice]] = []
    for seed, (entry, found) in enumerate(zip(problems, answers, strict=True)):
        groups = len(planning_paces.tied(entry))
        if groups in GRID_POINTS and len(places) < TIED and any("requests stay" in note for note in found.notes):
            tried = [(entry, paces) for paces in planning_paces.grid(entry, GRID_POINTS[groups])]
            places.append((seed, slice(len(asked), len(asked) + len(tried))))
            asked += tried
    values = referenced([entry for entry, _ in asked], [paces for _, paces in asked])
    losses = np.array(
        [
            max(value for value in values[place] if value is not None) / answers[seed].value - 1
            for seed, place in places
            if any(value is not None for value in values[place])
        ]
    )
    assert len(losses) >= TIED / 2
    assert np.mean(losses > 1e-3) <= 0.03, sorted(losses)[-5:]
    assert losses.max() <= 0.02


def test_what_is_planned_in_a_conflict_is_the_best_of_the_relaxed_problem(
    problems: list[Problem], answers: list[Answer]
) -> None:
    clashing = [p for p, a in zip(problems, answers, strict=True) if a.solution.verdict is Verdict.INFEASIBLE]
    outcomes = [plan(entry, now=0.0) for entry in clashing]
    assert [outcome.verdict for outcome in outcomes] == [Verdict.OPTIMAL] * len(clashing)
    loose = [relaxed(entry)[0] for entry in clashing]
    applied = [outcome.applied for outcome in outcomes]
    assert None not in applied
    paces = [planning_paces.of_plan(entry, made) for entry, made in zip(loose, applied, strict=True) if made]
    best = referenced(loose, paces)
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
