"""Evaluates the CEL rules of a structural schema with cel-python: the server's text, the server's message."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import celpy
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError

from sluice.api.base import RULES_KEY
from sluice.api.schema import Schema
from sluice.api.structural import Problem


@functools.cache
def _program(expression: str) -> Any:
    """The compiled rule."""
    environment = celpy.Environment()
    return environment.program(environment.compile(expression))


def broken(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    """Every rule at and below ``path`` that does not hold. ``value`` has its defaults filled in."""
    for rule in schema.get(RULES_KEY, ()):
        if not _holds(rule["rule"], value):
            yield Problem(f"{path}: Invalid value: {rule['message']}")
    if isinstance(value, Mapping):
        for name, child in value.items():
            if name in schema.get("properties", ()):
                yield from broken(child, schema["properties"][name], f"{path}.{name}")
    elif isinstance(value, Sequence) and not isinstance(value, str) and "items" in schema:
        for index, child in enumerate(value):
            yield from broken(child, schema["items"], f"{path}[{index}]")


def _holds(expression: str, value: Any) -> bool:
    """Whether the rule holds; an evaluation error is a broken rule, as for the server."""
    try:
        return bool(_program(expression).evaluate({"self": json_to_cel(value)}))
    except CELEvalError:
        return False
