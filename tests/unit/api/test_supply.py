"""Replicas are counted from what is there, and unknown is not zero."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.api.objects import ABSENT, POOL, fleet, profile, workload

from sluice.api.resolve import resolve
from sluice.api.supply import count
from sluice.model.fleet import Fleet
from sluice.model.reasons import Reason
from sluice.model.signal import Source

READY: dict[str, Any] = {"status": {"podIP": "10.0.0.9", "conditions": [{"type": "Ready", "status": "True"}]}}
WAITING: dict[str, Any] = {"status": {"podIP": "10.0.0.8", "phase": "Pending"}}


def selecting() -> Fleet:
    """A fleet of one pool that selects Pods by label."""
    pool = {key: value for key, value in POOL.items() if key != "endpoints"}
    pool |= {"podSelector": {"matchLabels": {"app": "vllm"}}, "backendRef": {"name": "vllm", "port": 8000}}
    resolved = resolve(fleet(pools=[pool]), [profile()], [workload()]).fleet
    assert resolved is not None
    return resolved


def thing(kind: str, labels: dict[str, str], namespace: str = "team", **rest: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x", "namespace": namespace, "labels": labels}, **rest}


def deployment(replicas: Any, app: str = "vllm") -> dict[str, Any]:
    spec = {"template": {"metadata": {"labels": {"app": app}}}, "replicas": replicas}
    return thing("Deployment", {}, spec={key: value for key, value in spec.items() if value is not ABSENT})


def endpoint_slice(*ready: bool | None) -> dict[str, Any]:
    endpoints = [
        {"addresses": [f"10.0.1.{index}"], "conditions": {"ready": state}} for index, state in enumerate(ready)
    ]
    labels = {"kubernetes.io/service-name": "vllm"}
    return thing("EndpointSlice", labels, endpoints=endpoints, ports=[{"port": 8000}])


POD = {"app": "vllm"}


@pytest.mark.parametrize(
    ("objects", "ready", "source", "addresses"),
    [
        pytest.param(
            [thing("Pod", POD, **READY), thing("Pod", POD, **WAITING)],
            1,
            Source.PODS,
            ("10.0.0.9:8000",),
            id="ready Pods, by the backend's port",
        ),
        pytest.param(
            [thing("Pod", POD, **READY, spec={"containers": [{"ports": [{"containerPort": 9000}]}]})],
            1,
            Source.PODS,
            ("10.0.0.9:9000",),
            id="the Pod's own port before the backend's",
        ),
        pytest.param([thing("Pod", POD, **WAITING)], 0, Source.PODS, (), id="no ready Pod is zero, not unknown"),
        pytest.param([thing("Pod", POD)], 1, Source.PODS, (), id="a Pod without status is a manifest and counts"),
        pytest.param(
            [endpoint_slice(True, False)],
            1,
            Source.ENDPOINT_SLICES,
            ("10.0.1.0:8000",),
            id="ready endpoints of a slice",
        ),
        pytest.param(
            [deployment(3), deployment(2), deployment(7, "other")], 5, Source.DEPLOYMENTS, (), id="Deployments"
        ),
        pytest.param([deployment(ABSENT)], 1, Source.DEPLOYMENTS, (), id="a Deployment without replicas has one"),
        pytest.param([deployment(3), thing("Pod", POD, **READY)], 1, Source.PODS, ("10.0.0.9:8000",), id="Pods win"),
    ],
)
def test_counting(objects: list[dict[str, Any]], ready: int, source: Source, addresses: tuple[str, ...]) -> None:
    (supply,), findings = count(selecting(), objects)
    assert (supply.ready, supply.source, supply.addresses, findings) == (ready, source, addresses, ())


@pytest.mark.parametrize(
    "objects",
    [
        pytest.param([], id="nothing there"),
        pytest.param([thing("Pod", {"app": "other"}, **READY)], id="Pods of something else"),
        pytest.param([thing("Pod", POD, "elsewhere", **READY)], id="Pods of another namespace"),
    ],
)
def test_what_nothing_tells_is_unknown_unless_everything_was_seen(objects: list[dict[str, Any]]) -> None:
    supplies, (finding,) = count(selecting(), objects)
    assert (supplies, finding.reason, finding.blocking) == ((), Reason.REPLICAS_UNKNOWN, True)
    assert "pool a100" in finding.message
    (supply,), none = count(selecting(), objects, complete=True)
    assert (supply.ready, none) == (0, ())


def test_listed_endpoints_need_nobody_to_count_them() -> None:
    resolved = resolve(fleet(), [profile()], [workload()]).fleet
    assert resolved is not None
    supplies, findings = count(resolved, [])
    assert [(supply.pool, supply.ready, supply.source) for supply in supplies] == [
        ("a100", 2, Source.ENDPOINTS),
        ("h100", 2, Source.ENDPOINTS),
    ]
    assert findings == ()


def test_a_service_with_two_address_families_counts_each_replica_once() -> None:
    def slice_of(family: str, *addresses: str) -> dict[str, Any]:
        labels = {"kubernetes.io/service-name": "vllm"}
        endpoints = [{"addresses": [address], "conditions": {"ready": True}} for address in addresses]
        return thing("EndpointSlice", labels, addressType=family, endpoints=endpoints, ports=[{"port": 8000}])

    both = [slice_of("IPv6", "fd00::1", "fd00::2"), slice_of("IPv4", "10.0.0.1"), slice_of("IPv4", "10.0.0.2")]
    supplies, _ = count(selecting(), both)
    assert (supplies[0].ready, supplies[0].addresses) == (2, ("10.0.0.1:8000", "10.0.0.2:8000"))
    supplies, _ = count(selecting(), both[:2])
    assert supplies[0].ready == 2, "a family that is still being filled counts nobody out"
