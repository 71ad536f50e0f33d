"""What a real Envoy counts and enforces, seen through a real Prometheus and through its admin port."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sluice.demo import programs
from sluice.model import naming
from sluice.model.fleet import (
    DataPlane,
    DataPlaneKind,
    Fleet,
    Hardness,
    MetricsSettings,
    Sli,
    SliSignal,
    SliStatistic,
    WorkloadClass,
)
from sluice.model.signal import GapReason, Sample, Signal, Source
from sluice.model.snapshot import Observation
from sluice.observe.catalogue import ENVOY, FORWARDED, LISTENER, LISTENER_FORWARDED, PROXIES
from sluice.observe.envoy_admin import CONFIGURED, ROUTE, EnvoyAdmin
from sluice.observe.observer import Observer
from sluice.observe.prometheus import PrometheusClient
from sluice.observe.promql import Readings
from sluice.observe.proxies import Proxies

T = TypeVar("T")
NAMESPACE = "default"
PATIENCE_SECONDS = 15.0
SCRAPE = "200ms"
PROMISE_SECONDS = 0.3
LAYER = "sluice"


def until(told: Callable[[], T | None], what: str) -> T:
    """Ask again until there is an answer."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = threading.Event()
    while time.monotonic() < deadline:
        if answer := told():
            return answer
        pause.wait(0.02)
    raise AssertionError(f"waited in vain for {what}")


def workload(name: str, model: str | None = None) -> WorkloadClass:
    promise = Sli(
        signal=SliSignal.TTFT,
        statistic=SliStatistic.MEAN,
        target_seconds=PROMISE_SECONDS,
        fraction=None,
        hardness=Hardness.SOFT,
        penalty=0.0,
    )
    return WorkloadClass(
        name=name,
        prompt_token_price=1.0,
        output_token_price=1.0,
        prior_rate=1.0,
        prior_prompt_tokens=1.0,
        prior_output_tokens=1.0,
        served_model_name=model,
        fairness_id=name,
        slis=(promise,),
    )


CLASSES = (
    workload("chat", "model-vllm"),
    workload("code", "model-sglang"),
    workload("retried"),
    workload("pending"),
    workload("empty"),
    workload("down"),
    workload("idle"),
)


def cluster(name: str) -> str:
    return naming.files_cluster(NAMESPACE, name)


DOOMED = workload("doomed")


class Doomed(BaseHTTPRequestHandler):
    """An endpoint picker that will go away."""

    def do_GET(self) -> None:
        body = b'llm_d_epp_request_total{fairness_id="doomed"} 7\n'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[ThreadingHTTPServer]:
    """A local server in threads of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Exporter:
    """Counters of engines and of an endpoint picker that grow by the same step at every scrape."""

    STEP: ClassVar[Mapping[str, float]] = {
        'vllm:request_success_total{model_name="model-vllm",finished_reason="stop"}': 1,
        'vllm:request_prompt_tokens_sum{model_name="model-vllm"}': 200,
        'vllm:request_prompt_tokens_count{model_name="model-vllm"}': 1,
        'vllm:time_to_first_token_seconds_sum{model_name="model-vllm"}': 4.0,
        'vllm:time_to_first_token_seconds_count{model_name="model-vllm"}': 10,
        'vllm:time_to_first_token_seconds_bucket{model_name="model-vllm",le="0.1"}': 2,
        'vllm:time_to_first_token_seconds_bucket{model_name="model-vllm",le="0.5"}': 6,
        'vllm:time_to_first_token_seconds_bucket{model_name="model-vllm",le="+Inf"}': 10,
        'vllm:inter_token_latency_seconds_sum{model_name="model-vllm"}': 1.0,
        'vllm:inter_token_latency_seconds_count{model_name="model-vllm"}': 50,
        'sglang:num_requests_total{model_name="model-sglang"}': 2,
        'sglang:prompt_tokens_total{model_name="model-sglang"}': 600,
        'sglang:cached_tokens_total{model_name="model-sglang",cache_source="device"}': 200,
        'sglang:generation_tokens_total{model_name="model-sglang"}': 0,
        'llm_d_epp_request_output_tokens_sum{fairness_id="chat",model_name="m"}': 90,
        'llm_d_epp_request_output_tokens_count{fairness_id="chat",model_name="m"}': 1,
        'llm_d_epp_request_ttft_seconds_sum{fairness_id="code",streaming="true"}': 0.5,
        'llm_d_epp_request_ttft_seconds_count{fairness_id="code",streaming="true"}': 1,
        'llm_d_epp_request_ttft_seconds_sum{fairness_id="code",streaming="false"}': 99,
        'llm_d_epp_request_ttft_seconds_count{fairness_id="code",streaming="false"}': 1,
        'llm_d_epp_request_output_tokens_sum{fairness_id="idle"}': 0,
        'llm_d_epp_request_output_tokens_count{fairness_id="idle"}': 0,
    }

    def __init__(self) -> None:
        self._scrapes = 0

    def page(self) -> str:
        self._scrapes += 1
        return "".join(f"{name} {self._scrapes * step}\n" for name, step in self.STEP.items())


class Backend(BaseHTTPRequestHandler):
    """Answers at once, holds (``/hold``), fails (``/fail``) or exports (``/metrics``)."""

    protocol_version = "HTTP/1.1"
    released: ClassVar[threading.Event] = threading.Event()
    exporter: ClassVar[Exporter] = Exporter()

    def do_GET(self) -> None:
        if self.path == "/hold":
            self.released.wait(PATIENCE_SECONDS)
        body = self.exporter.page().encode() if self.path == "/metrics" else b"ok"
        self.send_response(503 if self.path == "/fail" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def process(*command: str) -> Iterator[None]:
    """A program that ends with the block."""
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(5)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def fetch(url: str, headers: Mapping[str, str] | None = None, *, data: bytes | None = None) -> tuple[int, str]:
    """Status and body; 0 where nothing listens."""
    request = urllib.request.Request(url, headers=dict(headers or {}), data=data)  # noqa: S310 - an own address
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:  # noqa: S310 - an own address
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""
    except OSError:
        return 0, ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class World:
    """The running parts."""

    admin: str
    entry: str
    prometheus: str
    doomed: ThreadingHTTPServer

    def send(self, name: str, path: str = "/", times: int = 1) -> list[int]:
        """Status codes of ``times`` requests at once."""
        with ThreadPoolExecutor(times) as pool:
            return sorted(pool.map(lambda _: fetch(self.entry + path, {"x-class": name})[0], range(times)))

    def stat(self, name: str) -> int:
        page = json.loads(fetch(f"http://{self.admin}/stats?format=json&filter=^{name}$")[1])
        return int(next((one["value"] for one in page["stats"] if one.get("name") == name), 0))

    def hold(self, name: str, times: int, settled: Callable[[], bool]) -> list[int]:
        """``times`` requests at once, let go when ``settled``."""
        Backend.released.clear()
        with ThreadPoolExecutor(1) as pool:
            answers = pool.submit(self.send, name, "/hold", times)
            until(lambda: settled() or None, f"{times} requests of {name} to settle")
            Backend.released.set()
            return answers.result()

    def counted(self) -> Readings:
        """Envoy's counters as they are, under the names that the catalogue asks Prometheus for."""
        found: dict[tuple[str, str], float] = {}
        page = fetch(f"http://{self.admin}/stats/prometheus")[1]
        # Without the types: the parser would put "_total" behind the name of every counter.
        text = "".join(line for line in page.splitlines(keepends=True) if not line.startswith("#"))
        terms = [term for term in (*ENVOY.terms, *LISTENER.terms) if term.name != PROXIES]
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                for term in terms:
                    if term.metric == one.name and term.key in one.labels:
                        found[one.labels[term.key], term.name] = one.value
        return Readings(values=found, newest=dict.fromkeys(found, 0.0))


def route(name: str, **action: Any) -> dict[str, Any]:
    limiter = action.pop("limiter", None)
    rule: dict[str, Any] = {
        "match": {"prefix": "/", "headers": [{"name": "x-class", "string_match": {"exact": name}}]},
        "route": {"cluster": cluster(name), "timeout": "0s", **action},
    }
    if limiter:
        rule["typed_per_filter_config"] = {"envoy.filters.http.local_ratelimit": limiter}
    return rule


def limiter(name: str, tokens: int) -> dict[str, Any]:
    def always(key: str) -> dict[str, Any]:
        return {"runtime_key": f"sluice.{name}.{key}", "default_value": {"numerator": 100}}

    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": naming.rate_limit_stat_prefix(cluster(name)),
        "token_bucket": {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": "60s"},
        "filter_enabled": always("enabled"),
        "filter_enforced": always("enforced"),
    }


def upstream(name: str, port: int | None, **more: Any) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [] if port is None else [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "name": cluster(name),
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": cluster(name), "endpoints": endpoints},
        **more,
    }


def bootstrap(folder: Path, backend: int) -> Path:
    """An Envoy like our file data plane's: routes from a file, limits in a runtime layer."""
    extensions = "type.googleapis.com/envoy.extensions.filters"
    table = {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": "sluice",
        "virtual_hosts": [
            {
                "name": "all",
                "domains": ["*"],
                "routes": [
                    route("chat"),
                    route("code", limiter=limiter("code", 3)),
                    route("retried", retry_policy={"retry_on": "5xx", "num_retries": 2}),
                    *(route(name) for name in ("pending", "empty", "down", "idle", "other")),
                ],
            }
        ],
    }
    (folder / "rds.json").write_text(json.dumps({"resources": [table]}))
    manager = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": naming.FILES_LISTENER_STAT_PREFIX,
        "rds": {"route_config_name": "sluice", "config_source": {"path_config_source": {"path": f"{folder}/rds.json"}}},
        "http_filters": [
            {
                "name": "envoy.filters.http.local_ratelimit",
                "typed_config": {
                    "@type": f"{extensions}.http.local_ratelimit.v3.LocalRateLimit",
                    "stat_prefix": "unlimited",
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{extensions}.http.router.v3.Router"},
            },
        ],
    }
    local = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    narrow = {"thresholds": [{"max_connections": 1, "max_pending_requests": 1}]}
    limits = {"circuit_breakers": {cluster("chat"): {"default": {"max_requests": 2}}}}
    config = {
        "node": {"id": "sluice", "cluster": "sluice"},
        "admin": {"address": local},
        "layered_runtime": {"layers": [{"name": LAYER, "static_layer": limits}, {"name": "admin", "admin_layer": {}}]},
        "static_resources": {
            "listeners": [
                {
                    "name": "sluice",
                    "address": local,
                    "filter_chains": [
                        {
                            "filters": [
                                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                *(upstream(name, backend) for name in ("chat", "code", "retried", "idle", "other")),
                upstream("pending", backend, circuit_breakers=narrow),
                upstream("empty", None),
                upstream("down", 1),
            ],
        },
    }
    path = folder / "bootstrap.json"
    path.write_text(json.dumps(config))
    return path


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


def address(server: ThreadingHTTPServer) -> str:
    return f"127.0.0.1:{server.server_address[1]}"


def scraper(folder: Path, targets: Mapping[str, str], port: int) -> tuple[str, ...]:
    """A Prometheus that scrapes ``targets``, each as a job of its name."""
    jobs = [
        {
            "job_name": name,
            "metrics_path": "/stats/prometheus" if name == "envoy" else "/metrics",
            "static_configs": [{"targets": [target]}],
        }
        for name, target in targets.items()
    ]
    settings = {"global": {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE}, "scrape_configs": jobs}
    (folder / "prometheus.json").write_text(json.dumps(settings))
    return (
        str(programs.prometheus()),
        f"--config.file={folder}/prometheus.json",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    )


def fleet(world: World, **changes: Any) -> Fleet:
    metrics = MetricsSettings(
        prometheus_url=world.prometheus, window_seconds=10.0, maximum_age_seconds=10.0, timeout_seconds=5.0
    )
    return Fleet(
        namespace=NAMESPACE,
        name="demo",
        pools=(),
        data_plane=DataPlane(kind=DataPlaneKind.ENVOY_FILES, admin_address=world.admin),
        metrics=replace(metrics, **changes),
    )


async def observe(world: World, now: float | None = None, **changes: Any) -> Observation:
    observed = fleet(world, **changes)
    observer = Observer.of(observed)
    try:
        return await observer.observe(observed, CLASSES, time.time() if now is None else now, Proxies(ready=1))
    finally:
        await observer.close()


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
