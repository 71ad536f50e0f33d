"""How many proxies divide a limit: counted by Envoy Gateway's labels, in other namespaces too, or told as unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import yaml
from tests.control.fleets import PROFILE, fleet, gateway, two_classes

from sluice.actuate.kinds import Kind
from sluice.api.manifests import parse
from sluice.control.cluster.assembly import Assembly
from sluice.control.cluster.client import Cluster, Forbidden, Listing
from sluice.control.cluster.kinds import GATEWAYS, PODS
from sluice.control.cluster.proxies import SELECTOR, ProxyPods
from sluice.control.cluster.store import Store
from sluice.control.gathering import Site, declare, gather, look_around
from sluice.control.observing import Measured
from sluice.control.ports import WorldView
from sluice.control.workers import Workers
from sluice.learning.pools import LawMemory
from sluice.model.reasons import ConditionType, Reason
from sluice.model.snapshot import Observation

Labels = Mapping[str, str]
OWNED = {
    "gateway.envoyproxy.io/owning-gateway-name": "gateway",
    "gateway.envoyproxy.io/owning-gateway-namespace": "default",
}
MERGED = {"gateway.envoyproxy.io/owning-gatewayclass": "nobody"}


def proxy(name: str, labels: Labels = OWNED, *, ready: str = "True", version: int = 1) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "gateways", "uid": name, "labels": dict(labels)}
    return {
        "kind": "Pod",
        "metadata": {**metadata, "resourceVersion": str(version)},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def site(mode: str, *pods: Mapping[str, Any]) -> Site:
    documents = [dict(PROFILE), fleet(mode), *two_classes()]
    read = parse(yaml.safe_dump_all(documents), "test")
    assert read.errors == ()
    gate = {**gateway(), "metadata": {"name": "gateway", "namespace": "default"}}
    view = WorldView(fleets=read.fleets, classes=read.classes, profiles=read.profiles, objects=(gate, *pods))
    declared = declare(view, ("default", "fleet"), read.fleets[0])
    assert declared.resolved.fleet is not None
    return look_around(declared, declared.resolved.fleet, None)


def counted(where: Site, *, seen: int = 0, before: int = 1) -> tuple[int, bool]:
    """The number that divides limits, and whether it is told that nobody counted."""
    measured = Measured(Observation(proxies_ready=seen), 0.0)
    gathered, _ = gather(where, measured, LawMemory(), before, now=0.0)
    told = any(
        finding.reason is Reason.PROXIES_UNCOUNTED and finding.condition is ConditionType.DEGRADED
        for finding in gathered.snapshot.findings
    )
    return gathered.snapshot.observation.proxies_ready, told


@pytest.mark.parametrize(
    ("pods", "seen", "before", "expected"),
    [
        pytest.param([proxy("a"), proxy("b")], 0, 1, (2, False), id="Pods of the Gateway, in whatever namespace"),
        pytest.param([proxy("a"), proxy("b", ready="False")], 0, 5, (1, False), id="ready ones alone"),
        pytest.param([proxy("a", MERGED), proxy("b", MERGED)], 0, 1, (2, False), id="merged Gateways: of their class"),
        pytest.param([proxy("a", {**MERGED, "gateway.envoyproxy.io/owning-gatewayclass": "x"})], 0, 1, (1, True),
                     id="another class's proxies are not ours"),
        pytest.param([proxy("a")], 4, 1, (1, False), id="Pods go before counters"),
        pytest.param([], 3, 1, (3, False), id="no Pods seen: as many as have counters"),
        pytest.param([], 0, 1, (1, True), id="nobody counts: the whole limit for each, and it is told"),
        pytest.param([], 0, 3, (3, True), id="nobody counts any longer: divided as before, and it is told"),
    ],
)  # fmt: skip
def test_limits_are_divided_by_the_proxies_that_can_be_counted(
    pods: Sequence[Mapping[str, Any]], seen: int, before: int, expected: tuple[int, bool]
) -> None:
    assert counted(site("Enforce", *pods), seen=seen, before=before) == expected


def test_who_only_looks_is_not_told() -> None:
    assert counted(site("Observe")) == (1, False)


@dataclass
class Server:
    """One namespace with proxies, which may be closed to us."""

    pods: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = False

    def list(self, kind: Kind, namespace: str | None, selector: str = "") -> Listing:
        assert (kind, namespace, selector) == (PODS, "gateways", SELECTOR)
        if self.closed:
            raise Forbidden(403, "pods is forbidden")
        return Listing(items=tuple(self.pods), version="9")


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers("test", threads=1, timeout_seconds=10)
    yield made
    made.close()


async def test_proxies_of_another_namespace_come_and_go_in_the_store(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    server, store = Server([proxy("a"), proxy("b")]), Store(Assembly())
    store.put(GATEWAYS, {**gateway(), "metadata": {"name": "gateway", "namespace": "default", "resourceVersion": "1"}})
    pods = ProxyPods(cast("Cluster", server), store, workers, ["gateways"])

    def ready() -> int | None:
        where = site("Enforce")
        view = replace(where.declared.view, objects=store.view().objects)
        return look_around(replace(where.declared, view=view), where.fleet, None).around.ready

    await pods.refresh()
    assert ready() == 2
    server.closed = True
    await pods.refresh()
    await pods.refresh()
    assert ready() == 2, "what is known stays"
    assert [record.message for record in caplog.records] == ["proxies cannot be counted: pods is forbidden"]
    server.closed, server.pods = False, [proxy("b")]
    await pods.refresh()
    assert ready() == 1
