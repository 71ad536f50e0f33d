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
        if complaint := _complaint(rule, value):
            yield Problem(f"{path}: Invalid value: {complaint}")
    if isinstance(value, Mapping):
        for name, child in value.items():
            if name in schema.get("properties", ()):
                yield from broken(child, schema["properties"][name], f"{path}.{name}")
    elif isinstance(value, Sequence) and not isinstance(value, str) and "items" in schema:
        for index, child in enumerate(value):
            yield from broken(child, schema["items"], f"{path}[{index}]")


def _complaint(rule: Mapping[str, str], value: Any) -> str:
    """The rule's message where it does not hold, else nothing; a rule that cannot be evaluated refuses too."""
    try:
        holds = bool(_program(rule["rule"]).evaluate({"self": json_to_cel(value)}))
    except CELEvalError as error:
        return f"{error} evaluating rule: {rule['message']}"
    return "" if holds else rule["message"]
