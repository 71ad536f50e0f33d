"""What a pass says in the end: status documents, events and figures, from everything it found. Pure.

The order of telling is the caller's: one status write per object, only where the document
changed; then events, which claim nothing that was not written; then metrics.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel

from sluice.api.conditions import Condition
from sluice.api.indicators import AttainmentStatus
from sluice.api.inference_fleet import InferenceFleetResource, InferenceFleetStatus
from sluice.api.workload_class import WorkloadClassResource, WorkloadClassStatus
from sluice.control import attainment, gauges, judging, statuses
from sluice.control.account import Account, ClassIndex
from sluice.control.events import Event, Subject, movements, transitions
from sluice.control.judging import Verdict
from sluice.control.observed_laws import profile_statuses
from sluice.control.ports import Ref, Resource, document, epoch_seconds, rfc3339
from sluice.control.verdicts import class_verdicts, fleet_verdicts
from sluice.model.reasons import ConditionType

TOLD_OF_FLEET = frozenset(type_.value for type_ in ConditionType) - {ConditionType.READY.value}


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
    verdicts = fleet_verdicts(account)
    told: list[Told] = []
    events: list[Event] = []
    conditions: tuple[Condition, ...] = ()
    objectives: tuple[AttainmentStatus, ...] = ()
    if account.resource is not None:
        conditions = _conditions(account, account.resource, verdicts)
        status = _fleet_status(account, account.resource, conditions)
        objectives = status.attainment
        told.append(Told.of(account.resource, status))
        events += _fleet_events(account, account.resource, conditions)
    index, attained = ClassIndex(account), {}
    for entry in account.classes:
        one, heard = _class_report(account, index, entry, verdicts)
        told.append(one)
        events += heard
        if isinstance(one.status, WorkloadClassStatus):
            attained[entry.metadata.name] = one.status.attainment
    if account.fleet is not None:
        told += [Told.of(*entry) for entry in profile_statuses(account.profiles, account.fleet, account.laws)]
    figures = {**_figures(account, conditions), **gauges.of_indicators(attained), **gauges.of_objectives(objectives)}
    return Report(statuses=tuple(told), events=tuple(events), figures=figures)


def _fleet_status(
    account: Account, resource: InferenceFleetResource, conditions: tuple[Condition, ...]
) -> InferenceFleetStatus:
    plan = account.plan
    applied = statuses.applied_objects(resource.status.applied, account.receipt, plan.plan_id if plan else "")
    held = attainment.of_fleet(account.fleet, account.workloads, account.observation)
    return statuses.fleet_status(resource, conditions, plan, account.supplies, applied, len(account.classes), held)


def _fleet_events(
    account: Account, resource: InferenceFleetResource, conditions: tuple[Condition, ...]
) -> tuple[Event, ...]:
    """What became of its conditions, and what moved where something was written."""
    subject, plan = subject_of(resource), account.plan
    events = transitions(subject, resource.status.conditions, conditions, TOLD_OF_FLEET)
    if account.receipt is None or not account.receipt.written:
        return events
    goals = {} if plan is None else {entry.name: entry.admitted_rate for entry in plan.classes if entry.rationed}
    return (*events, *movements(subject, account.standing, account.in_force, goals))


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


def _class_report(
    account: Account, index: ClassIndex, resource: WorkloadClassResource, fleet: tuple[Verdict, ...]
) -> tuple[Told, tuple[Event, ...]]:
    name = resource.metadata.name
    workload, demand = index.workloads.get(name), index.demands.get(name)
    verdicts = class_verdicts(account, index, name, fleet)
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


def _figures(account: Account, conditions: tuple[Condition, ...]) -> gauges.Figures:
    plan = account.plan
    return gauges.figures(
        now=account.now,
        plan=plan,
        plan_time=epoch_seconds(plan.time) if plan is not None else account.now,
        demand=account.demand,
        targets=account.in_force,
        conditions=conditions,
        observation_age=account.observation_age,
    )
