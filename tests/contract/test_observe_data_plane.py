"""What a real Envoy counts and enforces, seen through a real Prometheus and through its admin port."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterator

import pytest
from tests.contract.observed_servers import (
    CLASSES,
    DOOMED,
    LAYER,
    Backend,
    Doomed,
    cluster,
    serving,
    until,
)
from tests.contract.observed_world import (
    World,
    address,
    bootstrap,
    fetch,
    fleet,
    free_port,
    observe,
    process,
    scraper,
)

from sluice.demo import programs
from sluice.model import naming
from sluice.model.signal import GapReason, Sample, Signal, Source
from sluice.observe.catalogue import FORWARDED, LISTENER_FORWARDED
from sluice.observe.envoy_admin import CONFIGURED, ROUTE, EnvoyAdmin
from sluice.observe.observer import Observer
from sluice.observe.prometheus import PrometheusClient
from sluice.observe.proxies import Proxies


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("observe")
    with serving(Backend) as backend, serving(Doomed) as doomed:
        told = folder / "admin"
        config = bootstrap(folder, int(backend.server_address[1]))
        envoy = (str(programs.envoy()), "-c", str(config), "--admin-address-path", str(told))
        with process(*envoy, "--concurrency", "1", "--use-dynamic-base-id", "-l", "off"):
            admin = until(lambda: told.read_text() if told.exists() else None, "Envoy's admin port")
            until(lambda: fetch(f"http://{admin}/ready")[0] == 200 or None, "Envoy to be ready")
            listeners = json.loads(fetch(f"http://{admin}/listeners?format=json")[1])["listener_statuses"]
            entry = listeners[0]["local_address"]["socket_address"]["port_value"]
            targets = {"envoy": admin, "engines": address(backend), "doomed": address(doomed)}
            with process(*scraper(folder, targets, port := free_port())):
                url = f"http://127.0.0.1:{port}"
                until(lambda: fetch(f"{url}/-/ready")[0] == 200 or None, "Prometheus to be ready")
                yield World(admin=admin, entry=f"http://127.0.0.1:{entry}", prometheus=url, doomed=doomed)


@pytest.fixture(scope="module")
def traffic(world: World) -> World:
    """The world after traffic of every kind, each request's fate asserted, all of it scraped."""
    scraped(world, "count_over_time(up[1m]) > 2", 9.0)
    chat, pending = cluster("chat"), cluster("pending")
    assert world.hold("chat", 5, lambda: world.stat(f"cluster.{chat}.upstream_rq_active_overflow") == 3) == [
        *(200, 200),
        *(503, 503, 503),
    ]
    assert world.hold("pending", 5, lambda: world.stat(f"cluster.{pending}.upstream_rq_pending_overflow") == 3) == [
        *(200, 200),
        *(503, 503, 503),
    ]
    assert world.send("code", times=5) == [200, 200, 200, 429, 429]
    assert world.send("retried", "/fail", times=2) == [503, 503]
    assert world.send("empty") + world.send("down") == [503, 503]
    assert world.send("other", times=4) == [200] * 4
    assert world.send("nobody", times=3) == [404] * 3
    scraped(world, f'envoy_http_no_route{{envoy_http_conn_manager_prefix="{naming.FILES_LISTENER_STAT_PREFIX}"}}', 3.0)
    return world


def scraped(world: World, series: str, at_least: float) -> None:
    """Wait until Prometheus holds ``series`` with a sum of at least so much."""

    async def total() -> float:
        client = PrometheusClient(world.prometheus)
        try:
            return sum(one.value for one in await client.query(series, time.time()))
        finally:
            await client.close()

    until(lambda: asyncio.run(total()) >= at_least or None, f"{series} >= {at_least} in Prometheus")


SENT = {"chat": 5, "pending": 5, "code": 3, "retried": 2, "empty": 1, "down": 1, "idle": 0, "other": 4}
"""Requests that reached the router, by class; two more of ``code`` met the rate limit before it."""


@pytest.mark.parametrize("name", SENT)
def test_each_request_is_counted_once_whatever_became_of_it(traffic: World, name: str) -> None:
    counted = traffic.counted()
    plus = sum(counted.value(cluster(name), term) or 0.0 for term in FORWARDED.plus)
    minus = sum(counted.value(cluster(name), term) or 0.0 for term in FORWARDED.minus)
    assert plus - minus == SENT[name]


def test_the_listener_counts_what_its_clusters_count(traffic: World) -> None:
    counted, key = traffic.counted(), naming.FILES_LISTENER_STAT_PREFIX
    forwarded = sum(counted.value(key, term) or 0.0 for term in LISTENER_FORWARDED.plus)
    forwarded -= sum(counted.value(key, term) or 0.0 for term in LISTENER_FORWARDED.minus)
    assert forwarded == sum(SENT.values())
    assert counted.value(key, "no_route") == 3


async def test_rates_of_a_real_prometheus(traffic: World) -> None:
    seen = await observe(traffic)
    assert not seen.problems
    rate = {
        name: {signal: sample.value for signal, sample in one.samples.items()} for name, one in seen.classes.items()
    }
    # One scrape dates all counters alike, so their ratios are exact whatever the window's edges do.
    unit = rate["empty"][Signal.OFFERED_RATE]
    assert unit == pytest.approx(0.1, rel=1.0)
    offered = {"chat": 5, "pending": 5, "code": 5, "retried": 2, "down": 1, "idle": 0}
    assert {name: rate[name][Signal.OFFERED_RATE] / unit for name in offered} == pytest.approx(offered)
    admitted = {"chat": 2, "pending": 2, "code": 3, "retried": 2, "empty": 0, "down": 0, "idle": 0}
    assert {name: rate[name][Signal.ADMITTED_RATE] / unit for name in admitted} == pytest.approx(admitted)
    refused = {"chat": 3, "pending": 3, "code": 2, "retried": 0, "empty": 0, "down": 0, "idle": 0}
    assert {name: rate[name][Signal.REFUSED_RATE] / unit for name in refused} == pytest.approx(refused)
    assert seen.unmatched_rate is not None
    assert seen.unmatched_rate.value / unit == pytest.approx(4)
    assert seen.unrouted_rate is not None
    assert seen.unrouted_rate.value / unit == pytest.approx(3)
    assert rate["idle"][Signal.IN_FLIGHT] == 0
    assert all(sample.age_seconds(time.time()) < 5 for one in seen.classes.values() for sample in one.samples.values())


@pytest.mark.parametrize(
    ("name", "signal", "value", "source"),
    [
        pytest.param("chat", Signal.PROMPT_TOKENS, 200, Source.VLLM, id="prompt tokens of an own model name in vLLM"),
        pytest.param("chat", Signal.TTFT, 0.4, Source.VLLM, id="mean TTFT in vLLM"),
        pytest.param("chat", Signal.TTFT_WITHIN, 0.4, Source.VLLM, id="share within the promise, between two bounds"),
        pytest.param("chat", Signal.TPOT, 0.02, Source.VLLM, id="time between tokens in vLLM"),
        pytest.param("chat", Signal.OUTPUT_TOKENS, 90, Source.ENDPOINT_PICKER, id="the endpoint picker goes first"),
        pytest.param("code", Signal.PROMPT_TOKENS, 300, Source.SGLANG, id="prompt tokens in SGLang"),
        pytest.param("code", Signal.UNCACHED_PROMPT_TOKENS, 200, Source.SGLANG, id="less what SGLang's cache held"),
        pytest.param("code", Signal.OUTPUT_TOKENS, 0, Source.SGLANG, id="a counter that stands still is zero"),
        pytest.param("code", Signal.TTFT, 0.5, Source.ENDPOINT_PICKER, id="only streaming answers have a TTFT"),
    ],
)
async def test_lengths_and_latencies(traffic: World, name: str, signal: Signal, value: float, source: Source) -> None:
    sample = (await observe(traffic)).classes[name].samples[signal]
    assert sample.value == pytest.approx(value)
    assert sample.source is source


async def test_a_mean_without_traffic_is_a_gap(traffic: World) -> None:
    gap = (await observe(traffic)).classes["idle"].gaps[Signal.OUTPUT_TOKENS]
    assert dict(gap.tried) == {
        Source.ENDPOINT_PICKER: GapReason.NOT_A_NUMBER,
        Source.VLLM: GapReason.NOT_CONFIGURED,
        Source.SGLANG: GapReason.NOT_CONFIGURED,
    }


async def test_points_from_before_are_stale_and_points_from_long_before_are_none(traffic: World) -> None:
    later = await observe(traffic, now=time.time() + 60)
    assert dict(later.classes["chat"].gaps[Signal.OFFERED_RATE].tried)[Source.ENVOY] is GapReason.STALE
    assert later.unmatched_rate is None
    much_later = await observe(traffic, now=time.time() + 3600)
    assert dict(much_later.classes["chat"].gaps[Signal.OFFERED_RATE].tried)[Source.ENVOY] is GapReason.NO_SERIES


def test_what_was_scraped_before_a_target_went_away_is_still_told_with_its_age(traffic: World) -> None:
    observed = fleet(traffic)

    async def requests() -> Sample | None:
        observer = Observer.of(observed)
        try:
            seen = await observer.observe(observed, (DOOMED,), time.time())
        finally:
            await observer.close()
        return seen.classes["doomed"].samples.get(Signal.ADMITTED_RATE)

    assert asyncio.run(requests()) is not None
    traffic.doomed.shutdown()
    traffic.doomed.server_close()
    scraped(traffic, 'up{job="doomed"} == bool 0', 1.0)
    sample = asyncio.run(requests())
    assert sample is not None
    assert sample.value == 0
    assert 0 < sample.age_seconds(time.time()) < 10


async def test_more_proxies_than_report_is_a_finding(traffic: World) -> None:
    observed = fleet(traffic)
    observer = Observer.of(observed)
    seen = await observer.observe(observed, CLASSES, time.time(), Proxies(ready=2))
    await observer.close()
    assert [finding.reason.value for finding in seen.problems] == ["ProxiesMiscounted"]


async def test_limits_are_read_back_with_the_layer_that_set_them(traffic: World) -> None:
    seen = (await EnvoyAdmin(traffic.admin).read()).enforced(cluster("chat"))
    assert (seen.in_flight, seen.origin, seen.refused) == (2, LAYER, 3)
    assert (seen.rate, seen.rate_origin) == (math.inf, ROUTE)
    code = (await EnvoyAdmin(traffic.admin).read()).enforced(cluster("code"))
    assert (code.in_flight, code.origin, code.refused) == (1024, CONFIGURED, 2)
    assert code.rate == pytest.approx(0.05)
    assert code.rate_origin == ROUTE


async def test_an_override_at_the_admin_port_shows_with_its_layer(traffic: World) -> None:
    breaker = f"circuit_breakers.{cluster('chat')}.default.max_requests"
    override(traffic, f"{breaker}=7&sluice.code.enforced=0")
    try:
        seen = (await observe(traffic)).enforced
        assert (seen["chat"].in_flight, seen["chat"].origin) == (7, "admin")
        assert (seen["code"].rate, seen["code"].rate_origin) == (math.inf, "admin")
    finally:
        override(traffic, f"{breaker}=&sluice.code.enforced=")
    assert (await observe(traffic)).enforced["chat"].in_flight == 2


def override(world: World, assignments: str) -> None:
    assert fetch(f"http://{world.admin}/runtime_modify?{assignments}", data=b"")[0] == 200
