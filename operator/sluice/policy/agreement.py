"""Whether two plans say the same, but for the noise of estimates. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from sluice.model.plan import ClassPlan, Plan
from sluice.policy.stabilise import weights_differ, within_band

SMALLEST_OCCUPANCY = 1.0
"""Jobs; below it relative changes of an occupancy say nothing."""


def plans_agree(standing: Plan, wanted: Plan, band: float) -> bool:
    """Whether ``wanted`` is within ``band`` of ``standing`` in every number that steers.

    Decisions (bands, ready replicas, the set of classes and pools, charging) must be equal;
    rates and occupancies may differ by the band, weights by the band in points of the whole.
    Money and shadow prices explain and do not steer.
    """
    return (
        _decisions(standing) == _decisions(wanted)
        and all(_near(a, b, band) for a, b in zip(standing.classes, wanted.classes, strict=True))
        and [entry.name for entry in _by_index(standing)] == [entry.name for entry in _by_index(wanted)]
    )


def _decisions(plan: Plan) -> tuple[object, ...]:
    """What is equal or not, with nothing between."""
    pools = tuple((pool.name, pool.replicas) for pool in plan.pools)
    classes = tuple((entry.name, entry.band, entry.rationed, entry.in_flight_limit is None) for entry in plan.classes)
    return (plan.schema_version, plan.fleet, plan.charging, plan.verdict, pools, classes)


def _by_index(plan: Plan) -> Iterable[ClassPlan]:
    """The classes in their order of admission."""
    return sorted(plan.classes, key=lambda entry: (-entry.index, entry.name))


def _near(standing: ClassPlan, wanted: ClassPlan, band: float) -> bool:
    """Whether one class's numbers are within the band."""
    rates = ((standing.arrival_rate, wanted.arrival_rate), (standing.admitted_rate, wanted.admitted_rate))
    jobs = (
        (standing.prefill, wanted.prefill),
        (standing.decode_mixed, wanted.decode_mixed),
        (standing.decode_solo, wanted.decode_solo),
        (float(standing.in_flight_limit or 0), float(wanted.in_flight_limit or 0)),
    )
    weights = [tuple((share.pool, share.weight_permille) for share in entry.pools) for entry in (standing, wanted)]
    return (
        all(within_band(before, after, band) for before, after in rates)
        and all(within_band(before, after, band) or max(before, after) < SMALLEST_OCCUPANCY for before, after in jobs)
        and not weights_differ(weights[0], weights[1], band)
    )
