"""Writing Gateway objects and the plan's ConfigMap to the API server, and nothing needlessly.

One pass reads what stands (a list per kind, by our label), renders what should stand, and
writes the difference by server-side apply under our field manager:

* what is as desired is not sent, so a second pass leaves every resourceVersion alone;
* an object of ours in which another manager took a field is first applied politely; the
  refusal names that manager, is reported, and the field is taken back (only our own objects
  are ever forced);
* an object that bears our name but is not ours is left alone and reported;
* a user's HTTPRoute is only ever patched, weight by weight (see ``gateway_api``);
* what bears our label and is no longer wanted is deleted, guarded by its uid.

Writes follow ``order.steps``; a step begins only when the one before succeeded, so a refusal
in the middle leaves a state that is safe to stay in. Policies go before routes, so that no
route opens without its limit; the ConfigMap with the targets comes last, for it claims
that the rest is done.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from sluice.actuate import envoy_gateway, gateway_api, plan_config_map
from sluice.actuate.kubernetes_api import APPLY, JSON_PATCH, Answer, KubernetesApi
from sluice.actuate.objects import (
    CONFIG_MAP,
    HTTP_ROUTE,
    TRAFFIC_POLICY,
    Document,
    Kind,
    is_as_desired,
    is_ours,
    label_value,
)
from sluice.actuate.order import steps
from sluice.actuate.port import Order
from sluice.model.decision import Receipt, Targets
from sluice.model.fleet import DataPlaneKind, Fleet
from sluice.model.naming import FIELD_MANAGER, FLEET_LABEL, MANAGED_BY
from sluice.model.naming import plan_config_map as plan_config_map_name
from sluice.model.reasons import ConditionType, Finding, Reason

LISTED = (TRAFFIC_POLICY, HTTP_ROUTE)
"""Kinds that are made per class, in the order of writing; removal goes the other way round."""
KINDS = {kind.name: kind for kind in (*LISTED, CONFIG_MAP)}


@dataclass(slots=True)
class _Pass:
    """What one pass has found and done so far."""

    seen: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """(kind, name) -> object as the server last showed it."""
    touched: set[tuple[str, str]] = field(default_factory=set)
    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)
    failed: bool = False
    """Something that a later step depends on could not be written."""

    def fail(self, method: str, kind: Kind, name: str, answer: Answer) -> None:
        """Remember a refusal, once."""
        self.failed = True
        self.note(_refusal(method, kind, name, answer))

    def note(self, finding: Finding) -> None:
        """Remember a finding, once."""
        if finding not in self.problems:
            self.problems.append(finding)


class KubernetesActuator:
    """Envoy Gateway, or the plan's ConfigMap alone, on one API server. Blocks: call it off the event loop."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    def act(self, order: Order) -> Receipt:
        """Make the server hold ``order``."""
        done = self._observe(order.fleet)
        for targets in () if done.failed else steps(self._kept(done, order.fleet), order.targets):
            self._write(replace(order, targets=targets), done)
            if done.failed:
                break
        if not done.failed:
            self._finish(order, done)
        return Receipt(
            written=tuple(dict.fromkeys(done.written)),
            unchanged=len(done.touched) - len(set(done.written)),
            removed=tuple(done.removed),
            problems=tuple(done.problems),
        )

    def preview(self, order: Order) -> str:
        """A unified diff of the fields that ``act`` would change; reads, and writes nothing."""
        done = self._observe(order.fleet)
        if done.failed:
            return "\n".join(f"# {finding.message}" for finding in done.problems)
        lines: list[str] = []
        wanted = [*self._objects(order, done), self._config_map(order, done)]
        for document in wanted:
            kind, name = KINDS[document["kind"]], document["metadata"]["name"]
            before = self._standing_object(kind, order.fleet.namespace, name, done)
            if before is None or not is_as_desired(before, document):
                lines += _diff(f"{kind.name}/{name}", _content(before), _content(document))
        for route, patch in self._patches(order, done):
            lines += [f"--- HTTPRoute/{route}", f"+++ HTTPRoute/{route}", *(f"+{operation}" for operation in patch)]
        lines += [f"--- {kind.name}/{name} (removed)" for kind, name in self._stale(order, done, wanted)]
        return "\n".join(lines)

    def standing(self, fleet: Fleet) -> Targets | None:
        """The targets in the fleet's ConfigMap."""
        name = plan_config_map_name(fleet.name)
        answer = self._api.send("GET", CONFIG_MAP.path(fleet.namespace, name))
        return plan_config_map.targets_of(answer.document) if answer.fine else None

    def _observe(self, fleet: Fleet) -> _Pass:
        """Read everything of ours once."""
        done = _Pass()
        selector = f"{FLEET_LABEL}={label_value(fleet.name)},{MANAGED_BY[0]}={MANAGED_BY[1]}"
        for kind in _kinds(fleet):
            answer = self._api.send("GET", kind.collection(fleet.namespace), query={"labelSelector": selector})
            if not answer.fine:
                done.fail("list", kind, "", answer)
                return done
            for item in answer.document.get("items", []):
                done.seen[kind.name, item["metadata"]["name"]] = item
        self._standing_object(CONFIG_MAP, fleet.namespace, plan_config_map_name(fleet.name), done)
        return done

    def _kept(self, done: _Pass, fleet: Fleet) -> Targets | None:
        return plan_config_map.targets_of(done.seen.get((CONFIG_MAP.name, plan_config_map_name(fleet.name))))

    def _objects(self, order: Order, done: _Pass) -> tuple[Document, ...]:
        """What is made per class for ``order``, policies first."""
        if order.fleet.data_plane.kind is not DataPlaneKind.ENVOY_GATEWAY:
            return ()
        routes, findings = gateway_api.routes(order)
        for finding in findings:
            done.note(finding)
        return (*envoy_gateway.policies(order), *routes)

    def _config_map(self, order: Order, done: _Pass) -> Document:
        return plan_config_map.render(order, done.seen.get((CONFIG_MAP.name, plan_config_map_name(order.fleet.name))))

    def _write(self, order: Order, done: _Pass) -> None:
        """One step: policies, then our routes, then weights in users' routes."""
        for document in self._objects(order, done):
            self._apply(document, done)
        for route, patch in self._patches(order, done):
            self._patch(route, patch, order.fleet.namespace, done)

    def _finish(self, order: Order, done: _Pass) -> None:
        """Take away what is no longer wanted, then say what was done."""
        for kind, name in self._stale(order, done, self._objects(order, done)):
            uid = done.seen[kind.name, name]["metadata"]["uid"]
            path = kind.path(order.fleet.namespace, name)
            answer = self._api.send("DELETE", path, body={"preconditions": {"uid": uid}})
            if answer.fine:
                done.removed.append(f"{kind.name}/{name}")
            elif answer.status != 404:
                done.fail("delete", kind, name, answer)
        if not done.failed:
            self._apply(self._config_map(order, done), done)

    def _stale(self, order: Order, done: _Pass, wanted: Iterable[Document]) -> tuple[tuple[Kind, str], ...]:
        """What bears our label and is not wanted: routes before the policies that limit them."""
        keep = {(document["kind"], document["metadata"]["name"]) for document in wanted}
        return tuple(
            (kind, name)
            for kind in reversed(LISTED)
            for (kind_name, name) in sorted(done.seen)
            if kind_name == kind.name and (kind_name, name) not in keep and _is_labelled(done.seen[kind_name, name])
        )

    def _standing_object(self, kind: Kind, namespace: str, name: str, done: _Pass) -> Mapping[str, Any] | None:
        """The object as last seen, else as the server shows it now; None where there is none."""
        if (kind.name, name) not in done.seen:
            answer = self._api.send("GET", kind.path(namespace, name))
            if answer.fine:
                done.seen[kind.name, name] = answer.document
            elif answer.status != 404:
                done.fail("get", kind, name, answer)
        return done.seen.get((kind.name, name))

    def _apply(self, document: Document, done: _Pass) -> None:
        """Make one object of ours as desired."""
        kind, metadata = KINDS[document["kind"]], document["metadata"]
        name, label = metadata["name"], f"{kind.name}/{metadata['name']}"
        before = self._standing_object(kind, metadata["namespace"], name, done)
        done.touched.add((kind.name, name))
        if done.failed and before is None:
            return
        if before is not None and not is_ours(before, document):
            done.failed = True
            done.note(_conflict(label, f"{label} exists and was not made by Sluice for this owner: rename one of them"))
            return
        if before is not None and is_as_desired(before, document):
            return
        answer = self._send_apply(kind, document, force=False)
        if answer.status == 409 and before is not None:
            done.note(_conflict(label, f"{label}: {answer.message}"))
            answer = self._send_apply(kind, document, force=True)
        if not answer.fine:
            done.fail("patch", kind, name, answer)
            return
        done.seen[kind.name, name] = answer.document
        if before is None or _version(before) != _version(answer.document):
            done.written.append(label)

    def _send_apply(self, kind: Kind, document: Document, *, force: bool) -> Answer:
        metadata = document["metadata"]
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "force": "true" if force else "false"}
        path = kind.path(metadata["namespace"], metadata["name"])
        return self._api.send("PATCH", path, query=query, body=document, content_type=APPLY)

    def _patches(self, order: Order, done: _Pass) -> Iterable[tuple[str, list[Document]]]:
        """The weights to put into users' routes; a route is read anew for every patch, since ours change it."""
        if order.fleet.data_plane.kind is not DataPlaneKind.ENVOY_GATEWAY:
            return
        for workload in order.classes:
            target = order.targets.of(workload.name)
            if workload.route is None or target is None:
                continue
            answer = self._api.send("GET", HTTP_ROUTE.path(order.fleet.namespace, workload.route.name))
            if answer.status not in (200, 404):
                done.fail("get", HTTP_ROUTE, workload.route.name, answer)
                return
            observed = answer.document if answer.fine else None
            patch, finding = gateway_api.weights_patch(observed, order.fleet, workload, target)
            if finding is not None:
                done.note(finding)
            done.touched.add((HTTP_ROUTE.name, workload.route.name))
            if patch:
                yield workload.route.name, patch

    def _patch(self, route: str, patch: list[Document], namespace: str, done: _Pass) -> None:
        """Put weights into a user's route; what changed under our hands is left for the next pass."""
        path = HTTP_ROUTE.path(namespace, route)
        answer = self._api.send(
            "PATCH", path, query={"fieldManager": FIELD_MANAGER}, body=patch, content_type=JSON_PATCH
        )
        if answer.fine:
            done.written.append(f"{HTTP_ROUTE.name}/{route}")
        else:
            done.fail("patch", HTTP_ROUTE, route, answer)


def _kinds(fleet: Fleet) -> tuple[Kind, ...]:
    """The kinds that are listed for a fleet; a cluster without Gateway API is not asked for it."""
    return LISTED if fleet.data_plane.kind is DataPlaneKind.ENVOY_GATEWAY else ()


def _is_labelled(observed: Mapping[str, Any]) -> bool:
    return bool(observed["metadata"].get("labels", {}).get(MANAGED_BY[0]) == MANAGED_BY[1])


def _version(observed: Mapping[str, Any]) -> str:
    return str(observed["metadata"].get("resourceVersion", ""))


def _content(document: Mapping[str, Any] | None) -> list[str]:
    """What of an object can be ours, as lines of YAML."""
    parts = {key: document[key] for key in ("spec", "data") if key in document} if document else {}
    return yaml.safe_dump(parts, sort_keys=True, width=120).splitlines() if parts else []


def _diff(label: str, before: list[str], after: list[str]) -> list[str]:
    return list(difflib.unified_diff(before, after, label, label, lineterm=""))


def _refusal(method: str, kind: Kind, name: str, answer: Answer) -> Finding:
    """A refusal in the words of our reasons."""
    label = f"{kind.name}/{name}" if name else kind.plural
    reason, message = Reason.WRITE_FAILED, f"cannot {method} {label}: {answer.message}"
    if answer.status == 403:
        reason = Reason.NOT_PERMITTED
        message = f"not permitted to {method} {kind.plural} in API group {kind.group or 'core'}: {answer.message}"
    elif answer.status == 404 and not name:
        message = f"the API server does not serve {kind.plural}.{kind.group}: install its resource definitions"
    return Finding(condition=ConditionType.PROGRAMMED, reason=reason, message=message)


def _conflict(label: str, message: str) -> Finding:
    return Finding(condition=ConditionType.PROGRAMMED, reason=Reason.FIELD_CONFLICT, message=message, subject=label)
