"""A real Envoy with one cluster per fate of a request, and a real Prometheus that scrapes it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from tests.contract.observed_servers import (
    CLASSES,
    LAYER,
    NAMESPACE,
    PATIENCE_SECONDS,
    SCRAPE,
    Backend,
    cluster,
    until,
)

from sluice.demo import programs
from sluice.model import naming
from sluice.model.fleet import (
    DataPlane,
    DataPlaneKind,
    Fleet,
    MetricsSettings,
)
from sluice.model.snapshot import Observation
from sluice.observe.catalogue import ENVOY, LISTENER, PROXIES
from sluice.observe.observer import Observer
from sluice.observe.promql import Readings
from sluice.observe.proxies import Proxies


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
