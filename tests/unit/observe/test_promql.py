"""Queries quote what users name, and answers are decoded without losing the order of buckets."""

from __future__ import annotations

import json
import math
import re

from hypothesis import given
from hypothesis import strategies as st

from sluice.observe.promql import KEY_LABEL, Series, alternation, buckets, duration

NAMES = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Z")), min_size=1, max_size=12)


@given(keys=st.lists(NAMES, min_size=1, max_size=4), other=NAMES)
def test_an_alternation_matches_exactly_its_keys(keys: list[str], other: str) -> None:
    pattern = re.compile(json.loads(alternation(keys)))
    assert all(pattern.fullmatch(key) for key in keys)
    assert bool(pattern.fullmatch(other)) == (other in keys)


def test_durations_are_whole_milliseconds_and_never_nothing() -> None:
    assert duration(60) == "60000ms"
    assert duration(0.0001) == "1ms"


def test_buckets_come_in_order_of_their_bounds() -> None:
    series = [
        Series(labels={KEY_LABEL: "a", "le": bound}, value=1.0) for bound in ("+Inf", "10", "2.5", "nonsense"[:0])
    ]
    assert [bound for bound, _ in buckets(series)["a"]] == [2.5, 10.0, math.inf]
