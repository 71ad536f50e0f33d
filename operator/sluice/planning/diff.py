"""Two plans side by side: what would change, in the order a person asks."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.model.plan import ClassPlan, Plan

_SAME = 1e-6
"""Relative difference that no reader needs to see."""


@dataclass(frozen=True, slots=True)
class Change:
    """One number or word that differs."""

    subject: str
    field: str
    before: str
    after: str


def changes(before: Plan, after: Plan) -> tuple[Change, ...]:
    """Everything in ``after`` that differs from ``before``; nothing when both say the same."""
    found = _numbers(
        before.fleet,
        ("value per second", before.value_per_second, after.value_per_second),
        ("upper bound", before.upper_bound, after.upper_bound),
    )
    old_pools, new_pools = ({pool.name: pool for pool in plan.pools} for plan in (before, after))
    for name in dict.fromkeys((*old_pools, *new_pools)):
        if (known := _missing(f"pool {name}", name in old_pools, name in new_pools)) is not None:
            found.append(known)
            continue
        old, new = old_pools[name], new_pools[name]
        found += _numbers(f"pool {name}", ("replicas", old.replicas, new.replicas), ("mixed", old.mixed, new.mixed))
    old_classes, new_classes = ({entry.name: entry for entry in plan.classes} for plan in (before, after))
    for name in dict.fromkeys((*old_classes, *new_classes)):
        if (known := _missing(f"class {name}", name in old_classes, name in new_classes)) is not None:
            found.append(known)
            continue
        found += _class_changes(old_classes[name], new_classes[name])
    return tuple(found)


def _class_changes(old: ClassPlan, new: ClassPlan) -> list[Change]:
    subject = f"class {new.name}"
    found = _numbers(
        subject,
        ("offered/s", old.arrival_rate, new.arrival_rate),
        ("admitted/s", old.admitted_rate, new.admitted_rate),
    )
    for field, before, after in (
        ("planned", old.band.value, new.band.value),
        ("limit", _limit(old), _limit(new)),
        ("weights", _weights(old), _weights(new)),
    ):
        if before != after:
            found.append(Change(subject, field, before, after))
    return found


def _numbers(subject: str, *pairs: tuple[str, float, float]) -> list[Change]:
    return [
        Change(subject, field, f"{before:.5g}", f"{after:.5g}")
        for field, before, after in pairs
        if abs(after - before) > _SAME * max(abs(before), abs(after))
    ]


def _missing(subject: str, before: bool, after: bool) -> Change | None:
    if before and after:
        return None
    return Change(subject, "", "there" if before else "absent", "there" if after else "absent")


def _limit(entry: ClassPlan) -> str:
    return "none" if entry.in_flight_limit is None else f"{entry.in_flight_limit} in flight"


def _weights(entry: ClassPlan) -> str:
    return " ".join(f"{part.pool}={part.weight_permille}" for part in entry.pools)
