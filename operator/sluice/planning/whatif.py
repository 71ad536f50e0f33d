"""The same problem with one number changed: what if, and how the plan changes along a range.

A question is written as people say it: ``chat=x1.5`` or ``chat=40`` for a demand, ``h100=+4``
or ``h100=12`` for replicas. A sweep names a quantity and a range: ``sli=ttft:chat:0.2..2.0``,
``demand=chat:0.5..2`` (factors), ``replicas=h100:2..8``, ``price=chat:0.5..2`` (factors).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from sluice.planning.problem import Problem
from sluice.planning.promises import Promise, PromiseKind

DEFAULT_POINTS = 25
_SWEEPS = {
    "sli": "sli=ttft:chat:0.2..2.0 (a promise's target)",
    "demand": "demand=chat:0.5..2 (times the estimate)",
    "replicas": "replicas=h100:2..8",
    "price": "price=chat:0.5..2 (times the declared)",
}
"""What can be swept, each with an example."""


LARGEST = 1e9
"""Requests per second, seconds or prices: beyond it no solver is precise, and the API takes no larger rate."""


class QuestionError(ValueError):
    """A question that cannot be asked of this problem; the message says why."""


def with_replicas(problem: Problem, question: str) -> Problem:
    """``pool=+4``, ``pool=-1`` or ``pool=12``."""
    name, text = _parts(question, "pool=+4 or pool=12")
    pool = next((pool for pool in problem.pools if pool.name == name and pool.external is None), None)
    if pool is None:
        known = ", ".join(pool.name for pool in problem.pools if pool.external is None)
        raise QuestionError(f"--replicas {question}: the fleet has no pool {name!r}; it has {known}")
    if not re.fullmatch(r"[+-]?\d{1,9}", text):
        raise QuestionError(f"--replicas {question}: {text!r} is no number of replicas; write +4, -1 or 12")
    ready = pool.ready + int(text) if text[0] in "+-" else int(text)
    if ready < 0:
        raise QuestionError(f"--replicas {question}: {name} has {pool.ready} replicas, {ready} would be left")
    return set_replicas(problem, name, ready)


def with_demand(problem: Problem, question: str) -> Problem:
    """``class=x1.5`` (a factor) or ``class=40`` (requests/s)."""
    name, text = _parts(question, "class=x1.5 or class=40")
    entry = next((entry for entry in problem.classes if entry.name == name), None)
    if entry is None:
        known = ", ".join(entry.name for entry in problem.classes)
        raise QuestionError(f"--demand {question}: the fleet has no class {name!r}; it has {known}")
    number = _number(text.removeprefix("x"), f"--demand {question}")
    rate = entry.rate * number if text.startswith("x") else number
    if rate > LARGEST:
        raise QuestionError(f"--demand {question}: {rate:.3g} requests/s are more than {LARGEST:.0e}")
    return set_rate(problem, name, rate)


def set_replicas(problem: Problem, name: str, ready: int) -> Problem:
    """The problem with ``ready`` replicas in one pool."""
    pools = tuple(replace(pool, ready=ready) if pool.name == name else pool for pool in problem.pools)
    return replace(problem, pools=pools)


def set_rate(problem: Problem, name: str, rate: float) -> Problem:
    """The problem with another rate of one class."""
    classes = tuple(replace(entry, rate=rate) if entry.name == name else entry for entry in problem.classes)
    return replace(problem, classes=classes)


@dataclass(frozen=True, slots=True)
class Sweep:
    """One quantity along a range."""

    title: str
    unit: str
    values: tuple[float, ...]
    problem_at: Callable[[float], Problem]


def sweep(problem: Problem, question: str) -> Sweep:
    """The sweep that ``question`` asks for."""
    kind, _, rest = question.partition("=")
    subject, _, span = rest.rpartition(":")
    if kind not in _SWEEPS or not subject:
        forms = [_SWEEPS[kind]] if kind in _SWEEPS else _SWEEPS.values()
        raise QuestionError(f"--sweep {question}: write {', '.join(forms)}; a range may end in a number of points: /50")
    low, high, points = _span(span, question)
    if kind == "sli":
        return _sli_sweep(problem, subject, question, _even(low, high, points))
    if kind == "replicas":
        pool = next((pool for pool in problem.pools if pool.name == subject and pool.external is None), None)
        if pool is None:
            raise QuestionError(f"--sweep {question}: the fleet has no pool {subject!r}")
        whole = tuple(float(n) for n in range(math.ceil(low), math.floor(high) + 1))
        if not whole:
            raise QuestionError(f"--sweep {question}: no whole number of replicas lies in the range")
        return Sweep(f"replicas of {subject}", "replicas", whole, lambda n: set_replicas(problem, subject, int(n)))
    entry = next((entry for entry in problem.classes if entry.name == subject), None)
    if entry is None:
        raise QuestionError(f"--sweep {question}: the fleet has no class {subject!r}")
    if kind == "demand":
        return Sweep(
            f"demand of {subject}", "x estimate", _even(low, high, points),
            lambda factor: set_rate(problem, subject, entry.rate * factor),
        )  # fmt: skip

    def priced(factor: float) -> Problem:
        classes = tuple(
            replace(
                other,
                prompt_token_price=other.prompt_token_price * factor,
                output_token_price=other.output_token_price * factor,
            )
            if other.name == subject
            else other
            for other in problem.classes
        )
        return replace(problem, classes=classes)

    return Sweep(f"prices of {subject}", "x declared", _even(low, high, points), priced)


def _sli_sweep(problem: Problem, subject: str, question: str, values: tuple[float, ...]) -> Sweep:
    """Move the target of a promise; one that was not made is made, hard."""
    from_kind, _, class_name = subject.partition(":")
    try:
        kind = PromiseKind(from_kind)
    except ValueError:
        known = ", ".join(PromiseKind)
        raise QuestionError(f"--sweep {question}: {from_kind!r} is no indicator; there are {known}") from None
    if class_name and class_name not in {entry.name for entry in problem.classes}:
        raise QuestionError(f"--sweep {question}: the fleet has no class {class_name!r}")
    own = [promise for promise in problem.promises if promise.name == subject]
    swept = own[0] if own else Promise(kind=kind, class_name=class_name or None, target=values[0])
    if (fault := swept.fault()) is not None:
        raise QuestionError(f"--sweep {question}: {subject} {fault}")
    others = tuple(promise for promise in problem.promises if promise is not swept)
    unit = "s" if kind.in_seconds else "share"
    return Sweep(
        f"{subject}", unit, values,
        lambda target: replace(problem, promises=(*others, replace(swept, target=target))),
    )  # fmt: skip


def _parts(question: str, example: str) -> tuple[str, str]:
    name, equals, text = question.partition("=")
    if not (name and equals and text):
        raise QuestionError(f"{question!r}: write {example}")
    return name, text


def _number(text: str, question: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise QuestionError(f"{question}: {text!r} is no number, such as 40 or 1.5") from None
    if not 0 <= number <= LARGEST:  # not a number is neither
        raise QuestionError(f"{question}: {text} must be a number from 0 to {LARGEST:.0e}")
    return number


def _span(text: str, question: str) -> tuple[float, float, int]:
    """``0.2..2.0`` or ``0.2..2.0/50`` (number of points)."""
    span, _, count = text.partition("/")
    low_text, dots, high_text = span.partition("..")
    if not dots:
        raise QuestionError(f"--sweep {question}: {text!r} is no range; write 0.2..2.0, or 0.2..2.0/50 for 50 points")
    low, high = _number(low_text, f"--sweep {question}"), _number(high_text, f"--sweep {question}")
    if low > high:
        raise QuestionError(f"--sweep {question}: the range runs backwards")
    points = int(_number(count, f"--sweep {question}")) if count else DEFAULT_POINTS
    if not 2 <= points <= 1000:
        raise QuestionError(f"--sweep {question}: {points} points; ask for 2 to 1000")
    return low, high, points


def _even(low: float, high: float, points: int) -> tuple[float, ...]:
    return tuple(low + (high - low) * k / (points - 1) for k in range(points))
