"""A sweep that cannot be read is answered with what can be written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sluice.planning.problem import Problem
from sluice.planning.whatif import QuestionError, sweep, with_demand

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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1e300", "from 0 to 1e+09"),
        ("nan", "from 0 to 1e+09"),
        ("-1", "from 0 to 1e+09"),
        ("x1e9", "requests/s are more"),
        ("many", "such as 40"),
    ],
)
def test_a_demand_beyond_all_measure_is_refused(paper_instance: Instance, text: str, said: str) -> None:
    name = paper_instance().classes[0].name
    problem = with_demand(paper_instance(), f"{name}=40")
    with pytest.raises(QuestionError, match=said.replace("+", "[+]")):
        with_demand(problem, f"{name}={text}")
