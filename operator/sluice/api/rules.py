"""Evaluates the CEL rules of a structural schema with cel-python: the server's text, the server's message."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import celpy
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError

from sluice.api.base import RULES_KEY
from sluice.api.schema import Schema
from sluice.api.structural import Problem

_REMEMBERED: Final = 32_768
"""Outcomes kept: some ten rules for each of a few thousand objects."""


@functools.cache
def _program(expression: str) -> Any:
    """The compiled rule."""
    environment = celpy.Environment()
    return environment.program(environment.compile(expression))


def broken(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    """Every rule at and below ``path`` that does not hold. ``value`` has its defaults filled in."""
    rules = schema.get(RULES_KEY, ())
    written = json.dumps(value, sort_keys=True) if rules else ""
    for rule in rules:
        if complaint := _complaint(rule["rule"], rule["message"], written):
            yield Problem(f"{path}: Invalid value: {complaint}")
    if isinstance(value, Mapping):
        for name, child in value.items():
            if name in schema.get("properties", ()):
                yield from broken(child, schema["properties"][name], f"{path}.{name}")
    elif isinstance(value, Sequence) and not isinstance(value, str) and "items" in schema:
        for index, child in enumerate(value):
            yield from broken(child, schema["items"], f"{path}[{index}]")


@functools.lru_cache(maxsize=_REMEMBERED)
def _complaint(rule: str, message: str, value: str) -> str:
    """The rule's message where it does not hold, else nothing; a rule that cannot be evaluated refuses too.

    Remembered by content: one evaluation takes about a millisecond, and a folder of
    manifests is read again in every pass.
    """
    try:
        holds = bool(_program(rule).evaluate({"self": json_to_cel(json.loads(value))}))
    except CELEvalError as error:
        return f"{error} evaluating rule: {message}"
    return "" if holds else message
