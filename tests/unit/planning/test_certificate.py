"""The certificate must refuse every answer that is not optimal, and say where."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sluice.model.reasons import Reason
from sluice.planning import plan
from sluice.planning.certificate import certify
from sluice.planning.formulate import formulate
from sluice.planning.problem import Problem
from sluice.planning.program import Program, Vector
from sluice.planning.solver import Basis, Effort, Solution, solve

answering = importlib.import_module("sluice.planning.answer")

Instance = Callable[..., Problem]


def test_an_optimal_answer_holds(paper_instance: Instance) -> None:
    program = formulate(paper_instance()).program
    answer = solve(program)
    certificate = certify(program, answer.primal, answer.dual)
    assert certificate.holds
    assert certificate.primal_residual < 1e-12
    assert certificate.gap < 1e-12


def _no_more_than_half(primal: Vector, dual: Vector) -> tuple[Vector, Vector]:
    return primal / 2, dual


def _one_more_request(primal: Vector, dual: Vector) -> tuple[Vector, Vector]:
    return np.concatenate([primal[:1] + 1.0, primal[1:]]), dual


def _prices_of_zero(primal: Vector, dual: Vector) -> tuple[Vector, Vector]:
    return primal, np.zeros_like(dual)


def _negative_price(primal: Vector, dual: Vector) -> tuple[Vector, Vector]:
    return primal, np.concatenate([[-1.0], dual[1:]])


def _not_a_number(primal: Vector, dual: Vector) -> tuple[Vector, Vector]:
    return np.full_like(primal, np.nan), dual


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        pytest.param(_no_more_than_half, "differ", id="a feasible plan of half the value leaves a gap"),
        pytest.param(_one_more_request, "row", id="an infeasible plan names the row"),
        pytest.param(_prices_of_zero, "price", id="prices that do not cover a column name it"),
        pytest.param(_negative_price, "price of", id="a price of the wrong sign is named"),
        pytest.param(_not_a_number, "row", id="NaN is never optimal"),
    ],
)
def test_a_spoiled_answer_fails_and_says_where(
    paper_instance: Instance, spoil: Callable[[Vector, Vector], tuple[Vector, Vector]], where: str
) -> None:
    program = formulate(paper_instance()).program
    answer = solve(program)
    certificate = certify(program, *spoil(answer.primal, answer.dual))
    assert not certificate.holds
    assert where in certificate.failure


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        pytest.param(_one_more_request, "(1) admission[decode-heavy]", id="a solver that oversteps a row"),
        pytest.param(_negative_price, "the price of served[decode-heavy,pool-0]", id="a solver with wrong duals"),
    ],
)
def test_a_solver_that_errs_makes_no_plan_and_the_row_is_named(
    paper_instance: Instance,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Vector, Vector], tuple[Vector, Vector]],
    where: str,
) -> None:
    """Whatever it calls its answer: there is no plan to actuate."""

    def erring(program: Program, effort: Effort = Effort.USUAL, start: Basis | None = None) -> Solution:
        right = solve(program, effort, start)
        primal, dual = spoil(right.primal, right.dual)
        return replace(right, primal=primal, dual=dual)

    monkeypatch.setattr(answering, "solve", erring)
    monkeypatch.setattr(answering, "at_corner", lambda *_, **__: None)
    outcome = plan(paper_instance(rate=0.1), now=0.0)
    assert outcome.reason is Reason.CERTIFICATE_FAILED
    assert outcome.plan is None
    assert not outcome.may_actuate
    assert where in outcome.message
