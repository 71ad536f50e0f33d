"""Few instant queries for many classes: how series are asked for, and how answers are read.

One query per source covers all its classes and all its terms. ``rate`` drops the name of
a series, so every term is labelled with its own name before the union; the label that
tells the class differs between series too and is copied to one name.

With the values comes the time of the newest point. ``timestamp()`` of a live series is
exact; a series whose target went away is marked stale and vanishes from instant vectors
at once, although a rate over the window is still told by what was scraped before. For
it the newest point is looked for on a grid in the past, fine inside the window and
coarse before it; the age is at most one grid step too high.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

KEY_LABEL = "sluice_key"
TERM_LABEL = "sluice_term"
NEWEST_SUFFIX = "@"
"""A term with this suffix carries the time of the newest point instead of a value."""
_SPECIAL = frozenset("\\.+*?()|[]{}^$")
_LEAST_LOOKBACK_SECONDS = 300.0
_LOOKBACK_STEP_SECONDS = 10
_WINDOW_POINTS = 60
"""Points on the grid that the newest point inside the window is looked for on."""
_MEAN_POINTS = 12
"""Points on the grid that a gauge's mean is taken over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One element of an instant vector."""

    labels: Mapping[str, str]
    value: float


class Shape(StrEnum):
    """What is made of a series."""

    RATE = "Rate"
    """A counter's growth per second over the window."""
    LARGEST_RATE = "LargestRate"
    """The same of the fastest series alone, for a counter that every label set counts as a whole."""
    MEAN = "Mean"
    """A gauge's mean over the window."""
    COUNT = "Count"
    """How many such series there are now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One series family that a signal is computed from."""

    name: str
    metric: str
    key: str
    """The label that tells the class."""
    shape: Shape = Shape.RATE
    matcher: str = ""
    """A further matcher, ``label="value"``."""
    dated: bool = False
    """Whether the time of the newest point is asked for too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """The decoded answer of one source: values and times of newest points by (key, term)."""

    values: Mapping[tuple[str, str], float] = field(default_factory=dict)
    newest: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def value(self, key: str, term: str) -> float | None:
        """The value of ``term`` for ``key``, or None."""
        return self.values.get((key, term))


def lookback_seconds(maximum_age_seconds: float) -> float:
    """How far back the newest point of a vanished series is looked for: old points are told from none."""
    return max(_LEAST_LOOKBACK_SECONDS, 2.0 * maximum_age_seconds)


def query(terms: Iterable[Term], keys: Iterable[str], *, window_seconds: float, maximum_age_seconds: float) -> str:
    """One instant query for all ``terms`` of all ``keys``."""
    alternatives = alternation(keys)
    parts: list[str] = []
    for term in terms:
        selector = _selector(term.metric, term.key, alternatives, term.matcher)
        parts.append(_labelled(_shaped(term.shape, selector, term.key, window_seconds), term.key, term.name))
        if term.dated:
            newest = _newest(selector, term.key, window_seconds, lookback_seconds(maximum_age_seconds))
            parts.append(_labelled(newest, term.key, term.name + NEWEST_SUFFIX))
    return "\nor ".join(parts)


def bucket_query(metric: str, key: str, keys: Iterable[str], *, matcher: str, window_seconds: float) -> str:
    """One instant query for a histogram's buckets, per second over the window."""
    selector = _selector(f"{metric}_bucket", key, alternation(keys), matcher)
    return _keyed(f"sum by ({key}, le) (rate({selector}[{duration(window_seconds)}]))", key)


def readings(series: Iterable[Series]) -> Readings:
    """Decode the answer to :func:`query`."""
    values: dict[tuple[str, str], float] = {}
    newest: dict[tuple[str, str], float] = {}
    for one in series:
        key, term = one.labels.get(KEY_LABEL, ""), one.labels.get(TERM_LABEL, "")
        if term.endswith(NEWEST_SUFFIX):
            newest[key, term.removesuffix(NEWEST_SUFFIX)] = one.value
        else:
            values[key, term] = one.value
    return Readings(values=values, newest=newest)


def buckets(series: Iterable[Series]) -> Mapping[str, tuple[tuple[float, float], ...]]:
    """Decode the answer to :func:`bucket_query`: per key, (upper bound, cumulative rate) in order of bounds."""
    found: dict[str, list[tuple[float, float]]] = {}
    for one in series:
        bound = one.labels.get("le", "")
        upper = math.inf if bound == "+Inf" else float(bound or "nan")
        if not math.isnan(upper):
            found.setdefault(one.labels.get(KEY_LABEL, ""), []).append((upper, one.value))
    return {key: tuple(sorted(pairs)) for key, pairs in found.items()}


def alternation(keys: Iterable[str]) -> str:
    """A quoted PromQL regular expression that matches exactly ``keys`` (a union of literals is cheap to match)."""
    escaped = ("".join(f"\\{sign}" if sign in _SPECIAL else sign for sign in key) for key in sorted(set(keys)))
    return json.dumps("|".join(escaped), ensure_ascii=False)


def duration(seconds: float) -> str:
    """A PromQL duration; whole milliseconds, at least one."""
    return f"{max(1, round(seconds * 1000))}ms"


def _selector(metric: str, key: str, alternatives: str, matcher: str) -> str:
    more = f",{matcher}" if matcher else ""
    return f'{{__name__="{metric}",{key}=~{alternatives}{more}}}'


def _shaped(shape: Shape, selector: str, key: str, window_seconds: float) -> str:
    window = duration(window_seconds)
    if shape is Shape.RATE:
        return f"sum by ({key}) (rate({selector}[{window}]))"
    if shape is Shape.LARGEST_RATE:
        return f"max by ({key}) (rate({selector}[{window}]))"
    if shape is Shape.MEAN:
        # Summed before it is averaged: a restarted proxy would count twice, as the old series and as the new one.
        return f"avg_over_time((sum by ({key}) ({selector}))[{window}:{duration(window_seconds / _MEAN_POINTS)}])"
    return f"count by ({key}) ({selector})"


def _newest(selector: str, key: str, window_seconds: float, back_seconds: float) -> str:
    at = f"timestamp({selector})"
    fine = f"{duration(window_seconds)}:{duration(window_seconds / _WINDOW_POINTS)}"
    coarse = f"{duration(back_seconds)}:{_LOOKBACK_STEP_SECONDS}s"
    return f"max by ({key}) ({at} or max_over_time({at}[{fine}]) or max_over_time({at}[{coarse}]))"


def _keyed(vector: str, key: str) -> str:
    return f'label_replace({vector}, "{KEY_LABEL}", "$1", "{key}", "(.*)")'


def _labelled(vector: str, key: str, term: str) -> str:
    return f'label_replace({_keyed(vector, key)}, "{TERM_LABEL}", "{term}", "", "")'
