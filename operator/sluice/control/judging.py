"""Findings to conditions: one table says what each reason does to a condition. Pure.

A fleet's conditions sum up its own findings and, where the data plane or the metrics are
concerned, those of its classes. A class has its own findings and inherits the fleet's
plan, writes and metrics. ``Ready`` sums up what applies in the fleet's mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sluice.api.conditions import Condition, Status, clear_condition, set_condition
from sluice.control.settling import settled_message
from sluice.model.reasons import ConditionType, Finding, Reason

SUMMARY = (
    ConditionType.ACCEPTED,
    ConditionType.RESOLVED_REFS,
    ConditionType.METRICS_AVAILABLE,
    ConditionType.SOLVED,
    ConditionType.PROGRAMMED,
    ConditionType.EFFECTIVE,
)
"""In the order in which a reader should look at them: the first bad one is the cause of the rest."""
ROLLED_UP = frozenset({ConditionType.PROGRAMMED, ConditionType.EFFECTIVE})
"""Findings about a class that are the fleet's business too."""
GATES_READY = frozenset(SUMMARY) - {ConditionType.METRICS_AVAILABLE}
"""Metrics may be away for a while without harm: the plan is held, and ``Degraded`` says so."""

GOOD = frozenset(
    {
        Reason.ACCEPTED,
        Reason.RESOLVED,
        Reason.MEASURED,
        Reason.PARTLY_PRIOR,
        Reason.OPTIMAL,
        Reason.PROGRAMMED,
        Reason.OBEYED,
        Reason.READY,
    }
)
OPEN = frozenset({Reason.PENDING, Reason.NOT_VERIFIED})
"""Nobody knows yet: Unknown."""
NEGATIVE = (ConditionType.STALLED, ConditionType.DEGRADED, ConditionType.DRIFTED)
"""Present only when true."""
SPEC_FAULTS = frozenset({Reason.INVALID, Reason.CONTRADICTORY_PRICES, Reason.OVERLAPPING_MATCH, Reason.POOL_NOT_FOUND})
"""Only a change of the spec can help: ``Stalled``."""
MESSAGES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition before it meets its history."""

    type: ConditionType
    status: Status
    reason: Reason
    message: str
    own: bool = True
    """Whether it is about this very object, not inherited from its fleet."""


def status_of(finding: Finding) -> Status:
    """What a finding makes of its condition."""
    if finding.condition in NEGATIVE:
        return "True"
    if finding.reason in GOOD:
        return "True"
    if finding.reason in OPEN:
        return "Unknown"
    if finding.reason is Reason.NOT_ENFORCING and finding.condition is ConditionType.EFFECTIVE:
        return "Unknown"
    return "False"


_RANK = {"False": 0, "Unknown": 1, "True": 2}
_ORDER = {reason: position for position, reason in enumerate(Reason)}


def verdict(type_: ConditionType, findings: Iterable[Finding], otherwise: Verdict) -> Verdict:
    """The condition that ``findings`` make: the gravest decides, and those of the same reason are listed."""
    mine = [finding for finding in findings if finding.condition is type_]
    if not mine:
        return otherwise
    mine.sort(key=lambda finding: (_RANK[status_of(finding)], not finding.blocking, _ORDER[finding.reason]))
    first = mine[0]
    alike = list(dict.fromkeys(finding.message for finding in mine if finding.reason is first.reason))
    message = "; ".join(alike[:MESSAGES_SHOWN])
    if len(alike) > MESSAGES_SHOWN:
        message += f"; and {len(alike) - MESSAGES_SHOWN} more"
    return Verdict(type_, status_of(first), first.reason, message)


def ready(verdicts: Sequence[Verdict], *, enforcing: bool, note: str = "") -> Verdict:
    """The summary: the first condition that is in the way, or Ready."""
    for entry in verdicts:
        if entry.type not in GATES_READY:
            continue
        if entry.type in (ConditionType.PROGRAMMED, ConditionType.EFFECTIVE) and not enforcing:
            continue
        if entry.status == "False" or (entry.status == "Unknown" and entry.type is not ConditionType.EFFECTIVE):
            return Verdict(ConditionType.READY, entry.status, entry.reason, f"{entry.type.value}: {entry.message}")
    what = "planned and written" if enforcing else "planned; nothing is written in this mode"
    return Verdict(ConditionType.READY, "True", Reason.READY, f"{what}{note}")


def negatives(findings: Iterable[Finding], verdicts: Sequence[Verdict], *, holding: str) -> tuple[Verdict, ...]:
    """``Stalled``, ``Degraded``, ``Drifted``, where true. ``holding``: id of an old plan in force, or empty."""
    told = tuple(findings)
    shown = []
    for type_ in NEGATIVE:
        absent = Verdict(type_, "False", Reason.READY, "")
        found = verdict(type_, told, absent)
        if found is absent:
            found = _derived(type_, verdicts, holding) or absent
        if found.status == "True":
            shown.append(found)
    return tuple(shown)


def _derived(type_: ConditionType, verdicts: Sequence[Verdict], holding: str) -> Verdict | None:
    bad = [entry for entry in verdicts if entry.status == "False"]
    if type_ is ConditionType.STALLED:
        fault = next((entry for entry in bad if entry.reason in SPEC_FAULTS), None)
        return None if fault is None else Verdict(type_, "True", fault.reason, fault.message)
    unsolved = next((entry for entry in bad if entry.type is ConditionType.SOLVED), None)
    if type_ is not ConditionType.DEGRADED or unsolved is None or not holding:
        return None
    return Verdict(type_, "True", Reason.HELD, f"plan {holding} stays in force: {unsolved.message}")


def conditions(
    before: Sequence[Condition], verdicts: Sequence[Verdict], *, generation: int, now_rfc3339: str
) -> tuple[Condition, ...]:
    """``verdicts`` as conditions: transition times from history, and ticking figures left as they were told."""
    known = {condition.type: condition for condition in before}
    after: tuple[Condition, ...] = tuple(before)
    for entry in verdicts:
        previous = known.get(entry.type.value)
        message = entry.message
        if previous is not None and (previous.status, previous.reason) == (entry.status, entry.reason):
            message = settled_message(previous.message, message)
            if (previous.message, previous.observed_generation) == (message, generation):
                continue
        after, _ = set_condition(
            after, entry.type, entry.status, entry.reason, message, generation=generation, now_rfc3339=now_rfc3339
        )
    given = {entry.type.value for entry in verdicts}
    for condition in before:
        if condition.type not in given:
            after, _ = clear_condition(after, ConditionType(condition.type))
    return after
