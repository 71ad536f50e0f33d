"""A small fleet that the actuators' tests share."""

from __future__ import annotations

from typing import Any

from tests import values

from sluice.actuate.port import Order
from sluice.model.decision import ClassTarget, Targets
from sluice.model.fleet import (
    BackendRef,
    DataPlane,
    DataPlaneKind,
    Endpoint,
    Fleet,
    HeaderMatch,
    Pool,
    RouteRef,
    TrafficMatch,
    WorkloadClass,
)


def pool(name: str, **fields: Any) -> Pool:
    service = BackendRef(group="", kind="Service", name=f"{name}-service", namespace=None, port=8000)
    given = {"backend": service, "endpoints": (Endpoint(address="10.0.0.1", port=8000),), **fields}
    return values.pool(name, **given)


def fleet(kind: DataPlaneKind, **fields: Any) -> Fleet:
    given = {
        "uid": "11111111-1111-1111-1111-111111111111",
        "pools": (pool("fast"), pool("slow")),
        "gateway": ("edge", "gate"),
        **fields,
    }
    return Fleet(namespace="demo", name="fleet", data_plane=DataPlane(kind=kind), **given)


def workload(name: str = "chat", **fields: Any) -> WorkloadClass:
    given = {"match": TrafficMatch(headers=(HeaderMatch(name="x-model", value=name),)), **fields}
    return values.workload(name, uid="22222222-2222-2222-2222-222222222222", **given)


def routed(name: str = "code") -> WorkloadClass:
    return workload(name, match=None, route=RouteRef(name="user-route", rule_name="code"))


def target(name: str = "chat", **fields: Any) -> ClassTarget:
    given = {
        "rate_limit": None,
        "in_flight_limit": None,
        "fence": None,
        "weights": (("fast", 700), ("slow", 300)),
        **fields,
    }
    return ClassTarget(name=name, **given)


def order(kind: DataPlaneKind, *pairs: tuple[WorkloadClass, ClassTarget], **fields: Any) -> Order:
    return Order(
        fleet=fields.pop("fleet", None) or fleet(kind),
        classes=tuple(one for one, _ in pairs),
        targets=Targets(plan_id=fields.pop("plan_id", "p"), classes=tuple(one for _, one in pairs)),
        **fields,
    )
