"""Counters become shares per pool: over a window, across restarts, from proxies and from engines."""

from __future__ import annotations

import pytest

from sluice.model.signal import Source
from sluice.observe.promql import Series
from sluice.observe.shares import SOURCE_LABEL, ShareMeter, engine_shares, engines_query

Reading = dict[tuple[str, str], float]
WINDOW = 60.0


def at(fast: float, slow: float) -> Reading:
    return {("fast", "10.0.0.1:80"): fast, ("slow", "10.0.0.2:80"): slow}


@pytest.mark.parametrize(
    ("readings", "requests", "since"),
    [
        pytest.param([(0, at(5, 5))], None, None, id="one reading tells nothing"),
        pytest.param([(0, at(5, 5)), (10, at(13, 7))], {"fast": 8, "slow": 2}, 0, id="growth is told"),
        pytest.param(
            [(0, at(5, 5)), (10, at(9, 5)), (20, at(13, 7))], {"fast": 8, "slow": 2}, 0, id="since the oldest reading"
        ),
        pytest.param(
            [(0, at(0, 0)), (70, at(100, 0)), (140, at(100, 7))],
            {"fast": 0, "slow": 7},
            70,
            id="what is older than the window is forgotten, but never the last reading before now",
        ),
        pytest.param(
            [(0, at(50, 50)), (10, at(1, 1)), (20, at(4, 2))],
            {"fast": 3, "slow": 1},
            10,
            id="a proxy that restarted counts anew",
        ),
        pytest.param([(0, at(50, 50)), (10, at(1, 1))], None, None, id="and tells nothing at first"),
        pytest.param([(0, {}), (10, at(1, 1))], None, None, id="a cluster without endpoints had no counters"),
        pytest.param(
            [(0, at(5, 5)), (10, {**at(7, 5), ("slow", "10.0.0.3:80"): 4})],
            {"fast": 2, "slow": 4},
            0,
            id="a replica that came began at zero",
        ),
        pytest.param(
            [(0, at(5, 5)), (10, {("fast", "10.0.0.1:80"): 7})],
            {"fast": 2},
            0,
            id="a replica that went takes its count along",
        ),
    ],
)
def test_growth_inside_the_window(
    readings: list[tuple[float, Reading]], requests: Reading | None, since: float | None
) -> None:
    meter = ShareMeter()
    for now, counts in readings:
        found = meter.read({"chat": counts}, now, window_seconds=WINDOW).get("chat")
    assert (found.requests if found else None, found.since_seconds if found else None) == (requests, since)


def test_engines_tell_classes_by_model_names_of_their_own() -> None:
    def grown(instance: str, model: str, value: float) -> Series:
        return Series(labels={"instance": instance, "model_name": model, SOURCE_LABEL: "SGLang"}, value=value)

    pool_of = {"a:1": "fast", "b:1": "slow"}
    series = [
        grown("a:1", "chat-8b", 30),
        grown("b:1", "chat-8b", 10),
        grown("a:1", "shared", 60),
        grown("x:1", "m", 9),
    ]
    by_class, of_all = engine_shares(series, pool_of, {"chat-8b": "chat"}, 940.0)
    assert {name: dict(one.requests) for name, one in by_class.items()} == {"chat": {"fast": 30, "slow": 10}}
    assert of_all is not None
    assert (dict(of_all.requests), of_all.source) == ({"fast": 90, "slow": 10}, Source.SGLANG)
    assert engine_shares([grown("x:1", "m", 9)], pool_of, {}, 940.0) == ({}, None)


def test_one_query_asks_all_engines() -> None:
    text = engines_query(["10.0.0.1:8000"], window_seconds=WINDOW)
    assert text.count("increase(") == 2
    assert r'"10\\.0\\.0\\.1:8000"' in text
