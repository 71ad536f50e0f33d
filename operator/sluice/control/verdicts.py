"""Which conditions a fleet and its classes bear after a pass: findings first, else what stands. Pure."""

from __future__ import annotations

from sluice.control import judging
from sluice.control.account import Account, ClassIndex
from sluice.control.judging import Verdict, verdict
from sluice.model.demand import ClassDemand
from sluice.model.fleet import DataPlaneKind
from sluice.model.reasons import ConditionType, Reason
from sluice.model.signal import Gap, Signal, Source
from sluice.model.snapshot import ClassSamples
from sluice.observe.answers import is_stale

PREVIEW_LIMIT = 300
"""Characters of the preview shown in Advise."""


def fleet_verdicts(account: Account) -> tuple[Verdict, ...]:
    """A fleet's conditions: what the findings say, else what stands where none speaks."""
    mine = tuple(
        finding
        for finding in account.findings
        if not finding.subject.startswith("WorkloadClass/")
        or finding.condition in judging.ROLLED_UP
        or finding.blocking
    )
    shown = tuple(verdict(type_, mine, _fleet_default(account, type_)) for type_ in judging.SUMMARY)
    left_out = len(account.classes) - len(account.workloads)
    note = f"; {left_out} of {len(account.classes)} classes left out" if left_out else ""
    plan = account.plan
    # A plan with relaxed promises is unsolved and new; only what blocks planning holds an old one.
    held = plan is not None and any(finding.blocking for finding in mine)
    bad = judging.negatives(mine, shown, holding=plan.plan_id if plan is not None and held else "")
    return (*shown, judging.ready(shown, enforcing=account.enforcing, note=note), *bad)


def _fleet_default(account: Account, type_: ConditionType) -> Verdict:
    """The condition where no finding speaks of it."""
    match type_:
        case ConditionType.ACCEPTED:
            return Verdict(type_, "True", Reason.ACCEPTED, "the spec is understood")
        case ConditionType.RESOLVED_REFS:
            return Verdict(type_, "True", Reason.RESOLVED, "every reference resolves")
        case ConditionType.SOLVED:
            return _solved_default(account)
        case ConditionType.PROGRAMMED:
            return _programmed_default(account)
        case ConditionType.EFFECTIVE:
            return _effective_default(account)
        case _:
            return Verdict(type_, "Unknown", Reason.PENDING, "nothing was measured yet")


def _solved_default(account: Account) -> Verdict:
    blocking = next((finding for finding in account.findings if finding.blocking), None)
    if blocking is not None:
        return Verdict(ConditionType.SOLVED, "False", blocking.reason, f"not planned: {blocking.message}")
    held = account.plan
    if held is None:
        return Verdict(ConditionType.SOLVED, "Unknown", Reason.PENDING, "no plan yet")
    return Verdict(ConditionType.SOLVED, "True", Reason.OPTIMAL, f"plan {held.plan_id} stays in force")


def _programmed_default(account: Account) -> Verdict:
    type_ = ConditionType.PROGRAMMED
    if not account.enforcing:
        mode = account.fleet.mode.value if account.fleet is not None else "Observe"
        text = f"mode {mode}: nothing is written"
        if account.preview:
            text += f"; Enforce would change: {_shortened(account.preview)}"
        return Verdict(type_, "False", Reason.NOT_ENFORCING, text)
    if account.in_force is None:
        return Verdict(type_, "Unknown", Reason.PENDING, "nothing was written yet")
    return Verdict(type_, "True", Reason.PROGRAMMED, f"the data plane holds plan {account.in_force.plan_id}")


def _shortened(preview: str) -> str:
    """The changed lines of a diff, on one line."""
    lines = (line for line in preview.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---"))
    text = " | ".join(" ".join(line.split()) for line in lines)
    return text if len(text) <= PREVIEW_LIMIT else text[: PREVIEW_LIMIT - 1] + "…"


def _effective_default(account: Account) -> Verdict:
    """While new targets are too young to judge, the last judgement stands."""
    type_ = ConditionType.EFFECTIVE
    if not account.enforcing:
        return Verdict(type_, "Unknown", Reason.NOT_ENFORCING, "nothing is enforced in this mode")
    if account.fleet is not None and account.fleet.data_plane.kind is DataPlaneKind.CONFIG_MAP:
        return Verdict(type_, "Unknown", Reason.NOT_VERIFIED, "whoever reads the plan enforces it: nothing to compare")
    if account.in_force is None:
        return Verdict(type_, "Unknown", Reason.NOT_VERIFIED, "nothing was written yet")
    before = account.resource.status.conditions if account.resource is not None else ()
    last = next((condition for condition in before if condition.type == type_.value), None)
    if last is None or account.standing is None or last.reason == Reason.NOT_ENFORCING.value:
        return Verdict(type_, "Unknown", Reason.NOT_VERIFIED, "just written: the data plane is given time to follow")
    return Verdict(type_, last.status, Reason(last.reason), last.message)


def class_verdicts(account: Account, index: ClassIndex, name: str, fleet: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
    """A class's conditions: its own findings, its own metrics, and the fleet's plan and writes."""
    mine, demand = tuple(index.findings.get(f"WorkloadClass/{name}", ())), index.demands.get(name)
    inherited = {entry.type: entry for entry in fleet}
    shown = []
    for type_ in judging.SUMMARY:
        if type_ in (ConditionType.ACCEPTED, ConditionType.RESOLVED_REFS):
            otherwise = _fleet_default(account, type_)
        elif type_ is ConditionType.METRICS_AVAILABLE and demand is not None:
            gap = account.observation.classes.get(name, ClassSamples()).gaps.get(Signal.OFFERED_RATE)
            otherwise = _class_metrics(demand, gap, inherited[type_])
        elif name not in index.workloads:
            otherwise = Verdict(type_, "Unknown", Reason.PENDING, "the class is left out of the plan", own=False)
        elif type_ is ConditionType.SOLVED and name not in index.relaxed and index.relaxed:
            message = f"plan {index.plan_id}; promises of others had to be relaxed"
            otherwise = Verdict(type_, "True", Reason.OPTIMAL, message, own=False)
        else:
            entry = inherited[type_]
            otherwise = Verdict(entry.type, entry.status, entry.reason, entry.message, own=False)
        shown.append(verdict(type_, mine, otherwise))
    gates = judging.ready(shown, enforcing=account.enforcing)
    return (*shown, gates, *judging.negatives(mine, [entry for entry in shown if entry.own], holding=""))


def _class_metrics(demand: ClassDemand, gap: Gap | None, fleet: Verdict) -> Verdict:
    """Which of the class's own figures are measured."""
    type_ = ConditionType.METRICS_AVAILABLE
    if fleet.status == "False":
        return Verdict(type_, fleet.status, fleet.reason, fleet.message, own=False)
    if gap is not None and is_stale(gap):
        return Verdict(type_, "False", Reason.METRICS_STALE, f"offered rate: {gap.detail}")
    figures = {"rate": demand.rate, "prompt tokens": demand.prompt_tokens, "output tokens": demand.output_tokens}
    declared = [label for label, estimate in figures.items() if estimate.source is Source.PRIOR]
    if not declared:
        return Verdict(type_, "True", Reason.MEASURED, "rate and lengths are measured")
    message = f"declared, not measured: {', '.join(declared)}"
    if "rate" in declared:
        return Verdict(type_, "False", Reason.NO_SAMPLES, message)
    return Verdict(type_, "True", Reason.PARTLY_PRIOR, message)
