"""Fleet, classes, replicas and plan from the API server, by list and watch.

The gate only reads. A server that does not answer changes nothing: what was seen last stays in
force, and every kind is listed anew, with growing pauses, until it answers again.

Written on aiohttp because a plan has to act within a tenth of a second: the operator's own
watches live in kopf, which this process does not load.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import kubernetes

from sluice.api.manifests import Manifests, read
from sluice.gate.feed import FeedError, World, let_go, lets_go, read_plan, world_of
from sluice.model.naming import GROUP, VERSION, plan_config_map
from sluice.model.plan import Plan

LOG = logging.getLogger(__name__)
WATCH_SECONDS = 240
PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
GATHER_SECONDS = 0.05
"""Changes of objects that come together are taken together; a plan comes alone, and at once."""
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# The client's configuration loaders are not typed.
_LOAD_KUBECONFIG: Callable[..., None] = kubernetes.config.load_kube_config
_LOAD_INCLUSTER: Callable[..., None] = kubernetes.config.load_incluster_config
_PLANS = "configmaps"
_ROUTES = "httproutes"
_MISSABLE = frozenset({_ROUTES})
"""What a server may lack, or not show us: it tells classes apart that share a user's route, and no more."""
MISSING_SECONDS = 60.0
"""How often such a kind is asked for again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """An API server and who we are there."""

    configuration: kubernetes.client.Configuration
    namespace: str

    @classmethod
    def login(cls, kubeconfig: Path | None, namespace: str | None) -> Access:
        """In-cluster where we run in a pod and no ``kubeconfig`` is given."""
        configuration = kubernetes.client.Configuration()
        if kubeconfig is None and NAMESPACE_FILE.exists():
            _LOAD_INCLUSTER(client_configuration=configuration)
            own = NAMESPACE_FILE.read_text(encoding="utf-8").strip()
        else:
            path = None if kubeconfig is None else str(kubeconfig)
            try:
                _LOAD_KUBECONFIG(config_file=path, client_configuration=configuration)
            except (kubernetes.config.ConfigException, OSError) as error:
                raise FeedError(f"no usable kubeconfig ({path or 'the default one'}): {error}") from error
            own = "default"
        return cls(configuration=configuration, namespace=namespace or own)

    def headers(self) -> dict[str, str]:
        """Authorisation; a token that rotates is read anew at every call."""
        token = str(self.configuration.get_api_key_with_prefix("BearerToken") or "")
        if token:
            return {"Authorization": token if " " in token else f"Bearer {token}"}
        if self.configuration.username:
            pair = f"{self.configuration.username}:{self.configuration.password}"
            return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        return {}

    def tls(self) -> ssl.SSLContext | bool:
        """Trust as the configuration says."""
        if not self.configuration.host.startswith("https"):
            return False
        context = ssl.create_default_context(cafile=self.configuration.ssl_ca_cert or None)
        if not self.configuration.verify_ssl:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.configuration.cert_file:
            context.load_cert_chain(self.configuration.cert_file, self.configuration.key_file)
        return context


def cause(error: Exception) -> str:
    """What may be logged of ``error``: the representation of a refusal holds the request's headers, and our token."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"HTTP {error.status}"
    return f"{type(error).__name__}: {error}"[:200]


@dataclass(slots=True, kw_only=True)
class ClusterFeed:
    """Follows everything a gate must know of one fleet."""

    access: Access
    fleet_name: str
    take_world: Callable[[World], None]
    take_plan: Callable[[Plan], None]
    problem: Callable[[str], None]
    _seen: dict[str, dict[str, Mapping[str, Any]]] = field(default_factory=dict)
    _read: dict[tuple[str, str], tuple[str, Manifests]] = field(default_factory=dict)
    """(plural, name) -> version of the object, and what it declares."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _planned: asyncio.Event = field(default_factory=asyncio.Event)
    _begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a world was told: a plan is for one."""
    _plan_seen: tuple[str, str] = ("", "")
    """The plan's text, and when the operator last confirmed it."""
    _told: World | None = None
    """What was told last of a fleet that could be used."""

    def _paths(self) -> dict[str, tuple[str, dict[str, str]]]:
        """Plural -> collection and query."""
        ours = f"/apis/{GROUP}/{VERSION}/namespaces/{self.access.namespace}"
        core = f"/api/v1/namespaces/{self.access.namespace}"
        slices = f"/apis/discovery.k8s.io/v1/namespaces/{self.access.namespace}/endpointslices"
        plan = {"fieldSelector": f"metadata.name={plan_config_map(self.fleet_name)}"}
        return {
            **{
                plural: (f"{ours}/{plural}", {})
                for plural in ("inferencefleets", "workloadclasses", "iterationprofiles")
            },
            "pods": (f"{core}/pods", {}),
            "endpointslices": (slices, {}),
            _ROUTES: (f"/apis/gateway.networking.k8s.io/v1/namespaces/{self.access.namespace}/{_ROUTES}", {}),
            _PLANS: (f"{core}/{_PLANS}", plan),
        }

    async def run(self) -> None:
        """Follow, for ever."""
        limits = aiohttp.ClientTimeout(total=None, connect=5.0, sock_connect=5.0, sock_read=WATCH_SECONDS + 30.0)
        connector = aiohttp.TCPConnector(ssl=self.access.tls())
        base = self.access.configuration.host
        async with (
            aiohttp.ClientSession(base, timeout=limits, connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            for plural, (path, query) in self._paths().items():
                group.create_task(self._follow(session, plural, path, query))
            group.create_task(self._tell_worlds())
            group.create_task(self._tell_plans())

    async def _follow(self, session: aiohttp.ClientSession, plural: str, path: str, query: dict[str, str]) -> None:
        failures = 0
        while True:
            try:
                version = await self._list(session, plural, path, query)
                failures = 0
                async for event in self._watch(session, path, {**query, "resourceVersion": version}):
                    self._apply(plural, event)
            except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
                if (
                    plural in _MISSABLE
                    and isinstance(error, aiohttp.ClientResponseError)
                    and error.status in (403, 404)
                ):
                    self._seen[plural] = {}
                    self._changed.set()
                    await asyncio.sleep(MISSING_SECONDS)
                    continue
                pause = PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)]
                if failures == 0:
                    LOG.warning("going on with what was seen last", extra={"kind": plural, "problem": cause(error)})
                    self.problem("ApiServer")
                failures += 1
                await asyncio.sleep(pause)

    async def _list(self, session: aiohttp.ClientSession, plural: str, path: str, query: dict[str, str]) -> str:
        async with session.get(path, params=query, headers=self.access.headers()) as answer:
            answer.raise_for_status()
            document = await answer.json()
        self._seen[plural] = {item["metadata"]["name"]: item for item in document.get("items", [])}
        self._notice(plural)
        return str(document["metadata"]["resourceVersion"])

    async def _watch(
        self, session: aiohttp.ClientSession, path: str, query: dict[str, str]
    ) -> AsyncIterator[Mapping[str, Any]]:
        wanted = {**query, "watch": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        async with session.get(path, params=wanted, headers=self.access.headers()) as answer:
            answer.raise_for_status()
            buffer = b""
            async for chunk in answer.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":  # the version is too old: list anew
                        raise ValueError(str(event["object"].get("message")))
                    yield event

    def _apply(self, plural: str, event: Mapping[str, Any]) -> None:
        item = event["object"]
        name = item["metadata"]["name"]
        if event["type"] == "DELETED":
            self._seen[plural].pop(name, None)
        else:
            self._seen[plural][name] = item
        self._notice(plural)

    def _notice(self, plural: str) -> None:
        (self._planned if plural == _PLANS else self._changed).set()

    async def _tell_worlds(self) -> None:
        while True:
            await self._changed.wait()
            if not self._seen.keys() | {_PLANS} >= self._paths().keys():
                self._changed.clear()  # nothing is told before everything was listed once
                continue
            await asyncio.sleep(GATHER_SECONDS)
            self._changed.clear()
            try:
                self._tell_world()
            except FeedError as error:
                self._complain(error)

    async def _tell_plans(self) -> None:
        """At once, and apart from objects: these come in numbers, and with every new Pod."""
        await self._begun.wait()
        while True:
            await self._planned.wait()
            self._planned.clear()
            try:
                self._tell_plan()
            except FeedError as error:
                self._complain(error)

    def _complain(self, error: FeedError) -> None:
        LOG.warning("going on with what was there before", extra={"problem": str(error)})
        self.problem("Objects")

    def _tell_world(self) -> None:
        declared = self._declared()
        try:
            self._told = world_of(declared, self.fleet_name)
        except FeedError:
            if self._told is not None and lets_go(declared, self.fleet_name):
                self.take_world(let_go(self._told))
            raise
        self.take_world(self._told)
        self._begun.set()

    def _declared(self) -> Manifests:
        """What the objects declare, by the same judgement as manifests from files; each is read once a version."""
        known, self._read = self._read, {}
        for plural, items in self._seen.items():
            for name, item in items.items() if plural != _PLANS else ():
                version = str(item["metadata"].get("resourceVersion"))
                before = known.get((plural, name))
                unchanged = before is not None and before[0] == version
                self._read[plural, name] = before if before and unchanged else (version, _read(plural, item))
        parts = [part for _, part in self._read.values()]
        return Manifests(
            fleets=tuple(one for part in parts for one in part.fleets),
            classes=tuple(one for part in parts for one in part.classes),
            profiles=tuple(one for part in parts for one in part.profiles),
            others=tuple(one for part in parts for one in part.others),
            errors=tuple(one for part in parts for one in part.errors),
        )

    def _tell_plan(self) -> None:
        data = self._seen.get(_PLANS, {}).get(plan_config_map(self.fleet_name), {}).get("data", {})
        text, confirmed = (str(data.get(key, "")) for key in ("plan.json", "confirmed"))
        if text and (text, confirmed) != self._plan_seen:
            self._plan_seen = text, confirmed
            self.take_plan(read_plan(text, f"{self.access.namespace}/{self.fleet_name}"))


def _read(plural: str, item: Mapping[str, Any]) -> Manifests:
    """One object of a listing, which does not say what it is."""
    return read({**_KINDS[plural], **item}, "API server")


_KINDS = {
    "inferencefleets": {"apiVersion": f"{GROUP}/{VERSION}", "kind": "InferenceFleet"},
    "workloadclasses": {"apiVersion": f"{GROUP}/{VERSION}", "kind": "WorkloadClass"},
    "iterationprofiles": {"apiVersion": f"{GROUP}/{VERSION}", "kind": "IterationProfile"},
    "pods": {"apiVersion": "v1", "kind": "Pod"},
    "endpointslices": {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"},
    _ROUTES: {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"},
}
