"""``sluice run`` against an API server: checks at the start, then kopf's watches and our loop until stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import kopf

from sluice.actuate.kinds import Kind
from sluice.actuate.kubernetes_apply import KubernetesActuator
from sluice.actuate.port import Actuator
from sluice.control.caretaking import Caretaker, GatewayPremises
from sluice.control.cluster import feed
from sluice.control.cluster.assembly import Assembly
from sluice.control.cluster.client import ApiError, Cluster, Forbidden, LoginFailed
from sluice.control.cluster.kinds import OTHERS, OURS, PODS
from sluice.control.cluster.proxies import ProxyPods
from sluice.control.cluster.sink import ClusterRecorder, ClusterSecrets, ClusterStatus
from sluice.control.cluster.store import Store
from sluice.control.dataplanes import Unsupported
from sluice.control.garbage import settle_down
from sluice.control.loop import Loop
from sluice.control.metrics import Metrics
from sluice.control.observing import Observations
from sluice.control.passes import Passes
from sluice.control.ports import SystemClock
from sluice.control.probes import ProbeServer
from sluice.control.telling import Telling
from sluice.control.turning import Turning
from sluice.control.workers import Crews, Overloaded, Workers
from sluice.model.fleet import DataPlaneKind, Fleet
from sluice.model.naming import GROUP, VERSION
from sluice.observe.observer import Observer

log = logging.getLogger("sluice.cluster")

RESYNC_SECONDS = 300.0
"""A full listing repairs what a watch that went silent left behind."""


class CannotStart(Exception):  # noqa: N818 - an outcome that the user must change
    """Something that only a person can put right; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """How to run against an API server."""

    namespaces: tuple[str, ...] | None = ()
    """Namespaces to watch; empty: the one we run in; None: all."""
    proxy_namespaces: tuple[str, ...] = ()
    """Namespaces beside those in which proxies run and Pods may be read."""
    kubeconfig: Path | None = None
    address: str = "0.0.0.0"  # noqa: S104 - the kubelet asks from outside the pod
    port: int = 8080


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is watched: kinds that are served and that we may read, and where."""

    kinds: tuple[Kind, ...]
    unwatched: frozenset[str]
    namespaces: tuple[str | None, ...]
    """(None,): all namespaces in one watch."""


def scope_of(cluster: Cluster, namespaces: tuple[str, ...] | None) -> Scope:
    """Look what the server serves and permits; raises :class:`CannotStart` where our own kinds are not."""
    places: tuple[str | None, ...] = (None,) if namespaces is None else (namespaces or (cluster.namespace,))
    missing = [kind.plural for kind in OURS if not cluster.serves(kind)]
    if missing:
        raise CannotStart(
            f"the API server does not serve {', '.join(missing)} in {GROUP}/{VERSION}: "
            "install the definitions with kubectl apply --server-side -f crds/"
        )
    kinds, unwatched = list(OURS), set()
    for place in places:
        for kind in OURS:
            if problem := _refused(cluster, kind, place):
                where = f"namespace {place}" if place else "all namespaces"
                raise CannotStart(f"not permitted to list {kind.plural} in {where}: {problem}")
    for kind in OTHERS:
        if not cluster.serves(kind) or any(_refused(cluster, kind, place) for place in places):
            unwatched.add(kind.name)
        else:
            kinds.append(kind)
    return Scope(kinds=tuple(kinds), unwatched=frozenset(unwatched), namespaces=places)


def _refused(cluster: Cluster, kind: Kind, place: str | None) -> str:
    try:
        cluster.request("GET", kind.collection(place), query={"limit": "1"})
    except Forbidden as error:
        return str(error)
    return ""


class DataPlanes:
    """Chooses a fleet's actuator."""

    def __init__(self, cluster: Cluster) -> None:
        self._kubernetes = KubernetesActuator(cluster.api)

    def of(self, fleet: Fleet) -> Actuator:
        """The actuator that ``fleet`` declares."""
        if fleet.data_plane.kind is DataPlaneKind.ENVOY_FILES:
            return Unsupported("dataPlane.kind EnvoyFiles needs sluice run --standalone; here use EnvoyGateway")
        return self._kubernetes


class Operator:
    """The parts, put together."""

    def __init__(self, settings: OperatorSettings, cluster: Cluster, scope: Scope) -> None:
        self._settings = settings
        self._cluster = cluster
        self._scope = scope
        clock, self.metrics, self._crews = SystemClock(), Metrics(version("sluice")), Crews()
        self._reading = Workers("reading", threads=4, timeout_seconds=60.0)
        self._store = Store(Assembly(scope.unwatched))
        self._proxies = ProxyPods(cluster, self._store, self._reading, _apart(settings.proxy_namespaces, scope))
        writing = self._crews.writing
        instance = os.environ.get("POD_NAME") or socket.gethostname()
        telling = Telling(
            sink=ClusterStatus(cluster, self._store, writing),
            recorder=ClusterRecorder(cluster, writing, instance),
            metrics=self.metrics,
        )
        self._observations = Observations(Observer.of, ClusterSecrets(cluster, self._reading), clock)
        passes = Passes(
            world=self._store,
            observations=self._observations,
            actuator_of=DataPlanes(cluster).of,
            telling=telling,
            clock=clock,
            metrics=self.metrics,
            crews=self._crews,
        )
        premises = GatewayPremises(cluster.api, scope.namespaces, self._reading)
        self._caretaker = Caretaker(world=self._store, premises=premises, clock=clock)
        self._loop = Loop(world=self._store, passes=passes, clock=clock, metrics=self.metrics, settle_down=settle_down)
        self._probes = ProbeServer(healthy=self._loop.healthy, ready=self._loop.ready, metrics=self.metrics)
        self._turning = Turning()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT, which kopf takes, or until a part of us ends by itself, which is raised."""
        handlers = feed.registry(
            self._cluster, self._store, self._scope.kinds, self.metrics, started=self._start, ending=self._end
        )
        everywhere = self._scope.namespaces == (None,)
        await kopf.operator(
            registry=handlers,
            settings=feed.settings(),
            standalone=True,
            clusterwide=everywhere,
            namespaces=() if everywhere else [place for place in self._scope.namespaces if place],
            stop_flag=self._turning.ended,
        )
        self._turning.raise_failure()

    async def _start(self) -> None:
        """Fill the store, answer probes, turn the loop."""
        settle_down()
        await self._list_all()
        await self._proxies.refresh()
        port = await self._probes.start(self._settings.address, self._settings.port)
        log.info("probes and metrics at http://%s:%d", self._settings.address, port)
        places = ", ".join(place or "all namespaces" for place in self._scope.namespaces)
        log.info(
            "watching", extra={"where": places, "unwatched": ", ".join(sorted(self._scope.unwatched)) or "nothing"}
        )
        self._turning.start("the loop", self._loop.run())
        self._turning.start("listing anew", self._resync())
        self._turning.start("the caretaker", self._caretaker.keep())
        self._turning.start("counting proxies", self._proxies.keep())

    async def _end(self) -> None:
        await self._turning.stop()
        await self._observations.close()
        await self._probes.stop()
        self._crews.close()
        self._reading.close()
        log.info("stopped; the data plane keeps what it holds")

    async def _list_all(self) -> None:
        for kind in self._scope.kinds:
            for place in self._scope.namespaces:
                listing = await self._reading.run(self._cluster.list, kind, place)
                self._store.replace(kind, place, listing.items, listing.version)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            try:
                await self._list_all()
            except (ApiError, TimeoutError, Overloaded) as error:
                log.warning("listing failed: %s", error)


def _apart(namespaces: Iterable[str], scope: Scope) -> tuple[str, ...]:
    """Those of ``namespaces`` whose Pods are not watched anyway."""
    watched = scope.namespaces if PODS in scope.kinds else ()
    return () if None in watched else tuple(name for name in dict.fromkeys(namespaces) if name not in watched)


async def run_operator(settings: OperatorSettings) -> None:
    """Log in, look around, run until stopped."""
    try:
        cluster = await asyncio.to_thread(Cluster.login, settings.kubeconfig)
        scope = await asyncio.to_thread(scope_of, cluster, settings.namespaces)
    except (LoginFailed, ApiError) as error:
        raise CannotStart(f"the API server cannot be used: {error}") from error
    await Operator(settings, cluster, scope).run()
