"""Requests that stay on their engine: what it takes to find the pace they share."""

from __future__ import annotations

import importlib
import random
from dataclasses import replace
from typing import NoReturn

import numpy as np
import pytest

from sluice.model.fleet import Charging
from sluice.planning.answer import answer
from sluice.planning.modes import Mode
from sluice.planning.paced import Paced
from sluice.planning.problem import ClassInput, PoolInput, Problem
from sluice.planning.promises import Promise, PromiseKind
from sluice.planning.solver import solve

answering, searching = map(importlib.import_module, ("sluice.planning.answer", "sluice.planning.pace_search"))

FAST, SLOW = 0.022, 0.0333
"""Seconds of an iteration without and with a prefill."""


def fleet(seed: int, *, kv_tokens: float, promises: tuple[Promise, ...] = (), classes: int = 6) -> Problem:
    """One overloaded pool whose requests stay, every class its own lengths and prices."""
    draw = random.Random(seed)
    return Problem(
        fleet="default/staying",
        charging=Charging.BUNDLED,
        pools=(
            PoolInput(
                name="pool",
                ready=3,
                modes=(Mode(256, 15, SLOW), Mode(0, 16, FAST)),
                decodes_move=False,
                kv_token_capacity=kv_tokens,
            ),
        ),
        classes=tuple(
            ClassInput(
                name=f"class-{i}",
                rate=draw.uniform(0.3, 0.9),
                prompt_tokens=(prompt := draw.uniform(200, 3000)),
                uncached_prompt_tokens=prompt,
                output_tokens=draw.uniform(200, 3000),
                abandonment_rate=0.1,
                prompt_token_price=draw.uniform(0.05, 0.2),
                output_token_price=draw.uniform(0.1, 0.4),
            )
            for i in range(classes)
        ),
        promises=promises,
    )


def promised(share: float, floor: float) -> tuple[Promise, ...]:
    """A token time of the first class, ``share`` of the way from the fastest iterations to the slowest, and a floor."""
    target = FAST + share * (SLOW - FAST)
    return (
        Promise(kind=PromiseKind.TPOT, class_name="class-0", target=target),
        Promise(kind=PromiseKind.SERVED, class_name="class-0", target=floor),
    )


@pytest.fixture
def no_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks the solver fails."""

    def asked(*_: object) -> NoReturn:
        raise AssertionError("the solver was asked")

    monkeypatch.setattr(answering, "solve", asked)
    monkeypatch.setattr(searching, "solve", asked)


@pytest.mark.usefixtures("no_solver")
@pytest.mark.parametrize("seed", range(5))
def test_where_memory_is_ample_at_the_slowest_pace_the_guess_is_the_answer(seed: int) -> None:
    found = answer(fleet(seed, kv_tokens=1e6))
    assert found.is_optimal
    assert found.notes == ()
    assert found.formulation.paces == (SLOW,)


@pytest.mark.parametrize("seed", range(5))
def test_a_promised_token_time_of_one_pool_is_its_pace_without_a_search(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def searched(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a pace was sought")

    monkeypatch.setattr(searching, "_settled", searched)
    found = answer(fleet(seed, kv_tokens=1e6, promises=promised(0.04, 0.5)))
    assert found.is_optimal
    assert found.formulation.paces[0] == pytest.approx(FAST + 0.04 * (SLOW - FAST))
    assert found.notes != ()


@pytest.mark.parametrize("kv_tokens", [1e6, 30e3, 20e3])
@pytest.mark.parametrize("share", [0.02, 0.2])
@pytest.mark.parametrize("floor", [0.0, 0.3, 0.9])
def test_no_pace_of_one_pool_earns_more_than_the_one_found(kv_tokens: float, share: float, floor: float) -> None:
    for seed in range(3):
        entry = fleet(seed, kv_tokens=kv_tokens, promises=promised(share, floor))
        found, paced = answer(entry), Paced.of(entry)
        tried = [solve(paced.at(np.array([pace])).program) for pace in np.linspace(FAST, SLOW, 31)]
        values = [
            float(paced.formulation.program.objective @ each.primal) for each in tried if each.verdict.may_actuate
        ]
        assert found.is_optimal or not values
        assert not values or found.value >= max(values) * (1 - 1e-6), (seed, found.value, max(values))


def test_what_a_pace_overfills_is_seen_before_it_is_proved() -> None:
    entry = fleet(1, kv_tokens=20e3)
    paced = Paced.of(entry)
    ample = solve(Paced.of(replace(entry, pools=(replace(entry.pools[0], kv_token_capacity=1e6),))).relaxed().program)
    assert paced.is_overfilled(ample.primal, paced.highest)
    assert not paced.is_overfilled(np.zeros(len(ample.primal)), paced.highest)
    assert not paced.is_overfilled(solve(paced.relaxed().program).primal, paced.lowest)
