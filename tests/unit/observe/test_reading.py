"""Answers of Prometheus become samples or gaps: what is missing is never zero."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.model.signal import GapReason, Sample, Signal, Source
from sluice.observe.catalogue import CATALOGUE, ENDPOINT_PICKER, ENVOY, PREFERENCE, VLLM, Entry
from sluice.observe.promql import Readings
from sluice.observe.reading import attribute_refusals, sample, share_within

NOW = 1000.0
KEY = "chat"


def readings(values: dict[str, float], newest: dict[str, float] | None = None) -> Readings:
    dates = dict.fromkeys(values, NOW) if newest is None else newest
    return Readings(
        values={(KEY, name): value for name, value in values.items()},
        newest={(KEY, name): date for name, date in dates.items()},
    )


def read(entry: Entry, signal: Signal, found: Readings) -> Sample | GapReason:
    source = next(source for source, one in CATALOGUE.items() if one is entry)
    return sample(entry.formulas[signal], found, KEY, source, now=NOW, maximum_age=60.0)


@pytest.mark.parametrize(
    ("entry", "signal", "found", "expected"),
    [
        pytest.param(
            ENVOY,
            Signal.OFFERED_RATE,
            readings({"total": 6.0, "active_overflow": 3.0, "limited": 2.0, "retry": 4.0}),
            7.0,
            id="offered is every first attempt, refused ones included, retries left out",
        ),
        pytest.param(
            ENVOY,
            Signal.OFFERED_RATE,
            readings({"total": 0.0}),
            0.0,
            id="a counter that exists and does not move is a rate of zero",
        ),
        pytest.param(ENVOY, Signal.ADMITTED_RATE, readings({"total": 6.0, "retry": 4.0}), 2.0, id="admitted once each"),
        pytest.param(
            ENVOY,
            Signal.ADMITTED_RATE,
            readings({"total": 1.0, "retry": 1.1}),
            0.0,
            id="a rate is never negative, though its terms may be cut at different points",
        ),
        pytest.param(
            ENVOY,
            Signal.REFUSED_RATE,
            readings({"total": 6.0, "active_overflow": 3.0, "pending_overflow": 1.0, "none_healthy": 9.0}),
            4.0,
            id="a missing endpoint is no refusal of our limits",
        ),
        pytest.param(ENVOY, Signal.OFFERED_RATE, Readings(), GapReason.NO_SERIES, id="no series is no sample"),
        pytest.param(
            ENVOY,
            Signal.OFFERED_RATE,
            readings({"active_overflow": 3.0}),
            GapReason.NO_SERIES,
            id="refusals alone do not make a rate",
        ),
        pytest.param(
            ENVOY,
            Signal.OFFERED_RATE,
            readings({}, {"total": NOW - 1}),
            GapReason.TOO_YOUNG,
            id="one point makes no rate",
        ),
        pytest.param(
            ENVOY,
            Signal.OFFERED_RATE,
            readings({"total": 5.0}, {"total": NOW - 61}),
            GapReason.STALE,
            id="a value whose newest point is too old is stale",
        ),
        pytest.param(
            ENVOY,
            Signal.OFFERED_RATE,
            readings({"total": math.nan}),
            GapReason.NOT_A_NUMBER,
            id="NaN is no sample",
        ),
        pytest.param(
            ENVOY,
            Signal.IN_FLIGHT,
            readings({"active": math.inf}),
            GapReason.NOT_A_NUMBER,
            id="infinity is no sample",
        ),
        pytest.param(
            VLLM,
            Signal.OUTPUT_TOKENS,
            readings({"output_sum": 500.0, "output_count": 2.0}),
            250.0,
            id="a mean is sum over count",
        ),
        pytest.param(
            VLLM,
            Signal.OUTPUT_TOKENS,
            readings({"output_sum": 0.0, "output_count": 0.0}),
            GapReason.NOT_A_NUMBER,
            id="a mean without traffic is no sample, not zero",
        ),
        pytest.param(
            VLLM,
            Signal.TPOT,
            readings({"old_tpot_sum": 1.0, "old_tpot_count": 20.0}),
            0.05,
            id="an older name of a series serves where the newer is absent",
        ),
        pytest.param(
            VLLM,
            Signal.TPOT,
            readings(
                {"itl_sum": 1.0, "itl_count": 50.0, "tpot_sum": 1.0, "tpot_count": 10.0},
            ),
            0.02,
            id="the mean over tokens goes before the mean over requests",
        ),
        pytest.param(
            VLLM,
            Signal.TPOT,
            readings({}, {"tpot_sum": NOW - 500, "tpot_count": NOW - 500}),
            GapReason.STALE,
            id="of several names the one that came closest tells why",
        ),
        pytest.param(
            VLLM,
            Signal.IN_FLIGHT,
            readings({"running": 3.0}),
            GapReason.NO_SERIES,
            id="requests that run are not all that are in flight",
        ),
        pytest.param(
            ENDPOINT_PICKER,
            Signal.UNCACHED_PROMPT_TOKENS,
            readings({"prompt_sum": 1000.0, "prompt_count": 2.0, "cached_sum": 600.0}),
            200.0,
            id="what the cache held is taken off the prompt",
        ),
        pytest.param(
            ENDPOINT_PICKER,
            Signal.UNCACHED_PROMPT_TOKENS,
            readings({"prompt_sum": 1000.0, "prompt_count": 2.0}),
            GapReason.NO_SERIES,
            id="without a count of cached tokens nothing says that all were computed",
        ),
        pytest.param(
            VLLM, Signal.COMPLETED_RATE, readings({"output_count": 2.0}), 2.0, id="answers that have a length are done"
        ),
        pytest.param(ENVOY, Signal.IN_FLIGHT, readings({"active": 2.5}), 2.5, id="in flight is a gauge's mean"),
    ],
)
def test_answers_become_samples_or_gaps(
    entry: Entry, signal: Signal, found: Readings, expected: float | GapReason
) -> None:
    outcome = read(entry, signal, found)
    if isinstance(outcome, Sample):
        assert outcome.value == pytest.approx(expected)
    else:
        assert outcome is expected


@pytest.mark.parametrize(("at_seconds", "age"), [(NOW - 7, 7), (NOW + 5, 0)], ids=["an old point", "a clock ahead"])
def test_a_sample_is_as_old_as_its_newest_point(at_seconds: float, age: float) -> None:
    found = readings({"output_sum": 5.0, "output_count": 1.0}, {"output_count": at_seconds})
    outcome = read(VLLM, Signal.OUTPUT_TOKENS, found)
    assert isinstance(outcome, Sample)
    assert outcome.age_seconds(NOW) == age
    assert outcome.at_seconds <= NOW
    assert outcome.source is Source.VLLM


def test_every_signal_but_the_replicas_has_an_order_of_sources() -> None:
    assert set(PREFERENCE) | {Signal.READY_REPLICAS} == set(Signal)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=[source.value for source in CATALOGUE])
def test_formulas_name_terms_that_are_asked_for(entry: Entry) -> None:
    terms = {term.name: term for term in entry.terms}
    assert len(terms) == len(entry.terms)
    for formulas in entry.formulas.values():
        for formula in formulas:
            assert {*formula.plus, *formula.minus, *formula.needs} <= set(terms)
            assert formula.per is None or formula.per == formula.dated_by
            assert terms[formula.dated_by].dated
    if entry.first_tokens:
        assert terms[entry.first_tokens.dated_by].dated


BUCKETS = ((0.1, 2.0), (0.5, 6.0), (1.0, 8.0), (math.inf, 10.0))


@pytest.mark.parametrize(
    ("promise", "share"),
    [
        pytest.param(0.5, 0.6, id="at a bound the share is the bucket's"),
        pytest.param(0.3, 0.4, id="between bounds observations are spread evenly"),
        pytest.param(0.05, 0.1, id="below the first bound too"),
        pytest.param(1.0, 0.8, id="at the last finite bound"),
        pytest.param(60.0, 0.8, id="beyond the last finite bound nothing is assumed"),
        pytest.param(0.0, 0.0, id="nothing is instant"),
    ],
)
def test_share_within_a_promise(promise: float, share: float) -> None:
    assert share_within(BUCKETS, promise) == pytest.approx(share)


@pytest.mark.parametrize(
    "buckets",
    [
        pytest.param((), id="no buckets"),
        pytest.param(((0.1, 0.0), (math.inf, 0.0)), id="no observations"),
        pytest.param(((0.1, 1.0), (1.0, 2.0)), id="no overall count"),
        pytest.param(((0.1, math.nan), (math.inf, math.nan)), id="NaN"),
    ],
)
def test_a_share_of_nothing_is_no_sample(buckets: tuple[tuple[float, float], ...]) -> None:
    assert share_within(buckets, 0.5) is None


@given(
    counts=st.lists(st.floats(0, 1e6), min_size=2, max_size=8),
    promises=st.tuples(st.floats(0, 20), st.floats(0, 20)),
)
def test_a_longer_promise_never_holds_for_fewer(counts: list[float], promises: tuple[float, float]) -> None:
    bounds = [*range(1, len(counts)), math.inf]
    running, buckets = 0.0, []
    for bound, count in zip(bounds, counts, strict=True):
        running += count
        buckets.append((float(bound), running))
    low, high = (share_within(buckets, promise) for promise in sorted(promises))
    if low is None or high is None:
        assert running == 0
    else:
        assert 0 <= low <= high + 1e-12 <= 1 + 1e-9


@pytest.mark.parametrize(
    ("admitted", "limits", "expected"),
    [
        pytest.param({"a": 1.0}, {"a": 5.0}, {"a": 12.0}, id="one limited class has refused all of it"),
        pytest.param(
            {"a": 5.0, "b": 1.0}, {"a": 5.0, "b": 5.0}, {"a": 12.0}, id="a class far below its limit refused nothing"
        ),
        pytest.param(
            {"a": 5.0, "b": 10.0}, {"a": 5.0, "b": 10.0}, {"a": 4.0, "b": 8.0}, id="full classes share by their limits"
        ),
        pytest.param({}, {}, {}, id="nobody is limited by us"),
    ],
)
def test_shared_refusals_go_to_the_classes_at_their_limit(
    admitted: dict[str, float], limits: dict[str, float], expected: dict[str, float]
) -> None:
    assert attribute_refusals(12.0, admitted, limits) == pytest.approx(expected)
