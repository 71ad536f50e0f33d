"""Who is who: by which label value each source knows a class, and in which order sources are asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sluice.model import naming
from sluice.model.fleet import DataPlaneKind, Fleet, GateUse, LimitKind, Mode, WorkloadClass
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.signal import Signal, Source
from sluice.observe.catalogue import CATALOGUE, PREFERENCE

Identities = Mapping[Source, Mapping[str, str]]
"""Source to (class name to label value); a class that the source cannot tell apart is absent."""


def identities(fleet: Fleet, classes: Sequence[WorkloadClass], rule_index: Mapping[str, int]) -> Identities:
    """The label value of every class at every source.

    ``rule_index`` gives the place of a class's rule in the user's own HTTPRoute.
    """
    clusters = {workload.name: envoy_cluster(fleet, workload, rule_index.get(workload.name)) for workload in classes}
    counted = _own({name: one for name, one in clusters.items() if one is not None and is_exported(one)})
    gated = fleet.data_plane.gate is not GateUse.DISABLED
    models = _own({workload.name: workload.served_model_name for workload in classes})
    return {
        Source.ENVOY: counted,
        Source.GATE: counted if gated else {},
        Source.ENDPOINT_PICKER: _own({workload.name: workload.fairness_id or workload.name for workload in classes}),
        Source.VLLM: models,
        Source.SGLANG: models,
    }


def envoy_cluster(fleet: Fleet, workload: WorkloadClass, rule_index: int | None) -> str | None:
    """The Envoy cluster of a class; None where it has none or its rule is not known."""
    if fleet.data_plane.kind is DataPlaneKind.ENVOY_FILES:
        return naming.files_cluster(fleet.namespace, workload.name)
    if workload.route is not None:
        if rule_index is None:
            return None
        return naming.gateway_cluster(fleet.namespace, workload.route.name, rule_index)
    if fleet.data_plane.kind is DataPlaneKind.ENVOY_GATEWAY:
        return naming.gateway_cluster(fleet.namespace, naming.owned_route(workload), 0)
    return None


def is_exported(cluster: str) -> bool:
    """Whether Envoy's exporter tells the cluster by its name: a dot ends it, and the rest lands in the metric's."""
    return "." not in cluster


def preferences(fleet: Fleet) -> tuple[Mapping[Signal, tuple[Source, ...]], tuple[Finding, ...]]:
    """The order of sources for every signal, and what is wrong with the user's own orders.

    While we enforce limits, only what counts before the limits may tell the offered rate
    by default: everything behind them would make demand follow our own limit.
    """
    orders = dict(PREFERENCE)
    if fleet.data_plane.gate is not GateUse.DISABLED:
        for late in (Signal.TTFT, Signal.TTFT_WITHIN):  # what engines tell begins after the wait at the gate
            orders[late] = (Source.GATE, *orders[late])
    limits = fleet.data_plane.kind is not DataPlaneKind.CONFIG_MAP and fleet.data_plane.limit is not LimitKind.NONE
    if fleet.mode is Mode.ENFORCE and limits:
        orders[Signal.OFFERED_RATE] = (Source.ENVOY,)
    findings: list[Finding] = []
    for signal, names in fleet.metrics.sources:
        if signal == Signal.READY_REPLICAS:
            continue  # counted from pods and endpoints, elsewhere
        known = tuple(source for source in CATALOGUE if source in names)
        unknown = [name for name in names if name not in known]
        if signal not in {one.value for one in PREFERENCE}:
            findings.append(_misnamed(f"metrics.sources: there is no signal {signal!r} to measure"))
            continue
        if unknown:
            findings.append(_misnamed(f"metrics.sources: {signal} cannot come from {', '.join(unknown)}"))
        orders[Signal(signal)] = tuple(sorted(known, key=names.index))
    return orders, tuple(findings)


def _own(names: Mapping[str, str | None]) -> Mapping[str, str]:
    """Only names that exactly one class bears: a shared one cannot tell classes apart."""
    borne = Counter(name for name in names.values() if name)
    return {key: name for key, name in names.items() if name and borne[name] == 1}


def _misnamed(message: str) -> Finding:
    return Finding(condition=ConditionType.METRICS_AVAILABLE, reason=Reason.INVALID, message=message)
