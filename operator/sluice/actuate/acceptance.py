"""What the gateway says of the objects we wrote: one that it refuses is written, and without effect. Pure.

A controller tells it in the object's status, for each gateway apart, and says which generation it
speaks of. Silence is no refusal: a gateway that is just starting has not got to it yet.

Reference: https://gateway-api.sigs.k8s.io/reference/spec/ (RouteParentStatus: ``Accepted`` and
``ResolvedRefs``), GEP-713 (PolicyAncestorStatus: ``Accepted``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sluice.model.reasons import ConditionType, Finding, Reason

GATES = frozenset({"Accepted", "ResolvedRefs"})
"""Conditions that must not be False."""
AFFECTED = (ConditionType.PROGRAMMED, ConditionType.EFFECTIVE)
"""What a refused object makes False: it is not in the data plane, and nothing obeys it."""

Document = Mapping[str, Any]


def refusals(observed: Document, kind: str, gateway: tuple[str, str] | None, workload: str) -> tuple[Finding, ...]:
    """Findings about class ``workload`` where ``gateway`` (namespace, name; None: any) refuses ``observed``."""
    label = f"{kind}/{observed['metadata']['name']}"
    messages = dict.fromkeys(_refused(observed, gateway))
    return tuple(
        Finding(
            condition=condition,
            reason=Reason.GATEWAY_REFUSED,
            message=f"the gateway does not take {label}: {message}",
            subject=f"WorkloadClass/{workload}",
        )
        for message in messages
        for condition in AFFECTED
    )


def _refused(observed: Document, gateway: tuple[str, str] | None) -> Iterator[str]:
    metadata, status = observed["metadata"], observed.get("status") or {}
    answers = [*_answers(status, "parents", "parentRef"), *_answers(status, "ancestors", "ancestorRef")]
    for ref, conditions in answers:
        if not _speaks_for(ref, gateway, metadata["namespace"]):
            continue
        for entry in conditions:
            is_current = entry.get("observedGeneration", metadata.get("generation")) == metadata.get("generation")
            if is_current and entry.get("type") in GATES and entry.get("status") == "False":
                yield f"{entry.get('reason', entry['type'])}: {entry.get('message', '')}".rstrip(": ")


def _answers(status: Document, listed: str, ref: str) -> Iterator[tuple[Document, list[Document]]]:
    for entry in status.get(listed) or ():
        yield entry.get(ref) or {}, entry.get("conditions") or []


def _speaks_for(ref: Document, gateway: tuple[str, str] | None, namespace: str) -> bool:
    """Whether an answer is about the fleet's gateway; a policy may also be answered for its route."""
    if gateway is None or ref.get("kind", "Gateway") != "Gateway":
        return True
    return (ref.get("namespace", namespace), ref.get("name")) == gateway
