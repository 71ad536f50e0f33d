"""The certificate must refuse every answer that is not optimal, and say where."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sluice.planning.certificate import certify
from sluice.planning.formulate import formulate
from sluice.planning.problem import Problem
from sluice.planning.program import Vector
from sluice.planning.solver import solve

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
