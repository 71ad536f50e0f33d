"""Counts the replicas of each pool, and says who told.

Order: the pool's endpoints; Pods and EndpointSlices among the objects; Deployments whose
template the pool selects. Where nothing tells, that is a finding and never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sluice.model.fleet import Fleet, Pool
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.signal import Source
from sluice.model.snapshot import PoolSupply

SERVICE_LABEL: Final = "kubernetes.io/service-name"
"""On EndpointSlices: the Service they belong to."""

Object = Mapping[str, Any]


def count(
    fleet: Fleet, objects: Iterable[Object], *, complete: bool = False
) -> tuple[tuple[PoolSupply, ...], tuple[Finding, ...]]:
    """Ready replicas per pool of ``fleet``; an external API has none to count and is passed over.

    ``complete`` says that ``objects`` holds every Pod of the namespace (a watch, not a
    folder of files): then no matching Pod means zero replicas instead of unknown.
    """
    nearby = tuple(entry for entry in objects if _namespace(entry) == fleet.namespace)
    supplies, findings = [], []
    for pool in (entry for entry in fleet.pools if entry.external is None):
        supply = _count(pool, nearby, complete=complete)
        if supply is None:
            findings.append(_unknown(pool))
        else:
            supplies.append(supply)
    return tuple(supplies), tuple(findings)


def _count(pool: Pool, objects: Sequence[Object], *, complete: bool) -> PoolSupply | None:
    if pool.endpoints:
        addresses = tuple(str(endpoint) for endpoint in pool.endpoints)
        return PoolSupply(pool=pool.name, ready=len(addresses), source=Source.ENDPOINTS, addresses=addresses)
    pods = [entry for entry in objects if entry.get("kind") == "Pod" and _selects(pool, _labels(entry))]
    if pods:
        return _of_pods(pool, pods)
    slices = [entry for entry in objects if entry.get("kind") == "EndpointSlice" and _serves(pool, entry)]
    if slices:
        return _of_slices(pool, slices)
    if complete:
        return PoolSupply(pool=pool.name, ready=0, source=Source.PODS)
    deployments = [entry for entry in objects if entry.get("kind") == "Deployment" and _selects_template(pool, entry)]
    if deployments:
        ready = sum(int(_get(entry, "spec").get("replicas", 1)) for entry in deployments)
        return PoolSupply(pool=pool.name, ready=ready, source=Source.DEPLOYMENTS)
    return None


def _of_pods(pool: Pool, pods: Sequence[Object]) -> PoolSupply:
    ready = [pod for pod in pods if _is_ready(pod)]
    addresses = (_pod_address(pool, pod) for pod in ready)
    known = tuple(sorted(address for address in addresses if address is not None))
    return PoolSupply(pool=pool.name, ready=len(ready), source=Source.PODS, addresses=known)


def _of_slices(pool: Pool, slices: Sequence[Object]) -> PoolSupply:
    """A Service with two address families lists each replica once in each: one family tells them all."""
    families: dict[str, set[str]] = {}
    for entry in slices:
        families.setdefault(str(entry.get("addressType", "IPv4")), set()).update(_slice_addresses(entry))
    fullest = max(families, key=lambda family: (len(families[family]), family == "IPv4"))
    addresses = sorted(families[fullest])
    return PoolSupply(pool=pool.name, ready=len(addresses), source=Source.ENDPOINT_SLICES, addresses=tuple(addresses))


def _slice_addresses(entry: Object) -> Iterator[str]:
    """``ip:port`` of every ready endpoint of one slice, by its first port."""
    ports: Sequence[Object] = entry.get("ports") or ({},)
    port = ports[0].get("port")
    for endpoint in entry.get("endpoints") or ():
        conditions = endpoint.get("conditions") or {}
        if conditions.get("ready", True) and not conditions.get("terminating", False):
            address = endpoint["addresses"][0]
            yield address if port is None else f"{address}:{port}"


def _is_ready(pod: Object) -> bool:
    """Ready by its condition; a Pod without any status is a manifest and counts as declared."""
    if _get(pod, "metadata").get("deletionTimestamp"):
        return False
    status = pod.get("status")
    if not status:
        return True
    conditions = status.get("conditions") or ()
    return any(entry.get("type") == "Ready" and entry.get("status") == "True" for entry in conditions)


def _pod_address(pool: Pool, pod: Object) -> str | None:
    """``ip:port``: the first container port, else the port of the pool's backend (a Service may map it)."""
    address = (pod.get("status") or {}).get("podIP")
    if not address:
        return None
    ports = [port for container in _get(pod, "spec").get("containers") or () for port in container.get("ports") or ()]
    own = ports[0].get("containerPort") if ports else None
    port = own if own is not None else pool.backend.port if pool.backend else None
    return None if port is None else f"{address}:{port}"


def _selects(pool: Pool, labels: Mapping[str, str]) -> bool:
    return bool(pool.pod_selector) and all(labels.get(name) == value for name, value in pool.pod_selector)


def _selects_template(pool: Pool, deployment: Object) -> bool:
    return _selects(pool, _labels(_get(_get(deployment, "spec"), "template")))


def _serves(pool: Pool, entry: Object) -> bool:
    """Whether an EndpointSlice belongs to the Service that the pool's routes point to."""
    backend = pool.backend
    return backend is not None and backend.kind == "Service" and _labels(entry).get(SERVICE_LABEL) == backend.name


def _get(entry: Object, name: str) -> Object:
    value = entry.get(name)
    return value if isinstance(value, Mapping) else {}


def _labels(entry: Object) -> Mapping[str, str]:
    return _get(_get(entry, "metadata"), "labels")


def _namespace(entry: Object) -> str:
    return str(_get(entry, "metadata").get("namespace", "default"))


def _unknown(pool: Pool) -> Finding:
    selector = ",".join(f"{name}={value}" for name, value in pool.pod_selector)
    return Finding(
        condition=ConditionType.RESOLVED_REFS,
        reason=Reason.REPLICAS_UNKNOWN,
        message=f"pool {pool.name}: no endpoints are listed; no Pod, EndpointSlice or Deployment matches {selector}",
        blocking=True,
    )
