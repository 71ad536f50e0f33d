"""The plan's order as priorities of llm-d's flow control: one InferenceObjective per class. Pure.

The endpoint picker queues requests while its engines are saturated, and lets the highest priority
go first: strictly, so what is last starves while anything else waits. Priorities can be changed
at any time, and the next request goes by the new one. Limits, promises and prices of the plan do
not reach the picker; the order does: by band, and by index inside a band. No priority is below
zero, for the picker sheds such requests instead of letting them wait.

A route names the class's objective in a header. Objects are owned by the class and go with it, and
go too where the fleet no longer asks for them or no longer enforces: a picker gives priority 0 to
whom it knows no objective of.

Untested against a real endpoint picker: only the API server's judgement of the objects is known.

Reference: https://llm-d.ai/docs/api-reference/inferenceobjective
"""

from __future__ import annotations

from sluice.actuate.kinds import Kind
from sluice.actuate.objects import Document, owned_by_class
from sluice.actuate.port import Order
from sluice.model.fleet import Fleet
from sluice.model.naming import owned_route
from sluice.model.plan import Band, Plan

POOL_KIND = "InferencePool"
_PLURAL, _NAME, _VERSION = "inferenceobjectives", "InferenceObjective", "v1alpha2"
KINDS = {
    "llm-d.ai": Kind("llm-d.ai", _VERSION, _PLURAL, _NAME),
    "inference.networking.x-k8s.io": Kind("inference.networking.x-k8s.io", _VERSION, _PLURAL, _NAME),
}
"""By API group; llm-d moved the kind to its own group in release 0.8."""
HEADERS = {
    "llm-d.ai": "x-llm-d-inference-objective",
    "inference.networking.x-k8s.io": "x-gateway-inference-objective",
}
"""What names a request's objective."""
_BANDS = (Band.FULL, Band.RATIONED, Band.IDLE_ONLY)


def kind(fleet: Fleet) -> Kind | None:
    """The kind that a fleet's objectives are of; None where it has none."""
    group = fleet.data_plane.objective_group
    return None if group is None else KINDS[group]


def unasked(fleet: Fleet) -> tuple[Kind, ...]:
    """The kinds that a fleet's objectives are not of, and may have been of."""
    return tuple(other for other in KINDS.values() if other != kind(fleet))


def objectives(order: Order) -> tuple[Document, ...]:
    """One per class that the plan knows; none before the first plan."""
    of = kind(order.fleet)
    pools = [pool.backend for pool in order.fleet.pools if pool.backend and pool.backend.kind == POOL_KIND]
    if of is None or order.plan is None or not pools:
        return ()
    ranks = priorities(order.plan)
    documents = []
    for workload in order.classes:
        if workload.name not in ranks or order.targets.of(workload.name) is None:
            continue
        document = owned_by_class(of, owned_route(workload), order.fleet, workload, order.targets.plan_id)
        pool = {"group": pools[0].group, "kind": POOL_KIND, "name": pools[0].name}
        document["spec"] = {"priority": ranks[workload.name], "poolRef": pool}
        documents.append(document)
    return tuple(documents)


def priorities(plan: Plan) -> dict[str, int]:
    """Class to priority, the highest first to go, the last at 0; equal classes by name, so that they stay."""
    ordered = sorted(plan.classes, key=lambda one: (_BANDS.index(one.band), -one.index, one.name))
    return {one.name: len(ordered) - 1 - place for place, one in enumerate(ordered)}


def header(fleet: Fleet, name: str) -> tuple[str, str] | None:
    """Header and value by which a route names an objective; None where the fleet has none."""
    group = fleet.data_plane.objective_group
    return None if group is None else (HEADERS[group], name)
