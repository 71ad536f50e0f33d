"""Prices: between the finite differences for every kind of promise, and in the user's money whatever its unit."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.contract.planning_instances import problem

from sluice.model.plan import Verdict
from sluice.planning import plan
from sluice.planning.answer import answer
from sluice.planning.certificate import certify
from sluice.planning.problem import Problem
from sluice.planning.promises import PER_CLASS, Promise, PromiseKind

EXAMPLES = settings(max_examples=60, deadline=None)
SEEDS = 80
STEP = 1e-4
"""Relative to the target: small against what bends, large against rounding."""
TARGETS = {
    PromiseKind.WAIT: (0.2, 10.0),
    PromiseKind.TTFT: (0.3, 10.0),
    PromiseKind.SERVED: (0.1, 0.9),
    PromiseKind.GUARANTEED: (0.1, 0.9),
    PromiseKind.SERVED_FAIRNESS: (0.05, 0.9),
    PromiseKind.PREFILL_FAIRNESS: (0.01, 0.3),
    PromiseKind.DECODE_FAIRNESS: (0.1, 4.0),
}
"""Token times lie between the iteration times of a pool instead."""
KINDS = (*TARGETS, PromiseKind.TPOT, PromiseKind.SLOT_TPOT)


def promising(seed: int, kind: PromiseKind, *, hard: bool) -> Problem | None:
    """A random instance with one promise, or None where the promise is not defined for it."""
    draw = random.Random(f"{seed} {kind}")
    entry = problem(seed)
    names = [c.name for c in entry.classes if c.rate > 0]
    if kind.is_paper_form and any(len(pool.modes) != 2 for pool in entry.pools):
        return None
    if (kind in PER_CLASS and not names) or (kind is PromiseKind.SLOT_TPOT and not hard and len(entry.pools) > 1):
        return None
    seconds = [mode.seconds for mode in entry.pools[0].modes]
    own = kind in PER_CLASS or (kind is PromiseKind.TPOT and bool(names) and draw.random() < 0.5)
    promise = Promise(
        kind=kind,
        class_name=draw.choice(names) if own else None,
        target=draw.uniform(*TARGETS.get(kind, (min(seconds), max(seconds)))),
        hard=hard,
        penalty=0.0 if hard else 10 ** draw.uniform(0, 5),
    )
    return replace(entry, promises=(promise,))


def value(entry: Problem, loosened: float) -> float | None:
    """Best value with the only promise's target loosened by so much; None where it cannot hold."""
    (promise,) = entry.promises
    target = promise.target + (-loosened if promise.kind.is_floor else loosened)
    found = answer(replace(entry, promises=(replace(promise, target=target),)), ties=False)
    if found.solution.verdict is Verdict.INFEASIBLE:
        return None
    assert found.is_optimal
    return found.value


@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
def test_the_price_of_a_promise_lies_between_the_finite_differences(kind: PromiseKind, hard: bool) -> None:
    """What a little more room would earn is at most the price; what a little less would cost at least as much."""
    seen: Counter[str] = Counter()
    wrong = []
    for seed in range(SEEDS * (3 if kind.is_paper_form else 1)):
        entry = promising(seed, kind, hard=hard)
        here = None if entry is None else value(entry, 0.0)
        if entry is None or here is None:
            continue
        made = plan(entry, now=0.0).plan
        assert made is not None
        if made.conflict is not None:
            continue
        price = made.promises[0].price
        step = STEP * entry.promises[0].target
        looser, tighter = value(entry, step), value(entry, -step)
        assert looser is not None
        gain, loss = (looser - here) / step, np.inf if tighter is None else (here - tighter) / step
        room = 2e-3 * abs(price) + 1e-8 * max(1.0, abs(here)) / step
        seen["binding"] += price > room
        if not gain - room <= price <= loss + room:
            wrong.append(f"{seed}: {gain} <= {price} <= {loss}")
    assert not wrong
    assert seen["binding"] >= 3, "a price of nothing proves nothing"


def richer(entry: Problem, factor: float) -> Problem:
    """The same problem in another money."""
    return replace(
        entry,
        classes=tuple(
            replace(
                c, prompt_token_price=c.prompt_token_price * factor, output_token_price=c.output_token_price * factor
            )
            for c in entry.classes
        ),
        pools=tuple(
            replace(
                p,
                cost_per_hour=p.cost_per_hour * factor,
                transfer_cost_per_token=p.transfer_cost_per_token * factor,
                external=p.external
                and replace(
                    p.external,
                    prompt_token_cost=p.external.prompt_token_cost * factor,
                    output_token_cost=p.external.output_token_cost * factor,
                ),
            )
            for p in entry.pools
        ),
        promises=tuple(replace(p, penalty=p.penalty * factor) for p in entry.promises),
    )


@EXAMPLES
@given(st.integers(0, 10**6).map(problem), st.integers(-12, 12))
def test_doubling_money_doubles_every_dual_to_the_last_bit(entry: Problem, doublings: int) -> None:
    """By powers of two nothing rounds: another dual would mean that the plan depends on the unit of money."""
    factor = 2.0**doublings
    before, after = answer(entry, ties=False), answer(richer(entry, factor), ties=False)
    assume(before.is_optimal)
    assert np.array_equal(after.solution.dual, before.solution.dual * factor)
    assert np.array_equal(after.solution.primal, before.solution.primal)


@EXAMPLES
@given(st.integers(0, 10**6).map(problem), st.floats(0.01, 100.0))
def test_scaled_duals_prove_the_plan_in_the_other_money(entry: Problem, factor: float) -> None:
    """Where several prices are right, each money may show another: all of them must prove both plans."""
    before, after = answer(entry, ties=False), answer(richer(entry, factor), ties=False)
    assume(before.is_optimal)
    there = certify(after.formulation.program, after.solution.primal, before.solution.dual * factor)
    back = certify(before.formulation.program, before.solution.primal, after.solution.dual / factor)
    assert (there.failure, back.failure) == ("", "")
