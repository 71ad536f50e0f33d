"""What the running order is decided by beyond what every gate sees, and what it does without. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sluice.gate.engines import READING_AGE_SECONDS
from sluice.gate.state import Gate
from sluice.policy.admission import Need
from sluice.policy.orders import BANDS, EARLIEST_DEADLINE, FIRST_COME, GATE, PRIORITY, TIMELY

ORDERS = (TIMELY, BANDS, PRIORITY, EARLIEST_DEADLINE, GATE, FIRST_COME)
"""Orders that a gate may run, the default first."""
SOURCE = {
    Need.PLAN: "a fresh plan: rates, guarantees, bands, indices, targets",
    Need.PROMISES: "a TTFT target of some class",
    Need.GAUGES: "the engines' own gauges: slots, queue, KV memory",
}
WITHOUT = {
    Need.PLAN: "tiers first, then by what is declared: values, lengths, rates; nothing is closed",
    Need.PROMISES: "nothing is ever late; every request counts as able to wait ten seconds",
    Need.GAUGES: "prices follow prefill budgets alone, and an engine is open by its budget alone",
}


def unmet(gate: Gate) -> frozenset[Need]:
    """Needs of the running order that its view does not meet, as of the last tick."""
    seen = set()
    if gate.terms.plan_id:
        seen.add(Need.PLAN)
    if any(math.isfinite(entry.promise_seconds) for entry in gate.terms.lanes):
        seen.add(Need.PROMISES)
    if any(engine.seen_at - engine.read_at <= READING_AGE_SECONDS for engine in gate.engines.values()):
        seen.add(Need.GAUGES)
    return gate.terms.policy.needs - seen


def rows() -> Iterator[str]:
    """The table in this room's README: every need, the orders that have it, what they do without."""
    for need in Need:
        orders = ", ".join(policy.name for policy in ORDERS if need in policy.needs)
        yield f"| {SOURCE[need]} | {orders} | {WITHOUT[need]} |"
