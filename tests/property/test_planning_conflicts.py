"""Promises that cannot hold together, by brute force: every subset of them is asked."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

from tests.contract.planning_instances import problem

from sluice.model.plan import Verdict
from sluice.planning import plan
from sluice.planning.answer import answer
from sluice.planning.conflict import within_reach
from sluice.planning.problem import Problem
from sluice.planning.promises import Promise, PromiseKind

SEEDS = 150
KINDS = (
    (PromiseKind.WAIT, 0.05, 4.0),
    (PromiseKind.TTFT, 0.3, 4.0),
    (PromiseKind.TPOT, 0.012, 0.06),
    (PromiseKind.SERVED, 0.3, 1.0),
    (PromiseKind.GUARANTEED, 0.3, 1.0),
)


def demanding(seed: int) -> Problem:
    """A random instance with five hard promises, tight enough that they clash more often than not."""
    draw = random.Random(-seed)
    entry = problem(seed)
    promises: dict[str, Promise] = {}
    while len(promises) < 5:
        kind, low, high = draw.choice(KINDS)
        promise = Promise(
            kind=kind,
            class_name=draw.choice(entry.classes).name,
            target=draw.uniform(low, high),
            importance=draw.randint(1, 3),
        )
        promises[promise.name] = promise
    return within_reach(replace(entry, promises=tuple(promises.values())))


def holds(entry: Problem, promises: tuple[Promise, ...]) -> bool:
    found = answer(replace(entry, promises=promises), ties=False)
    assert found.is_optimal or found.solution.verdict is Verdict.INFEASIBLE
    return found.is_optimal


def smallest_conflicts(entry: Problem) -> set[frozenset[str]]:
    """Every set of promises that cannot hold although each of its parts can."""
    found: set[frozenset[str]] = set()
    for size in range(1, len(entry.promises) + 1):
        for promises in combinations(entry.promises, size):
            names = frozenset(promise.name for promise in promises)
            if not any(known <= names for known in found) and not holds(entry, promises):
                found.add(names)
    return found


def test_every_named_conflict_is_one_of_the_smallest_and_none_is_left_out() -> None:
    wrong, sizes, several, apart = [], [], 0, 0
    for seed in range(SEEDS):
        entry = demanding(seed)
        if holds(entry, entry.promises):
            continue
        smallest = smallest_conflicts(entry)
        made = plan(entry, now=0.0).plan
        assert made is not None
        assert made.conflict is not None
        named = frozenset(made.conflict.promises)
        sets = [named, *(frozenset(line.split(", ")) for line in made.conflict.others)]
        sizes.append(len(named))
        several += len(smallest) > 1
        apart += len(sets) > 1
        wrong += [f"{seed}: {sorted(names)} is not minimal" for names in sets if names not in smallest]
        if len(frozenset.union(*sets)) < sum(map(len, sets)):
            wrong.append(f"{seed}: {sets} overlap")
        if unseen := [sorted(names) for names in smallest if not names & frozenset.union(*sets)]:
            wrong.append(f"{seed}: {unseen} are not seen")
    assert not wrong
    assert apart >= 5, "no instance has conflicts that have nothing in common"
    assert len(sizes) >= 30, "few instances clash"
    assert max(sizes) >= 2, "no conflict is between promises"
    assert several >= 5, "no instance has several conflicts"


def test_something_is_relaxed_in_every_conflict_and_named() -> None:
    """One relaxed promise may end several conflicts, but none may be left as it was."""
    clashes = 0
    for seed in range(SEEDS):
        entry = demanding(seed)
        if holds(entry, entry.promises):
            continue
        clashes += 1
        outcome = plan(entry, now=0.0)
        assert outcome.plan is not None, outcome.message
        assert outcome.plan.conflict is not None
        targets = {promise.name: promise.target for promise in entry.promises}
        changed = {kept.name for kept in outcome.plan.promises if kept.applied_target != targets[kept.name]}
        assert all(conflict & changed for conflict in smallest_conflicts(entry)), seed
        assert {words.rpartition(": ")[0] for words in outcome.plan.conflict.relaxed} >= changed, seed
    assert clashes >= 30
