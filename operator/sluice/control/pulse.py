"""Changes on their way to the loop: set from any side, taken once, never lost and never queued."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class Pulse:
    """Collects the namespaces that changed since somebody last looked.

    Level-based: ten changes before the next look are one look.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._namespaces: set[str] = set()

    def beat(self, namespaces: Iterable[str]) -> None:
        """Something changed in ``namespaces``; call it from the event loop's thread."""
        self._namespaces.update(namespaces)
        if self._namespaces:
            self._event.set()

    async def taken(self) -> frozenset[str]:
        """Wait for a change, then hand over everything that has gathered."""
        await self._event.wait()
        self._event.clear()
        changed = frozenset(self._namespaces)
        self._namespaces.clear()
        return changed
