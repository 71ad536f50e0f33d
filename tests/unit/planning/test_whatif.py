"""A sweep that cannot be read is answered with what can be written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sluice.planning.problem import Problem
from sluice.planning.whatif import QuestionError, sweep

Instance = Callable[..., Problem]


@pytest.mark.parametrize(
    ("question", "examples"),
    [
        pytest.param("foo", ("sli=", "demand=", "replicas=", "price="), id="no form at all names every form"),
        pytest.param("weather=chat:1..2", ("sli=", "demand=", "replicas=", "price="), id="an unknown quantity too"),
        pytest.param("demand", ("demand=chat:0.5..2",), id="a quantity alone shows how it goes on"),
        pytest.param("demand=chat", ("demand=chat:0.5..2",), id="a class without a range too"),
        pytest.param("replicas=2..4", ("replicas=h100:2..8",), id="a range of nothing too"),
    ],
)
def test_a_sweep_that_cannot_be_read_shows_the_forms_it_takes(
    paper_instance: Instance, question: str, examples: tuple[str, ...]
) -> None:
    with pytest.raises(QuestionError) as refused:
        sweep(paper_instance(), question)
    assert [
        form for form in ("sli=", "demand=", "replicas=", "price=") if form in str(refused.value).split("write")[1]
    ] == [example.partition("=")[0] + "=" for example in examples]
    assert all(example in str(refused.value) for example in examples)
