"""The admission policies by name: the paper's, today's, and the ones found since.

Each is a frozen value over the kernels of ``sluice.policy.kernels``; what a policy needs
beyond the gate's own view is declared. The live gate says which of it is there, and what is
done without the rest (``sluice.gate.needs``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sluice.policy.admission import AdmissionPolicy, Need
from sluice.policy.kernels import Late, Order

FIRST_COME = AdmissionPolicy(name="first-come", order=Order.ARRIVAL)
"""First come, first served: what engines do behind a plain load balancer."""

GATE = AdmissionPolicy(name="gate", order=Order.OCCUPANCY, needs=frozenset({Need.PLAN}))
"""The paper's gate (section 4.1): the class furthest below its planned prefill occupancy."""

CAPPED_GATE = AdmissionPolicy(name="capped-gate", order=Order.OCCUPANCY, cap=True, needs=frozenset({Need.PLAN}))
"""The same, and never above the planned occupancy (model page section 3.6, C). Not work-conserving."""

QUEUE_GATE = AdmissionPolicy(name="queue-gate", order=Order.QUEUE, needs=frozenset({Need.PLAN}))
"""The class whose queue exceeds its planned queue most (model page section 3.6, Q)."""

PRIORITY = AdmissionPolicy(name="priority", order=Order.INDEX, needs=frozenset({Need.PLAN}))
"""Highest index first: D/P for separate charging (section 4.2.1), value per token of the binding row otherwise."""

BANDS = AdmissionPolicy(name="bands", order=Order.BANDS, needs=frozenset({Need.PLAN}))
"""Fully planned classes, then rationed ones while they hold credit, then the rest."""

EARLIEST_DEADLINE = AdmissionPolicy(name="earliest-deadline", order=Order.DEADLINE, needs=frozenset({Need.PROMISES}))
"""Earliest promise first, whether it can still be kept or not."""


TIMELY = AdmissionPolicy(name="timely", order=Order.TIMELY, needs=frozenset(Need), late=Late.LAST)
"""By value for what is scarce, and by promise as far as value allows it; the late last, least in the way first."""

MARGIN_SECONDS = 0.2
"""Kept in hand before a promise counts as lost: a start may find a budget of unfinished prompt before it."""


def timely(prefill_seconds_per_token: float, **how: Any) -> AdmissionPolicy:
    """The timely order for engines of a given speed; ``how`` replaces its parameters by name."""
    given = {"prefill_seconds_per_token": prefill_seconds_per_token, "margin_seconds": MARGIN_SECONDS, **how}
    return replace(TIMELY, **given)


def keeping_promises(
    policy: AdmissionPolicy,
    *,
    prefill_seconds_per_token: float,
    late: Late = Late.LAST,
    margin_seconds: float = 0.0,
    own_prompt: bool = True,
) -> AdmissionPolicy:
    """``policy`` for requests that can still keep their promise; the others wait in a lower band or are refused."""
    suffix = {Late.IGNORE: "", Late.LAST: "+late-last", Late.REFUSE: "+late-refused"}[late]
    return replace(
        policy,
        name=policy.name + suffix,
        needs=policy.needs | {Need.PROMISES},
        late=late,
        own_prompt=own_prompt,
        prefill_seconds_per_token=prefill_seconds_per_token,
        margin_seconds=margin_seconds,
    )


def promising(policy: AdmissionPolicy, prefill_seconds_per_token: float, late: Late = Late.LAST) -> AdmissionPolicy:
    """``policy`` with the margin that the timely order has."""
    return keeping_promises(
        policy, prefill_seconds_per_token=prefill_seconds_per_token, late=late, margin_seconds=MARGIN_SECONDS
    )


def with_reserve(policy: AdmissionPolicy, share: float = 1.0) -> AdmissionPolicy:
    """``policy`` whose late requests start only on an idle replica, while ``share`` of the replicas have budget."""
    return replace(policy, name=f"{policy.name}+reserve", late_share=share, late_tokens=0.0)
