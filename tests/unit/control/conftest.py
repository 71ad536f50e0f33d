"""Operators around injected worlds, ended with their test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from tests.unit.control.pass_world import Here, Operator


@pytest.fixture
async def started() -> AsyncIterator[Callable[[Here], Operator]]:
    made: list[Operator] = []

    def start(here: Here) -> Operator:
        made.append(Operator(here))
        return made[-1]

    yield start
    for operator in made:
        operator.crews.close()
