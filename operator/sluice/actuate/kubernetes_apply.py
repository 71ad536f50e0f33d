"""Writing Gateway objects and the plan's ConfigMap to the API server, and nothing needlessly.

One pass reads what stands (a list per kind, by our label), renders what should stand, and
writes the difference by server-side apply under our field manager:

* what is as desired is not sent, so a second pass leaves every resourceVersion alone;
* an object of ours in which another manager took a field is first applied politely; the
  refusal names that manager, is reported, and the field is taken back (only our own objects
  are ever forced);
* an object that bears our name but is not ours is left alone and reported;
* a user's HTTPRoute is only ever patched, weight by weight (see ``gateway_api``);
* what bears our label and is no longer wanted is deleted, guarded by its version: what changed
  under our hands is looked at again, for another fleet may have taken it with its class;
* the route of a class that is another fleet's by now stays, for that fleet to take over.

Writes follow ``order.steps``; a class takes part in a step only when its writes of the step
before succeeded, so a refusal leaves the class in a state that is safe to stay in, and the
others go on. Policies go before routes, so that no route opens without its limit; the
ConfigMap with the targets comes last, and tells what was done, not what was meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sluice.actuate import (
    envoy_extension_policy,
    envoy_gateway,
    gateway_api,
    inference_objectives,
    plan_config_map,
)
from sluice.actuate.acceptance import refusals
from sluice.actuate.differences import difference
from sluice.actuate.kinds import CONFIG_MAP, EXTENSION_POLICY, HTTP_ROUTE, TRAFFIC_POLICY, Kind
from sluice.actuate.kubernetes_api import APPLY, JSON_PATCH, Answer, KubernetesApi
from sluice.actuate.ledger import Ledger, conflict, refusal
from sluice.actuate.leftovers import Forsaken
from sluice.actuate.objects import Document, is_as_desired, is_ours, label_value, owner_name
from sluice.actuate.order import steps
from sluice.actuate.port import NoAnswer, Order
from sluice.actuate.removal import delete_of_fleet, is_removable
from sluice.model.decision import Receipt, Targets
from sluice.model.fleet import DataPlaneKind, Fleet, GateUse, WorkloadClass
from sluice.model.naming import FIELD_MANAGER, FLEET_LABEL, MANAGED_BY
from sluice.model.naming import plan_config_map as plan_config_map_name

LISTED = (TRAFFIC_POLICY, EXTENSION_POLICY, HTTP_ROUTE)
"""Kinds that are made per class, in the order of writing; removal goes the other way round."""
KINDS = {(kind.api_version, kind.name): kind for kind in (*LISTED, CONFIG_MAP, *inference_objectives.KINDS.values())}


class KubernetesActuator:
    """Envoy Gateway, or the plan's ConfigMap alone, on one API server. Blocks: call it off the event loop."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api
        self._forsaken = Forsaken(api)

    def act(self, order: Order) -> Receipt:
        """Make the server hold ``order``."""
        done = self._observe(order.fleet)
        kept = self._kept(done, order.fleet)
        if not done.failed:
            self._hold_the_hopeless(order, done)
        for targets in steps(kept, order.targets):
            self._write(replace(order, targets=targets), done)
        if not done.failed:
            self._remove(order, done)
            self._tell(order, kept, done)
            self._hear(order, done)
        return Receipt(
            written=tuple(dict.fromkeys(done.written)),
            unchanged=len(done.touched) - len(set(done.written)),
            removed=tuple(done.removed),
            problems=tuple(done.problems),
        )

    def preview(self, order: Order) -> str:
        """A unified diff of the fields that ``act`` would change; reads, and writes nothing."""
        order = replace(order, confirmed_at=None)  # no change that anybody would wait for
        done = self._observe(order.fleet)
        if done.failed:
            return "\n".join(f"# {finding.message}" for finding in done.problems)
        lines: list[str] = []
        self._hold_the_hopeless(order, done)
        wanted = self._objects(order, done)
        for document in (*wanted, self._config_map(order, done)):
            kind, name = _kind(document), document["metadata"]["name"]
            before = self._standing_object(kind, order.fleet.namespace, name, done)
            if before is None or not is_as_desired(before, document):
                lines += difference(f"{kind.name}/{name}", before, document)
        for workload, patch in self._patches(order, done):
            label = f"HTTPRoute/{workload.route.name if workload.route else ''}"
            moved = [f"+{step['path']}: {step['value']}" for step in patch if step["op"] != "test"]
            lines += [f"--- {label}", f"+++ {label}", *moved]
        gone = list(self._stale(order, done, wanted))
        if _has_gateway(order.fleet):
            gone += [(kind, item["metadata"]["name"]) for kind, item in self._forsaken.of(order.fleet)]
        lines += [f"--- {kind.name}/{name} (removed)" for kind, name in gone]
        return "\n".join(lines)

    def standing(self, fleet: Fleet) -> Targets | None:
        """The targets in the fleet's ConfigMap."""
        name = plan_config_map_name(fleet.name)
        answer = self._api.send("GET", CONFIG_MAP.path(fleet.namespace, name))
        if not answer.fine and answer.status != 404:
            raise NoAnswer(refusal("get", CONFIG_MAP, name, answer))
        return plan_config_map.targets_of(answer.document) if answer.fine else None

    def _observe(self, fleet: Fleet) -> Ledger:
        """Read everything of ours once."""
        done = Ledger()
        selector = f"{FLEET_LABEL}={label_value(fleet.name)},{MANAGED_BY[0]}={MANAGED_BY[1]}"
        for kind in _kinds(fleet):
            answer = self._api.send("GET", kind.collection(fleet.namespace), query={"labelSelector": selector})
            if not answer.fine and kind is EXTENSION_POLICY and fleet.data_plane.gate is GateUse.DISABLED:
                continue  # not installed, or not ours to see: then there is none of ours to take away either
            if not answer.fine:
                done.refuse("list", kind, "", answer)
                return done
            for item in answer.document.get("items", []):
                done.seen[kind.name, item["metadata"]["name"]] = item
        self._standing_object(CONFIG_MAP, fleet.namespace, plan_config_map_name(fleet.name), done)
        return done

    def _kept(self, done: Ledger, fleet: Fleet) -> Targets | None:
        return plan_config_map.targets_of(done.seen.get((CONFIG_MAP.name, plan_config_map_name(fleet.name))))

    def _hold_the_hopeless(self, order: Order, done: Ledger) -> None:
        """Hold the classes whose objects cannot be made, before anything of theirs is written."""
        for finding in gateway_api.routes(order)[1] if _has_gateway(order.fleet) else ():
            done.hold(finding.subject.removeprefix("WorkloadClass/"), finding)
        for document in self._objects(order, done):
            if done.failed:
                return
            metadata = document["metadata"]
            name, label = metadata["name"], f"{document['kind']}/{metadata['name']}"
            before = self._standing_object(_kind(document), metadata["namespace"], name, done)
            if before is not None and not is_ours(before, document):
                done.hold(
                    owner_name(document),
                    conflict(label, f"{label} exists and was not made by Sluice for this class: rename one of them"),
                )

    def _objects(self, order: Order, done: Ledger) -> tuple[Document, ...]:
        """What is made per class for ``order``, policies first; nothing for classes that are held."""
        if not _has_gateway(order.fleet):
            return ()
        documents = (
            *envoy_gateway.policies(order),
            *envoy_extension_policy.policies(order),
            *inference_objectives.objectives(order),
            *gateway_api.routes(order)[0],
        )
        return tuple(document for document in documents if owner_name(document) not in done.held)

    def _config_map(self, order: Order, done: Ledger) -> Document:
        return plan_config_map.render(order, done.seen.get((CONFIG_MAP.name, plan_config_map_name(order.fleet.name))))

    def _write(self, order: Order, done: Ledger) -> None:
        """One step: policies, then our routes, then weights in users' routes."""
        for document in self._objects(order, done):
            if owner_name(document) not in done.held and not done.failed:
                self._apply(document, done, workload=owner_name(document))
        if not done.failed:
            for workload, patch in self._patches(order, done):
                self._patch(workload, patch, order.fleet.namespace, done)

    def _remove(self, order: Order, done: Ledger) -> None:
        """Take away what is no longer wanted."""
        for kind, name in self._stale(order, done, self._objects(order, done)):
            answer = delete_of_fleet(self._api, kind, done.seen[kind.name, name], order.fleet)
            if answer is not None and answer.fine:
                done.removed.append(f"{kind.name}/{name}")
            elif answer is not None and answer.status != 404:
                done.note(refusal("delete", kind, name, answer))
        forsaken = self._forsaken.remove(order.fleet) if _has_gateway(order.fleet) else Receipt()
        done.removed += forsaken.removed
        done.problems += forsaken.problems

    def _tell(self, order: Order, kept: Targets | None, done: Ledger) -> None:
        """Write the ConfigMap: wanted targets where they were written, the old ones for classes that are held."""
        classes = []
        for target in order.targets.classes:
            standing = kept.of(target.name) if kept is not None else None
            told = standing if target.name in done.held else target
            classes += [told] if told is not None else []
        targets = replace(order.targets, classes=tuple(classes))
        self._apply(self._config_map(replace(order, targets=targets), done), done, workload=None)

    def _hear(self, order: Order, done: Ledger) -> None:
        """What the gateway says of the classes' objects."""
        written = [
            (owner_name(document), (document["kind"], document["metadata"]["name"]))
            for document in self._objects(order, done)
        ]
        routed = [
            (entry.name, (HTTP_ROUTE.name, entry.route.name)) for entry in order.classes if entry.route is not None
        ]
        for workload, key in (*written, *routed):
            if key in done.seen:
                for finding in refusals(done.seen[key], key[0], order.fleet.gateway, workload):
                    done.note(finding)

    def _stale(self, order: Order, done: Ledger, wanted: Iterable[Document]) -> tuple[tuple[Kind, str], ...]:
        """What bears our label and is not wanted: routes before the policies that limit them."""
        keep = {(document["kind"], document["metadata"]["name"]) for document in wanted}
        return tuple(
            (kind, name)
            for kind in reversed(_kinds(order.fleet))
            for (kind_name, name) in sorted(done.seen)
            if kind_name == kind.name
            and (kind_name, name) not in keep
            and is_removable(kind, done.seen[kind_name, name], order, done.held)
        )

    def _standing_object(self, kind: Kind, namespace: str, name: str, done: Ledger) -> Mapping[str, Any] | None:
        """The object as last seen, else as the server shows it now; None where there is none."""
        if (kind.name, name) not in done.seen:
            answer = self._api.send("GET", kind.path(namespace, name))
            if answer.fine:
                done.seen[kind.name, name] = answer.document
            elif answer.status != 404:
                done.refuse("get", kind, name, answer)
        return done.seen.get((kind.name, name))

    def _apply(self, document: Document, done: Ledger, *, workload: str | None) -> None:
        """Make one object of ours as desired."""
        kind, metadata = _kind(document), document["metadata"]
        name, label = metadata["name"], f"{kind.name}/{metadata['name']}"
        before = done.seen.get((kind.name, name))
        done.touched.add((kind.name, name))
        if before is not None and not is_ours(before, document):
            done.note(conflict(label, f"{label} exists and was not made by Sluice: rename one of them"))
            return
        if before is not None and is_as_desired(before, document):
            return
        answer = self._send_apply(kind, document, force=False)
        if answer.status == 409 and before is not None:
            done.note(conflict(label, f"{label}: {answer.message}"))
            answer = self._send_apply(kind, document, force=True)
        if not answer.fine:
            done.refuse("patch", kind, name, answer, workload=workload)
            return
        done.seen[kind.name, name] = answer.document
        if before is None or _version(before) != _version(answer.document):
            done.written.append(label)

    def _send_apply(self, kind: Kind, document: Document, *, force: bool) -> Answer:
        metadata = document["metadata"]
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "force": "true" if force else "false"}
        path = kind.path(metadata["namespace"], metadata["name"])
        return self._api.send("PATCH", path, query=query, body=document, content_type=APPLY)

    def _patches(self, order: Order, done: Ledger) -> Iterable[tuple[WorkloadClass, list[Document]]]:
        """The weights to put into users' routes; a route is read anew for every patch, since ours change it."""
        for workload in order.classes if _has_gateway(order.fleet) else ():
            if done.failed:
                return  # the server is away: every further request would wait for its time-out
            target = order.targets.of(workload.name)
            if workload.route is None or target is None or workload.name in done.held:
                continue
            answer = self._api.send("GET", HTTP_ROUTE.path(order.fleet.namespace, workload.route.name))
            if not answer.fine and answer.status != 404:
                done.refuse("get", HTTP_ROUTE, workload.route.name, answer, workload=workload.name)
                continue
            observed = answer.document if answer.fine else None
            if observed is not None:
                done.seen[HTTP_ROUTE.name, workload.route.name] = observed
            patch, finding = gateway_api.weights_patch(observed, order.fleet, workload, target)
            if finding is not None:
                done.hold(workload.name, finding)
            done.touched.add((HTTP_ROUTE.name, workload.route.name))
            if patch:
                yield workload, patch

    def _patch(self, workload: WorkloadClass, patch: list[Document], namespace: str, done: Ledger) -> None:
        """Put weights into a user's route; what changed under our hands is left for the next pass."""
        route = workload.route.name if workload.route else ""
        path, query = HTTP_ROUTE.path(namespace, route), {"fieldManager": FIELD_MANAGER}
        answer = self._api.send("PATCH", path, query=query, body=patch, content_type=JSON_PATCH)
        if answer.fine:
            done.written.append(f"{HTTP_ROUTE.name}/{route}")
        else:
            done.refuse("patch", HTTP_ROUTE, route, answer, workload=workload.name)


def _kinds(fleet: Fleet) -> tuple[Kind, ...]:
    """The kinds that are listed for a fleet; a cluster without Gateway API is not asked for it."""
    objectives = inference_objectives.kind(fleet)
    listed = LISTED if objectives is None else (objectives, *LISTED)
    return listed if _has_gateway(fleet) else ()


def _kind(document: Mapping[str, Any]) -> Kind:
    return KINDS[document["apiVersion"], document["kind"]]


def _has_gateway(fleet: Fleet) -> bool:
    return fleet.data_plane.kind is DataPlaneKind.ENVOY_GATEWAY


def _version(observed: Mapping[str, Any]) -> str:
    return str(observed["metadata"].get("resourceVersion", ""))
