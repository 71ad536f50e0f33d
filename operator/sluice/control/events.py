"""Events: what changed, told once. Pure; ``Recorder`` adapters post them.

Normal and Warning only, short CamelCase reasons, bounded messages, and nothing per pass:
an event is derived from the difference between the conditions an object bears and those
it will bear, so a restarted operator repeats none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sluice.api.conditions import Condition
from sluice.model.decision import ClassTarget, Targets
from sluice.model.reasons import ConditionType, Reason

MESSAGE_LIMIT = 400
"""Characters; what is longer belongs into status."""
NEAR = 0.1
"""A limit this near to its goal, as a share, has arrived: the dead band may hold it there."""
LEAST_GOAL = 0.001
"""Requests per second; what a plan admits less of is nothing to a reader."""
BY_CHOICE = frozenset({Reason.NOT_ENFORCING.value, Reason.NOT_CONFIGURED.value})
"""What the user asked for is no news."""
NEGATIVE = frozenset({ConditionType.STALLED.value, ConditionType.DEGRADED.value, ConditionType.DRIFTED.value})


class EventType(StrEnum):
    """The two types that Kubernetes knows."""

    NORMAL = "Normal"
    WARNING = "Warning"


class EventReason(StrEnum):
    """Reasons of events that are not reasons of conditions."""

    LIMITS_CHANGED = "LimitsChanged"
    """Limits in the data plane moved; the message has before and after."""
    WEIGHTS_CHANGED = "WeightsChanged"
    """Weights in the data plane moved; the message has before and after."""
    CLASS_REMOVED = "ClassRemoved"
    """A class is gone, and the route we made for it with it."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an event is about."""

    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Event:
    """One event."""

    subject: Subject
    type: EventType
    reason: str
    message: str

    @property
    def digest(self) -> str:
        """Equal for events that say the same about the same object."""
        text = "\0".join((self.subject.uid, self.subject.kind, self.subject.name, self.reason, self.message))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def bounded(message: str) -> str:
    """The message, cut to what an event may hold."""
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"


def transitions(
    subject: Subject, before: Sequence[Condition], after: Sequence[Condition], told: frozenset[str]
) -> tuple[Event, ...]:
    """Events for conditions of the types ``told`` whose status or reason changed.

    A condition that appears is told only when it is bad; Unknown is never told. ``Ready``
    sums up the others and would repeat them.
    """
    known = {condition.type: condition for condition in before}
    events = []
    for condition in after:
        previous = known.get(condition.type)
        if condition.type not in told or condition.status == "Unknown" or condition.reason in BY_CHOICE:
            continue
        if previous is not None and (previous.status, previous.reason) == (condition.status, condition.reason):
            continue
        bad = _is_bad(condition)
        if previous is None and not bad:
            continue
        kind = EventType.WARNING if bad else EventType.NORMAL
        message = bounded(f"{condition.type}={condition.status}: {condition.message}")
        events.append(Event(subject, kind, condition.reason, message))
    return tuple(events)


def _is_bad(condition: Condition) -> bool:
    return condition.status == ("True" if condition.type in NEGATIVE else "False")


def movements(
    subject: Subject, before: Targets | None, after: Targets | None, goals: Mapping[str, float] | None = None
) -> tuple[Event, ...]:
    """What moved in the data plane between two orders, at most three events about the fleet.

    ``goals`` are the admitted rates of rationed classes: a limit that tightens step by step is told
    when it begins and when it is there, and not at every step.
    """
    goals = goals or {}
    if after is None:
        return ()
    standing = {target.name: target for target in before.classes} if before is not None else {}
    limits = [text for target in after.classes if (text := _limit_move(standing.get(target.name), target, goals))]
    weights = [text for target in after.classes if (text := _weight_move(standing.get(target.name), target))]
    gone = sorted(standing.keys() - {target.name for target in after.classes})
    events = []
    if limits:
        events.append(Event(subject, EventType.NORMAL, EventReason.LIMITS_CHANGED, bounded("; ".join(limits))))
    if weights:
        events.append(Event(subject, EventType.NORMAL, EventReason.WEIGHTS_CHANGED, bounded("; ".join(weights))))
    if gone:
        text = (
            f"no longer in the fleet: {', '.join(gone)}. Routes we made for them go with them; "
            "requests that no other rule matches are refused"
        )
        events.append(Event(subject, EventType.NORMAL, EventReason.CLASS_REMOVED, bounded(text)))
    return tuple(events)


def limit_in_words(target: ClassTarget | None) -> str:
    """The limit of a class for people; empty where there is none."""
    if target is None:
        return ""
    parts = []
    if target.rate_limit is not None:
        parts.append(f"{target.rate_limit:.3g}/s")
    if target.in_flight_limit is not None:
        parts.append(f"{target.in_flight_limit} in flight")
    return ", ".join(parts)


def _limit_move(before: ClassTarget | None, after: ClassTarget, goals: Mapping[str, float]) -> str:
    one, other = limit_in_words(before) or "open", limit_in_words(after) or "open"
    if one == other or after.name not in goals or not _is_on_its_way(before, after, goals[after.name]):
        return "" if one == other else f"{after.name} {one} -> {other}"
    if before is not None and before.rate_limit is not None:
        return ""
    return f"{after.name} {one} -> {other}, on its way to {max(goals[after.name], LEAST_GOAL):.3g}/s"


def _is_on_its_way(before: ClassTarget | None, after: ClassTarget, goal: float) -> bool:
    """Whether a rate limit tightens, and has further to go."""
    was = before.rate_limit if before is not None else None
    if after.rate_limit is None or (was is not None and after.rate_limit >= was):
        return False
    return after.rate_limit > goal * (1.0 + NEAR)


def _weight_move(before: ClassTarget | None, after: ClassTarget) -> str:
    if before is None or before.weights == after.weights:
        return ""
    standing = dict(before.weights)
    moved = [f"{pool} {standing.get(pool, 0)}->{weight}" for pool, weight in after.weights]
    return f"{after.name}: {', '.join(moved)}"
