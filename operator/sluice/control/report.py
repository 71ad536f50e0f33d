"""What a pass says in the end: status documents, events and figures, from everything it found. Pure.

The order of telling is the caller's: one status write per object, only where the document
changed; then events, which claim nothing that was not written; then metrics.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel

from sluice.api.conditions import Condition
from sluice.api.indicators import AttainmentStatus
from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.iteration_profile import IterationProfileResource
from sluice.api.workload_class import WorkloadClassResource, WorkloadClassStatus
from sluice.control import attainment, gauges, judging, statuses
from sluice.control.events import Event, Subject, movements, transitions
from sluice.control.judging import Verdict, verdict
from sluice.control.observed_laws import profile_statuses
from sluice.control.ports import FleetKey, Ref, Resource, document, epoch_seconds, rfc3339
from sluice.learning.pools import LawMemory
from sluice.model.decision import Decision, Receipt, Targets
from sluice.model.demand import ClassDemand, Demand
from sluice.model.fleet import DataPlaneKind, Fleet, Mode, WorkloadClass
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.signal import Gap, Signal, Source
from sluice.model.snapshot import ClassSamples, Observation, PoolSupply
from sluice.observe.answers import is_stale

PREVIEW_LIMIT = 300
"""Characters of the preview shown in Advise."""
TOLD_OF_FLEET = frozenset(type_.value for type_ in ConditionType) - {ConditionType.READY.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Everything one pass found and did."""

    key: FleetKey
    now: float
    resource: InferenceFleetResource | None
    """None: classes refer to a fleet that does not exist."""
    classes: tuple[WorkloadClassResource, ...]
    fleet: Fleet | None = None
    """None where it could not be resolved."""
    workloads: tuple[WorkloadClass, ...] = ()
    """The classes that could be resolved."""
    profiles: tuple[IterationProfileResource, ...] = ()
    """The profiles of the namespace."""
    laws: LawMemory = field(default_factory=LawMemory)
    """What the pools' engines were observed to take."""
    supplies: tuple[PoolSupply, ...] = ()
    observation: Observation = field(default_factory=Observation)
    observation_age: float | None = None
    demand: Demand | None = None
    decision: Decision | None = None
    receipt: Receipt | None = None
    """None: nothing was to be written."""
    preview: str = ""
    """Advise: what would be written."""
    standing: Targets | None = None
    """What the data plane held before the pass."""
    in_force: Targets | None = None
    """What it holds after the pass."""
    findings: tuple[Finding, ...] = ()
    """All of them: of resolving, observing, deciding, acting and verifying."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The status of one object."""

    ref: Ref
    status: BaseModel
    is_news: bool
    """Whether it differs from what the object bears."""

    @classmethod
    def of(cls, resource: Resource, status: BaseModel) -> Told:
        """``status`` for ``resource``, compared with the one it bears."""
        # Equal values are equal documents, and mostly they are equal: the documents are made only to be sure.
        is_news = status != resource.status and document(status) != document(resource.status)
        return cls(ref=ref_of(resource), status=status, is_news=is_news)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is to be told."""

    statuses: tuple[Told, ...] = ()
    """Of every object that the pass looked at, news or not."""
    events: tuple[Event, ...] = ()
    figures: gauges.Figures = field(default_factory=dict)


def report(account: Account) -> Report:
    """The whole report of one pass."""
    told: list[Told] = []
    events: list[Event] = []
    fleet_verdicts = _fleet_verdicts(account)
    conditions: tuple[Condition, ...] = ()
    objectives: tuple[AttainmentStatus, ...] = ()
    if account.resource is not None:
        resource = account.resource
        conditions = _conditions(account, resource, fleet_verdicts)
        plan = account.decision.plan if account.decision is not None else None
        applied = statuses.applied_objects(resource.status.applied, account.receipt, plan.plan_id if plan else "")
        held = attainment.of_fleet(account.fleet, account.workloads, account.observation)
        status = statuses.fleet_status(
            resource, conditions, plan, account.supplies, applied, len(account.classes), held
        )
        objectives = status.attainment
        told.append(Told.of(resource, status))
        events += transitions(subject_of(resource), resource.status.conditions, conditions, TOLD_OF_FLEET)
        if account.receipt is not None and account.receipt.written:
            goals = (
                {} if plan is None else {entry.name: entry.admitted_rate for entry in plan.classes if entry.rationed}
            )
            events += movements(subject_of(resource), account.standing, account.in_force, goals)
    index, attained = _Index(account), {}
    for entry in account.classes:
        one, heard = _class_report(account, index, entry, fleet_verdicts)
        told.append(one)
        events += heard
        if isinstance(one.status, WorkloadClassStatus):
            attained[entry.metadata.name] = one.status.attainment
    if account.fleet is not None:
        told += [Told.of(*entry) for entry in profile_statuses(account.profiles, account.fleet, account.laws)]
    figures = {**_figures(account, conditions), **gauges.of_indicators(attained), **gauges.of_objectives(objectives)}
    return Report(statuses=tuple(told), events=tuple(events), figures=figures)


class _Index:
    """What a report looks up by class, a thousand times."""

    def __init__(self, account: Account) -> None:
        plan = account.decision.plan if account.decision is not None else None
        self.workloads = {entry.name: entry for entry in account.workloads}
        self.demands = {entry.name: entry for entry in (account.demand.classes if account.demand is not None else ())}
        self.shares = statuses.shares(plan)
        self.plan_id = plan.plan_id if plan is not None else ""
        solved = any(finding.reason is Reason.INFEASIBLE for finding in account.findings)
        conflict = plan.conflict if plan is not None and solved else None
        self.relaxed = {promise.partition(":")[2] for promise in (conflict.promises if conflict is not None else ())}
        """Classes whose promises are in the conflict that the plan could not solve; promises of the fleet as ''."""
        self.findings: dict[str, list[Finding]] = {}
        for finding in account.findings:
            self.findings.setdefault(finding.subject, []).append(finding)


def ref_of(resource: Resource) -> Ref:
    """The reference to a resource."""
    return Ref(kind=resource.kind, namespace=resource.metadata.namespace, name=resource.metadata.name)


def subject_of(resource: Resource) -> Subject:
    """The object that an event is about."""
    metadata = resource.metadata
    return Subject(kind=resource.kind, namespace=metadata.namespace, name=metadata.name, uid=metadata.uid)


def _conditions(account: Account, resource: Resource, verdicts: tuple[Verdict, ...]) -> tuple[Condition, ...]:
    return judging.conditions(
        resource.status.conditions,
        verdicts,
        generation=resource.metadata.generation,
        now_rfc3339=rfc3339(account.now),
    )


def _fleet_verdicts(account: Account) -> tuple[Verdict, ...]:
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
    plan = account.decision.plan if account.decision is not None else None
    # A plan with relaxed promises is unsolved and new; only what blocks planning holds an old one.
    held = plan is not None and any(finding.blocking for finding in mine)
    bad = judging.negatives(mine, shown, holding=plan.plan_id if plan is not None and held else "")
    return (*shown, judging.ready(shown, enforcing=_enforcing(account), note=note), *bad)


def _enforcing(account: Account) -> bool:
    return account.fleet is not None and account.fleet.mode is Mode.ENFORCE


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
    held = account.decision.plan if account.decision is not None else None
    if held is None:
        return Verdict(ConditionType.SOLVED, "Unknown", Reason.PENDING, "no plan yet")
    return Verdict(ConditionType.SOLVED, "True", Reason.OPTIMAL, f"plan {held.plan_id} stays in force")


def _programmed_default(account: Account) -> Verdict:
    type_ = ConditionType.PROGRAMMED
    if not _enforcing(account):
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
    if not _enforcing(account):
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


def _class_report(
    account: Account, index: _Index, resource: WorkloadClassResource, fleet: tuple[Verdict, ...]
) -> tuple[Told, tuple[Event, ...]]:
    name = resource.metadata.name
    workload, demand = index.workloads.get(name), index.demands.get(name)
    verdicts = _class_verdicts(account, index, name, fleet)
    conditions = _conditions(account, resource, verdicts)
    status = statuses.class_status(
        resource,
        conditions,
        demand,
        index.shares.get(name, statuses.NO_SHARE),
        account.in_force.of(name) if account.in_force is not None else None,
        attainment.of_class(workload, account.observation.classes.get(name)),
    )
    own = frozenset(entry.type.value for entry in verdicts if entry.own) - {ConditionType.READY.value}
    heard = transitions(subject_of(resource), resource.status.conditions, conditions, own)
    return Told.of(resource, status), heard


def _class_verdicts(account: Account, index: _Index, name: str, fleet: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
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
    gates = judging.ready(shown, enforcing=_enforcing(account))
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
    status = "False" if "rate" in declared else "True"
    reason = Reason.NO_SAMPLES if "rate" in declared else Reason.PARTLY_PRIOR
    return Verdict(type_, status, reason, f"declared, not measured: {', '.join(declared)}")  # type: ignore[arg-type]


def _figures(account: Account, conditions: tuple[Condition, ...]) -> gauges.Figures:
    plan = account.decision.plan if account.decision is not None else None
    return gauges.figures(
        now=account.now,
        plan=plan,
        plan_time=epoch_seconds(plan.time) if plan is not None else account.now,
        demand=account.demand,
        targets=account.in_force,
        conditions=conditions,
        observation_age=account.observation_age,
    )
