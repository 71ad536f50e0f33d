"""Measuring that never holds a pass up: one observation at a time per fleet, waited for with patience.

A Prometheus that hangs must not stop the loop. A pass waits for its observation only so
long; then it goes on with the last one, whose samples carry their own ages, and the one
under way serves the next pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sluice.control.ports import Clock, FleetKey, Observer, Secrets
from sluice.model.fleet import Fleet, MetricsSettings, WorkloadClass
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.snapshot import Observation
from sluice.observe.prometheus import Credentials, credentials_of
from sluice.observe.proxies import Proxies

PROMPT_PATIENCE_SECONDS = 1.0
"""How long a pass waits for measurements when a change is waiting for its answer."""
GRACE_SECONDS = 1.0
"""Beyond the query time-out, for a pass in its usual rhythm."""
CREDENTIALS_SECONDS = 60.0
"""How long credentials that were read are used before they are read again."""

ObserverMaker = Callable[[Fleet, Credentials | None], Observer]


@dataclass(frozen=True, slots=True)
class Haste:
    """How long a pass may wait: not long when a change is waiting for its answer, or comes meanwhile."""

    prompt: bool
    """A change is the reason for the pass."""
    change: asyncio.Event
    """Set when another change comes."""

    async def wait_for(self, task: asyncio.Task[Observation], patience_seconds: float) -> None:
        """Until ``task`` is done or patience is at its end; the task is left alone."""
        if not self.prompt:
            change = asyncio.create_task(self.change.wait())
            await asyncio.wait({task, change}, timeout=patience_seconds, return_when=asyncio.FIRST_COMPLETED)
            change.cancel()
            if not self.change.is_set():
                return
        await asyncio.wait({task}, timeout=min(PROMPT_PATIENCE_SECONDS, patience_seconds))


@dataclass(frozen=True, slots=True)
class Measured:
    """An observation and what is to be known about how it came."""

    observation: Observation
    age_seconds: float | None
    """Since it was asked for; None: there is none."""
    findings: tuple[Finding, ...] = ()


@dataclass(slots=True)
class _Watch:
    """One fleet's observer and what it is doing."""

    settings: MetricsSettings
    admin_address: str | None
    credentials: Credentials | None
    observer: Observer
    task: asyncio.Task[Observation] | None = None
    asked: float = 0.0
    last: Observation | None = None
    last_asked: float = 0.0


class Observations:
    """All fleets' observers."""

    def __init__(self, make: ObserverMaker, secrets: Secrets, clock: Clock) -> None:
        self._make = make
        self._secrets = secrets
        self._clock = clock
        self._watches: dict[FleetKey, _Watch] = {}
        self._read: dict[tuple[str, str], tuple[float, Mapping[str, str] | None]] = {}

    async def take(
        self, key: FleetKey, fleet: Fleet, classes: Sequence[WorkloadClass], around: Proxies, *, haste: Haste
    ) -> Measured:
        """The newest observation that can be had without waiting longer than ``haste`` allows."""
        credentials, findings = await self._credentials(fleet)
        watch = await self._watch(key, fleet, credentials)
        if watch.task is None:
            watch.asked = self._clock.now()
            watch.task = asyncio.create_task(watch.observer.observe(fleet, classes, watch.asked, around))
        await haste.wait_for(watch.task, fleet.metrics.timeout_seconds + GRACE_SECONDS)
        if watch.task.done():
            done, watch.task = watch.task, None
            watch.last, watch.last_asked = done.result(), watch.asked
        if watch.last is None:
            return Measured(_nothing_yet(), None, findings)
        return Measured(watch.last, max(0.0, self._clock.now() - watch.last_asked), findings)

    async def forget(self, key: FleetKey) -> None:
        """The fleet is gone."""
        if watch := self._watches.pop(key, None):
            await _end(watch)

    async def close(self) -> None:
        """End all observers."""
        for key in list(self._watches):
            await self.forget(key)

    async def _watch(self, key: FleetKey, fleet: Fleet, credentials: Credentials | None) -> _Watch:
        """The fleet's observer; a new one where address, settings or credentials changed."""
        wanted = (fleet.metrics, fleet.data_plane.admin_address, credentials)
        known = self._watches.get(key)
        if known is not None:
            if (known.settings, known.admin_address, known.credentials) == wanted:
                return known
            await _end(known)
        made = _Watch(*wanted, observer=self._make(fleet, credentials))
        self._watches[key] = made
        return made

    async def _credentials(self, fleet: Fleet) -> tuple[Credentials | None, tuple[Finding, ...]]:
        """The credentials that the fleet names, and a finding where they cannot be had. Never shown."""
        name = fleet.metrics.credentials_secret
        if name is None:
            return None, ()
        place, now = (fleet.namespace, name), self._clock.monotonic()
        read_at, data = self._read.get(place, (float("-inf"), None))
        if data is None or now - read_at > CREDENTIALS_SECONDS:
            data = await self._secrets.read(fleet.namespace, name)
            self._read[place] = (now, data)
        credentials = credentials_of(data) if data is not None else None
        return credentials, () if credentials is not None else (_no_credentials(name, missing=data is None),)


async def _end(watch: _Watch) -> None:
    if watch.task is not None:
        watch.task.cancel()
        await asyncio.gather(watch.task, return_exceptions=True)
    await watch.observer.close()


def _nothing_yet() -> Observation:
    finding = Finding(
        condition=ConditionType.METRICS_AVAILABLE,
        reason=Reason.PROMETHEUS_UNREACHABLE,
        message="no answer from the metrics sources yet",
    )
    return Observation(proxies_ready=0, problems=(finding,))


def _no_credentials(name: str, *, missing: bool) -> Finding:
    what = "does not exist or may not be read" if missing else "has neither token nor username and password"
    return Finding(
        condition=ConditionType.RESOLVED_REFS,
        reason=Reason.SECRET_NOT_FOUND,
        message=f"spec.metrics.credentialsSecretRef: Secret {name} {what}",
    )
