"""Limits that nobody holds any longer: found by what they bear, and lifted.

A fleet may be deleted, leave Enforce or change its data plane while no operator runs, or while
it cannot be resolved. Its classes still exist, so the API server collects nothing of theirs, and
their limits would stay for ever. They are found by our label, whoever of us wrote them:

* a policy on a user's route is deleted: what stands there without us is the user's;
* a policy on a route of ours is opened and stays, or Envoy's own threshold of 1024 requests
  would be a limit in its place; it goes with its class;
* an extension policy is deleted: nobody holds requests for the fleet;
* an InferenceObjective is deleted: its order is strict, and what it puts last starves.

A fleet that enforces and no longer asks for objectives, or asks for those of another API group,
leaves some behind too: ``Forsaken`` finds them.

Every write is guarded by the object's resourceVersion: what changes under our hands is looked
at again. Routes and weights stay, as whenever Enforce is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sluice.actuate import inference_objectives
from sluice.actuate.envoy_gateway import open_thresholds
from sluice.actuate.kinds import EXTENSION_POLICY, TRAFFIC_POLICY, Kind
from sluice.actuate.kubernetes_api import APPLY, Answer, KubernetesApi
from sluice.actuate.ledger import refusal
from sluice.actuate.objects import Document, label_value
from sluice.actuate.removal import delete
from sluice.model.decision import Receipt
from sluice.model.fleet import Fleet
from sluice.model.naming import FIELD_MANAGER, FLEET_LABEL, MANAGED_BY, ROUTE_RULE_NAME
from sluice.model.reasons import Finding

FleetName = tuple[str, str]
"""(namespace, name)."""
_OURS = f"{MANAGED_BY[0]}={MANAGED_BY[1]}"
_MAY_NOT, _NOT_THERE = 403, 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Remnants:
    """What bears our label and is no fleet's that enforces."""

    objects: tuple[tuple[Kind, Mapping[str, Any]], ...] = ()
    problems: tuple[Finding, ...] = ()

    def without(self, enforcing: Iterable[FleetName]) -> Remnants:
        """The same, less what belongs to fleets that enforce through Gateway objects now."""
        living = {(namespace, label_value(name)) for namespace, name in enforcing}
        left = tuple((kind, item) for kind, item in self.objects if _fleet_of(item) not in living)
        return Remnants(objects=left, problems=self.problems)


def find(api: KubernetesApi, namespaces: Iterable[str | None]) -> Remnants:
    """Everything of ours that may limit in ``namespaces`` (None: in all); a kind that is not served has none."""
    objects: list[tuple[Kind, Mapping[str, Any]]] = []
    problems: list[Finding] = []
    for namespace in namespaces:
        for kind in (TRAFFIC_POLICY, EXTENSION_POLICY, *inference_objectives.KINDS.values()):
            answer = api.send("GET", kind.collection(namespace), query={"labelSelector": _OURS})
            if answer.fine:
                objects += [(kind, item) for item in answer.document.get("items", []) if not _is_open(kind, item)]
            elif not _is_unseen(answer):
                problems.append(refusal("list", kind, "", answer))
    return Remnants(objects=tuple(objects), problems=tuple(problems))


def lift(api: KubernetesApi, remnants: Remnants) -> Receipt:
    """Open or delete them."""
    written: list[str] = []
    removed: list[str] = []
    problems = list(remnants.problems)
    for kind, item in remnants.objects:
        metadata = item["metadata"]
        label = f"{kind.name}/{metadata['namespace']}/{metadata['name']}"
        keeps_a_route = kind is TRAFFIC_POLICY and _is_on_our_route(item)
        answer = _open(api, item) if keeps_a_route else delete(api, kind, item)
        if answer.fine:
            (written if keeps_a_route else removed).append(label)
        elif answer.status != _NOT_THERE:  # changed meanwhile (409) is no success: it may still limit
            problems.append(refusal("patch" if keeps_a_route else "delete", kind, metadata["name"], answer))
    return Receipt(written=tuple(written), removed=tuple(removed), problems=tuple(problems))


@dataclass(slots=True)
class Forsaken:
    """Objectives for which an enforcing fleet does not ask (any longer); remembers where there are none."""

    api: KubernetesApi
    _clean: set[tuple[str, Kind]] = field(default_factory=set)

    def of(self, fleet: Fleet) -> tuple[tuple[Kind, Mapping[str, Any]], ...]:
        """What stands of them. The server is asked once per fleet, and again after the fleet did ask for some."""
        unasked = inference_objectives.unasked(fleet)
        self._clean -= {(fleet.key, kind) for kind in inference_objectives.KINDS.values() if kind not in unasked}
        found: list[tuple[Kind, Mapping[str, Any]]] = []
        for kind in unasked:
            if (fleet.key, kind) in self._clean:
                continue
            query = {"labelSelector": f"{FLEET_LABEL}={label_value(fleet.name)},{_OURS}"}
            answer = self.api.send("GET", kind.collection(fleet.namespace), query=query)
            items = answer.document.get("items", []) if answer.fine else []
            found += [(kind, item) for item in items]
            if not items and (answer.fine or _is_unseen(answer)):
                self._clean.add((fleet.key, kind))
        return tuple(found)

    def remove(self, fleet: Fleet) -> Receipt:
        """Delete them."""
        return lift(self.api, Remnants(objects=self.of(fleet)))


def _is_unseen(answer: Answer) -> bool:
    """Not served, or not for us: what we may not see we may not have written either."""
    return answer.status in (_MAY_NOT, _NOT_THERE)


def _open(api: KubernetesApi, item: Mapping[str, Any]) -> Answer:
    metadata = item["metadata"]
    document: Document = {
        "apiVersion": TRAFFIC_POLICY.api_version,
        "kind": TRAFFIC_POLICY.name,
        "metadata": {
            key: metadata[key]
            for key in ("namespace", "name", "labels", "annotations", "ownerReferences", "resourceVersion")
            if key in metadata
        },
        "spec": {
            **{key: item["spec"][key] for key in ("targetRefs", "mergeType") if key in item["spec"]},
            "circuitBreaker": open_thresholds(),
        },
    }
    path = TRAFFIC_POLICY.path(metadata["namespace"], metadata["name"])
    query = {"fieldManager": FIELD_MANAGER, "force": "true"}
    return api.send("PATCH", path, query=query, body=document, content_type=APPLY)


def _fleet_of(item: Mapping[str, Any]) -> tuple[str, str]:
    metadata = item["metadata"]
    return metadata["namespace"], metadata.get("labels", {}).get(FLEET_LABEL, "")


def _is_open(kind: Kind, item: Mapping[str, Any]) -> bool:
    spec = item.get("spec", {})
    return (
        kind is TRAFFIC_POLICY
        and _is_on_our_route(item)
        and "rateLimit" not in spec
        and spec.get("circuitBreaker") == open_thresholds()
    )


def _is_on_our_route(item: Mapping[str, Any]) -> bool:
    own = (item["metadata"]["name"], ROUTE_RULE_NAME)
    return any((target.get("name"), target.get("sectionName")) == own for target in _targets(item))


def _targets(item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from item.get("spec", {}).get("targetRefs") or ()
