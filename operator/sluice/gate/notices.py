"""What the gate says in its log when it changes: what its order lacks, and of which classes it knows no replica."""

from __future__ import annotations

import logging

from sluice.gate.feed import World
from sluice.gate.needs import WITHOUT, unmet
from sluice.gate.state import Gate
from sluice.policy.admission import Need

LOG = logging.getLogger(__name__)


class Notices:
    """Remembers what was said last."""

    def __init__(self) -> None:
        self._unserved: frozenset[str] = frozenset()
        self._order: tuple[str, frozenset[Need]] | None = None

    def tell(self, gate: Gate, world: World) -> None:
        """Say what is new."""
        order = gate.terms.policy.name, unmet(gate)
        if order != self._order:
            self._order = order
            self._tell_order(gate, order[1])
        if gate.unserved != self._unserved:
            self._unserved = gate.unserved
            self._tell_unserved(world)

    @staticmethod
    def _tell_order(gate: Gate, lacking: frozenset[Need]) -> None:
        policy = gate.terms.policy
        met = ", ".join(sorted(need.value for need in policy.needs - lacking)) or "nothing"
        without = "; ".join(f"{need.value} ({WITHOUT[need]})" for need in sorted(lacking)) or "nothing"
        LOG.info("order of admission", extra={"order": policy.name, "met": met, "without": without})

    def _tell_unserved(self, world: World) -> None:
        classes = ", ".join(sorted(self._unserved))
        known = (f"{pool.name}: {len(world.addresses.get(pool.name, ()))}" for pool in world.fleet.pools)
        what = "no ready replica is known of some classes: they are not held" if classes else "replicas are known again"
        LOG.warning(what, extra={"classes": classes, "addresses": ", ".join(known)})
