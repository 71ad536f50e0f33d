"""Envoy's admin pages become limits in force, each with who set it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sluice.model.snapshot import EnforcedLimit
from sluice.observe.envoy_admin import CONFIGURED, ROUTE, report

KEY = "circuit_breakers.a.default.max_requests"


def pages(**changes: Any) -> dict[str, Any]:
    """A proxy with one cluster ``a`` and a route to it."""
    cluster = {"name": "a", "circuit_breakers": {"thresholds": [{"max_requests": 9}, {"priority": "HIGH"}]}}
    return {
        "runtime": {"layers": ["base", "sluice", "admin"], "entries": {}},
        "clusters": {"cluster_statuses": [cluster]},
        "dynamic_routes": routes({"route": {"cluster": "a"}}),
        "static_routes": {},
        "stats": {"stats": []},
    } | changes


def runtime(**entries: tuple[list[str], str]) -> dict[str, Any]:
    return {
        "layers": ["base", "sluice", "admin"],
        "entries": {key: {"layer_values": values, "final_value": final} for key, (values, final) in entries.items()},
    }


def routes(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"configs": [{"route_config": {"virtual_hosts": [{"routes": list(rules)}]}}]}


def limited(**changes: Any) -> dict[str, Any]:
    always = {"runtime_key": "on", "default_value": {"numerator": 100}}
    limiter = {
        "stat_prefix": "a",
        "token_bucket": {"max_tokens": 8, "tokens_per_fill": 4, "fill_interval": "0.500s"},
        "filter_enabled": always,
        "filter_enforced": always,
    } | changes
    return {"route": {"cluster": "a"}, "typed_per_filter_config": {"envoy.filters.http.local_ratelimit": limiter}}


def limits(**changes: Any) -> EnforcedLimit:
    return report(pages(**changes)).enforced("a")


@pytest.mark.parametrize(
    ("entry", "origin"),
    [
        pytest.param((["", "5", ""], "5"), "sluice", id="our layer set it"),
        pytest.param((["", "5", "9"], "9"), "admin", id="an override goes before our layer"),
        pytest.param((["3", "", ""], "3"), "base", id="a layer below ours set it"),
    ],
)
def test_the_layer_that_set_a_breaker_is_named(entry: tuple[list[str], str], origin: str) -> None:
    page = {
        "layers": ["base", "sluice", "admin"],
        "entries": {KEY: {"layer_values": entry[0], "final_value": entry[1]}},
    }
    assert limits(runtime=page).origin == origin


def test_a_breaker_that_no_layer_sets_comes_from_the_cluster() -> None:
    found = limits()
    assert (found.in_flight, found.origin) == (9, CONFIGURED)


def test_a_threshold_of_zero_is_left_out_by_envoy_and_read_as_zero() -> None:
    closed = {"cluster_statuses": [{"name": "a", "circuit_breakers": {"thresholds": [{"max_connections": 1}]}}]}
    assert limits(clusters=closed).in_flight == 0


@pytest.mark.parametrize(
    ("rules", "page", "rate", "origin"),
    [
        pytest.param([{"route": {"cluster": "a"}}], runtime(), math.inf, ROUTE, id="no limit on the route"),
        pytest.param([limited()], runtime(), 8.0, ROUTE, id="refill per second"),
        pytest.param([limited(filter_enforced={})], runtime(), math.inf, ROUTE, id="a limit that is not enforced"),
        pytest.param([limited()], runtime(on=(["", "", "0"], "0")), math.inf, "admin", id="lifted by an override"),
        pytest.param([limited()], runtime(on=(["", "50", ""], "50")), None, "sluice", id="half enforced is unknown"),
        pytest.param([limited(), limited()], runtime(), 16.0, ROUTE, id="two routes have two buckets"),
        pytest.param([limited(), {"route": {"cluster": "a"}}], runtime(), math.inf, ROUTE, id="one of two unlimited"),
        pytest.param([{"route": {"cluster": "b"}}], runtime(), None, "", id="no route leads to the cluster"),
        pytest.param([{"direct_response": {"status": 200}}], runtime(), None, "", id="a route without a cluster"),
    ],
)
def test_the_rate_limit_in_force(
    rules: list[dict[str, Any]], page: dict[str, Any], rate: float | None, origin: str
) -> None:
    found = limits(dynamic_routes=routes(*rules), runtime=page)
    assert (found.rate, found.rate_origin) == (rate, origin)


def test_refusals_of_breaker_and_rate_limit_add_up() -> None:
    stats = [
        {"name": "cluster.a.upstream_rq_active_overflow", "value": 3},
        {"name": "cluster.a.upstream_rq_pending_overflow", "value": 1},
        {"name": "a.http_local_rate_limit.enforced", "value": 2},
        {"name": "b.http_local_rate_limit.enforced", "value": 9},
        {"histograms": {}},
    ]
    assert limits(dynamic_routes=routes(limited()), stats={"stats": stats}).refused == 6


def test_a_cluster_that_the_proxy_does_not_have_is_not_known() -> None:
    assert not report(pages()).knows("b")
