"""Limits that no living fleet holds are lifted, whoever of us wrote them, and whenever.

A pass knows its own fleet and what it wrote itself. What an operator before us left behind for
a fleet that has gone since, that enforces no longer, or that enforces elsewhere now, no pass
would ever look at. The caretaker does: at the start, when the fleets that enforce change, and
every few minutes. A pass that was under way as its fleet left may write after the caretaker's
look, so it comes back once no such pass can be left.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from sluice.actuate import leftovers
from sluice.actuate.envoy_files import EnvoyFiles
from sluice.actuate.kubernetes_api import KubernetesApi
from sluice.control.enforcing import Enforcing, enforcing
from sluice.control.ports import Clock, World
from sluice.control.workers import Overloaded, Workers
from sluice.model.decision import Receipt
from sluice.model.fleet import DataPlaneKind

log = logging.getLogger("sluice.caretaker")

PERIOD_SECONDS = 2.0
"""How often the fleets that enforce are compared with those of the last look."""
SETTLED_SECONDS = 60.0
"""After a change of the fleets that enforce, when nothing that began before it writes any longer."""
AGAIN_SECONDS = 300.0
"""How often everything is looked at although no fleet changed: somebody may restore an old object."""


class Premises(Protocol):
    """One place where limits may be left behind."""

    async def clear(self, world: World) -> Receipt:
        """Lift what no fleet of ``world`` holds."""
        ...


class Caretaker:
    """Looks after the premises."""

    def __init__(self, *, world: World, premises: Premises, clock: Clock) -> None:
        self._world = world
        self._premises = premises
        self._clock = clock
        self._seen: Enforcing | None = None
        self._due = float("-inf")
        self._complaint = ""

    async def keep(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(PERIOD_SECONDS)

    async def look(self) -> None:
        """Clear the premises where that is due, until nothing is left; what fails is told once and tried again."""
        seen, now = enforcing(self._world.view()), self._clock.monotonic()
        if seen == self._seen and now < self._due:
            return
        try:
            receipt = await self._premises.clear(self._world)
            complaint = "; ".join(problem.message for problem in receipt.problems)
        except (TimeoutError, Overloaded) as error:
            receipt, complaint = Receipt(), str(error)
        if lifted := (*receipt.written, *receipt.removed):
            log.warning("limits that no fleet holds any longer were lifted", extra={"objects": ", ".join(lifted)})
        if complaint and complaint != self._complaint:
            log.warning("limits may stay that no fleet holds any longer: %s", complaint)
        self._complaint = complaint
        if not complaint and not lifted:
            self._due = now + (AGAIN_SECONDS if seen == self._seen else SETTLED_SECONDS)
            self._seen = seen


class GatewayPremises:
    """Gateway objects on an API server."""

    def __init__(self, api: KubernetesApi, namespaces: tuple[str | None, ...], crew: Workers) -> None:
        self._api = api
        self._namespaces = namespaces
        self._crew = crew

    async def clear(self, world: World) -> Receipt:
        """See :class:`Premises`.

        Listed first and compared with the fleets of afterwards: what a pass wrote for a fleet that began to
        enforce meanwhile is then known to be that fleet's.
        """
        found = await self._crew.run(leftovers.find, self._api, self._namespaces)
        left = found.without(enforcing(world.view())[DataPlaneKind.ENVOY_GATEWAY])
        return await self._crew.run(leftovers.lift, self._api, left)


class FilesPremises:
    """The files of the one Envoy that a standalone operator drives."""

    def __init__(self, files: EnvoyFiles, crew: Workers) -> None:
        self._files = files
        self._crew = crew

    async def clear(self, world: World) -> Receipt:
        """See :class:`Premises`."""
        living = enforcing(world.view())[DataPlaneKind.ENVOY_FILES]
        return await self._crew.run(self._files.open_unless, frozenset("/".join(key) for key in living))
