"""One pass of one fleet: gather, estimate, decide, act, verify, report.

Everything between the snapshot and the decision is pure and runs in a thread of its own
kind; everything that blocks runs in others. What is remembered between passes can be lost
at any time: a restarted operator reads the plan from status and the targets from the data
plane, and goes on from there instead of tightening or moving anything anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sluice.actuate.port import Actuator, Order
from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.resolve import Resolved, orphans, resolve
from sluice.api.supply import count
from sluice.api.workload_class import WorkloadClassResource
from sluice.control import surroundings
from sluice.control.metrics import Metrics
from sluice.control.observing import Haste, Measured, Observations
from sluice.control.ports import Clock, FleetKey, Refusal, World, WorldView, epoch_seconds
from sluice.control.report import Account, report
from sluice.control.statuses import plan_from_status
from sluice.control.telling import Telling
from sluice.control.workers import Crews, Overloaded
from sluice.deciding.decide import DecideMemory, decide
from sluice.deciding.estimate import EstimateMemory, estimate
from sluice.deciding.verify import VerifyMemory, verify
from sluice.learning.pools import LawMemory, recalibrate_fleet
from sluice.model.decision import ClassTarget, Decision, Receipt, Targets
from sluice.model.demand import Demand
from sluice.model.fleet import Fleet, Mode
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.snapshot import PoolSupply, Snapshot
from sluice.policy.targets import Memory as TargetMemory

log = logging.getLogger("sluice.pass")

ORPHAN_PERIOD_SECONDS = 30.0
"""How often classes without a fleet are looked at when nothing changes."""
REPLANS = 3
"""How often one pass starts over because the world changed while it thought."""

ActuatorOf = Callable[[Fleet], Actuator]


@dataclass(slots=True)
class _Memory:
    """What a fleet's next pass depends on besides the world."""

    estimate: EstimateMemory = field(default_factory=EstimateMemory)
    decide: DecideMemory = field(default_factory=DecideMemory)
    verify: VerifyMemory = field(default_factory=VerifyMemory)
    in_force: Targets | None = None
    """What the data plane holds by our orders."""
    ordered: Order | None = None
    """The last order that was carried out."""
    enforcing: bool = False
    recalled: bool = False
    laws: LawMemory = field(default_factory=LawMemory)
    previewed: tuple[object, str] | None = None
    """What was previewed last, and the preview."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gathered:
    """The first step's result."""

    resource: InferenceFleetResource
    classes: tuple[WorkloadClassResource, ...]
    resolved: Resolved
    fleet: Fleet
    supplies: tuple[PoolSupply, ...]
    measured: Measured
    snapshot: Snapshot


class Passes:
    """Runs the passes of all fleets."""

    def __init__(
        self,
        *,
        world: World,
        observations: Observations,
        actuator_of: ActuatorOf,
        telling: Telling,
        clock: Clock,
        metrics: Metrics,
        crews: Crews,
    ) -> None:
        self._world = world
        self._observations = observations
        self._actuator_of = actuator_of
        self._telling = telling
        self._clock = clock
        self._metrics = metrics
        self._thinking = crews.thinking
        self._writing = crews.writing
        self._memories: dict[FleetKey, _Memory] = {}

    async def run(self, key: FleetKey, haste: Haste) -> float:
        """One pass; the seconds until the next one is due."""
        view = self._world.view()
        resource, classes = view.fleet(key), view.classes_of(key)
        if resource is None:
            await self._tell_orphans(key, view, classes)
            return ORPHAN_PERIOD_SECONDS
        memory = self._memories.setdefault(key, _Memory())
        for _ in range(REPLANS):
            resolved = resolve(resource, view.profiles_of(key[0]), classes)
            await self._recall(memory, resource, classes, resolved)
            if resolved.fleet is None:
                await self._tell_unresolved(key, view, resource, classes, resolved, memory)
                break
            gathered = await self._gather(key, view, resource, classes, resolved, memory, haste)
            demand, decision = await self._think(key, gathered.snapshot, memory)
            view = self._world.view()
            if _same_specs(view, key, resource, classes):
                await self._act_and_tell(key, view, gathered, demand, decision, memory)
                break
            fresh, classes = view.fleet(key), view.classes_of(key)
            if fresh is None:
                break
            resource = fresh
        return float(resource.spec.control.solve_period_seconds)

    async def survey(self, view: WorldView) -> None:
        """Tell about what belongs to no fleet: profiles, and objects that cannot be read."""
        await self._telling.survey(view, self._clock.now())

    async def end(self, key: FleetKey) -> None:
        """The fleet is gone: nobody would ever loosen its limits again, so they go too."""
        memory = self._memories.pop(key, None)
        await self._observations.forget(key)
        if memory is None or memory.ordered is None or not any(map(_is_limited, memory.ordered.targets.classes)):
            return
        order = replace(memory.ordered, targets=_without_limits(memory.ordered.targets))
        receipt = await self._write(order, memory)
        for problem in receipt.problems:
            log.warning("limits of a deleted fleet stay: %s", problem.message, extra={"fleet": "/".join(key)})

    # --- gather ----------------------------------------------------------------------------------

    async def _recall(
        self,
        memory: _Memory,
        resource: InferenceFleetResource,
        classes: tuple[WorkloadClassResource, ...],
        resolved: Resolved,
    ) -> None:
        """The first pass after a start: the plan from status, the targets from the data plane."""
        if memory.recalled:
            return
        key = resource.metadata.namespace, resource.metadata.name
        plan = self._telling.kept_plan(key) or plan_from_status(resource, classes)
        memory.decide = DecideMemory(plan=plan)
        if resolved.fleet is None:
            return
        standing = await self._writing.run(self._actuator_of(resolved.fleet).standing, resolved.fleet)
        memory.recalled = True
        memory.in_force = standing
        memory.enforcing = standing is not None and resolved.fleet.mode is Mode.ENFORCE
        if standing is None:
            return
        since = epoch_seconds(plan.time) if plan is not None else self._clock.now()
        recalled = TargetMemory.recall(standing, resolved.classes, self._clock.now())
        memory.decide = DecideMemory(plan=plan, targets=recalled)
        memory.verify = VerifyMemory(targets=standing, since=since)

    async def _gather(
        self,
        key: FleetKey,
        view: WorldView,
        resource: InferenceFleetResource,
        classes: tuple[WorkloadClassResource, ...],
        resolved: Resolved,
        memory: _Memory,
        haste: Haste,
    ) -> _Gathered:
        fleet = resolved.fleet
        assert fleet is not None  # noqa: S101 - the caller looked
        complete = view.complete and "Pod" not in view.unwatched
        supplies, uncounted = count(fleet, view.objects, complete=complete)
        around = surroundings.proxies(view, fleet, resolved.classes, memory.in_force)
        around = replace(around, replicas=tuple(address for supply in supplies for address in supply.addresses))
        measured = await self._observations.take(key, fleet, resolved.classes, around, haste=haste)
        fleet, drifted, memory.laws = recalibrate_fleet(
            fleet, supplies, measured.observation.engines, memory.laws, self._clock.now()
        )
        snapshot = Snapshot(
            now=self._clock.now(),
            fleet=fleet,
            classes=resolved.classes,
            supplies=supplies,
            observation=measured.observation,
            findings=(
                *resolved.findings,
                *uncounted,
                *measured.findings,
                *drifted,
                *surroundings.findings(view, fleet, resolved.classes),
                *_refused(view, key, classes),
            ),
        )
        return _Gathered(
            resource=resource,
            classes=classes,
            resolved=resolved,
            fleet=fleet,
            supplies=supplies,
            measured=measured,
            snapshot=snapshot,
        )

    # --- estimate, decide ------------------------------------------------------------------------

    async def _think(self, key: FleetKey, snapshot: Snapshot, memory: _Memory) -> tuple[Demand | None, Decision]:
        """The pure part, in a thread; a solver that hangs or breaks keeps the last plan."""
        started = self._clock.monotonic()
        if snapshot.fleet.mode is Mode.ENFORCE and not memory.enforcing:
            self._begin_enforcing(snapshot, memory)
        try:
            demand, decision, memory.estimate, memory.decide = await self._thinking.run(
                _deliberate, snapshot, memory.estimate, memory.decide
            )
        except (TimeoutError, Overloaded) as error:
            return None, _kept(snapshot.findings, memory, str(error))
        finally:
            namespace, name = key
            elapsed = self._clock.monotonic() - started
            self._metrics.time("sluice_solve_duration_seconds", elapsed, namespace=namespace, fleet=name)
        return demand, decision

    def _begin_enforcing(self, snapshot: Snapshot, memory: _Memory) -> None:
        """What was computed while only looking was never in force: go on from what the data plane holds."""
        memory.enforcing = True
        targets = TargetMemory.empty()
        if memory.in_force is not None:
            targets = TargetMemory.recall(memory.in_force, snapshot.classes, snapshot.now)
        memory.decide = replace(memory.decide, targets=targets)

    # --- act, verify, report ---------------------------------------------------------------------

    async def _act_and_tell(
        self,
        key: FleetKey,
        view: WorldView,
        gathered: _Gathered,
        demand: Demand | None,
        decision: Decision,
        memory: _Memory,
    ) -> None:
        standing = memory.in_force
        judged, memory.verify = verify(gathered.snapshot, standing, memory.verify)
        receipt, preview = await self._act(gathered, decision, memory)
        problems = receipt.problems if receipt is not None else ()
        effective = judged if gathered.fleet.mode is Mode.ENFORCE and standing is not None else ()
        account = Account(
            key=key,
            now=gathered.snapshot.now,
            resource=view.fleet(key) or gathered.resource,
            classes=view.classes_of(key),
            profiles=view.profiles_of(key[0]),
            laws=memory.laws,
            fleet=gathered.fleet,
            workloads=gathered.resolved.classes,
            supplies=gathered.supplies,
            observation=gathered.measured.observation,
            observation_age=gathered.measured.age_seconds,
            demand=demand,
            decision=decision,
            receipt=receipt,
            preview=preview,
            standing=standing,
            in_force=memory.in_force,
            findings=(*decision.findings, *problems, *effective),
        )
        await self._tell(account)

    async def _act(self, gathered: _Gathered, decision: Decision, memory: _Memory) -> tuple[Receipt | None, str]:
        """Write what is to be written in the fleet's mode; the receipt, or the preview."""
        fleet = gathered.fleet
        memory.enforcing = fleet.mode is Mode.ENFORCE
        if fleet.mode is Mode.ENFORCE:
            targets = _wanted(gathered, decision, memory)
            if targets is None:
                return None, ""
            return await self._write(_order(gathered, decision, targets), memory), ""
        if memory.in_force is not None and any(map(_is_limited, memory.in_force.classes)):
            opened = _without_limits(_present(memory.in_force, gathered))
            return await self._write(_order(gathered, decision, opened), memory), ""
        if fleet.mode is Mode.ADVISE and decision.targets is not None:
            return None, await self._preview(gathered, decision, decision.targets, memory)
        return None, ""

    async def _write(self, order: Order, memory: _Memory) -> Receipt:
        try:
            receipt = await self._writing.run(self._actuator_of(order.fleet).act, order)
        except (TimeoutError, Overloaded) as error:
            return Receipt(problems=(_write_failed(str(error)),))
        if not any(finding.condition is ConditionType.PROGRAMMED for finding in receipt.problems):
            memory.in_force = order.targets
            memory.ordered = order
        writes = len(receipt.written) + len(receipt.removed)
        self._metrics.count(
            "sluice_data_plane_writes_total", writes, namespace=order.fleet.namespace, fleet=order.fleet.name
        )
        return receipt

    async def _preview(self, gathered: _Gathered, decision: Decision, targets: Targets, memory: _Memory) -> str:
        """What Enforce would change; computed anew only for a new order."""
        order = _order(gathered, decision, targets)
        if memory.previewed is not None and memory.previewed[0] == order:
            return memory.previewed[1]
        try:
            text = await self._writing.run(self._actuator_of(gathered.fleet).preview, order)
        except (TimeoutError, Overloaded) as error:
            return f"(no preview: {error})"
        memory.previewed = (order, text)
        return text

    async def _tell_orphans(self, key: FleetKey, view: WorldView, classes: tuple[WorkloadClassResource, ...]) -> None:
        findings = tuple(f for f in orphans(view.fleets, classes))
        await self._tell(Account(key=key, now=self._clock.now(), resource=None, classes=classes, findings=findings))

    async def _tell_unresolved(
        self,
        key: FleetKey,
        view: WorldView,
        resource: InferenceFleetResource,
        classes: tuple[WorkloadClassResource, ...],
        resolved: Resolved,
        memory: _Memory,
    ) -> None:
        """A fleet that cannot be built (no profile): what is in force stays, and the reason is told."""
        findings = (*resolved.findings, *_refused(view, key, classes))
        await self._tell(
            Account(
                key=key,
                now=self._clock.now(),
                resource=resource,
                classes=classes,
                workloads=resolved.classes,
                decision=Decision(plan=memory.decide.plan, targets=None, adopted=False, findings=findings),
                in_force=memory.in_force,
                findings=findings,
            )
        )

    async def _tell(self, account: Account) -> None:
        namespace, name = account.key
        await self._telling.tell(report(account), account.key)
        if account.decision is not None and account.decision.plan is not None:
            await self._telling.keep_plan(account.key, account.decision.plan)
        adopted = account.decision is not None and account.decision.adopted
        outcome = "Adopted" if adopted else "Kept"
        self._metrics.count("sluice_passes_total", namespace=namespace, fleet=name, outcome=outcome)
        if adopted and account.decision is not None and account.decision.plan is not None:
            log.info("plan adopted", extra={"fleet": f"{namespace}/{name}", "plan": account.decision.plan.plan_id})


def _deliberate(
    snapshot: Snapshot, estimated: EstimateMemory, decided: DecideMemory
) -> tuple[Demand, Decision, EstimateMemory, DecideMemory]:
    demand, estimated = estimate(snapshot, estimated)
    decision, decided = decide(snapshot, demand, decided)
    return demand, decision, estimated, decided


def _kept(findings: tuple[Finding, ...], memory: _Memory, why: str) -> Decision:
    stuck = Finding(condition=ConditionType.SOLVED, reason=Reason.SOLVER_FAILED, message=why, blocking=True)
    return Decision(plan=memory.decide.plan, targets=None, adopted=False, findings=(*findings, stuck))


def _wanted(gathered: _Gathered, decision: Decision, memory: _Memory) -> Targets | None:
    """The targets to hold: the decision's, or what is in force without the classes that are gone."""
    if decision.targets is not None:
        return decision.targets
    if memory.in_force is None:
        return None
    return _present(memory.in_force, gathered)


def _present(targets: Targets, gathered: _Gathered) -> Targets:
    """``targets`` without classes that are gone."""
    names = {workload.name for workload in gathered.resolved.classes}
    return replace(targets, classes=tuple(target for target in targets.classes if target.name in names))


def _without_limits(targets: Targets) -> Targets:
    """The same weights, and nothing refused: how Enforce is left."""
    opened = (
        replace(target, rate_limit=None, burst=None, in_flight_limit=None, fence=None) for target in targets.classes
    )
    return replace(targets, classes=tuple(opened))


def _order(gathered: _Gathered, decision: Decision, targets: Targets) -> Order:
    return Order(
        fleet=gathered.fleet,
        classes=gathered.resolved.classes,
        targets=targets,
        plan=decision.plan,
        supplies=gathered.supplies,
        proxies=gathered.measured.observation.proxies_ready,
    )


def _is_limited(target: ClassTarget) -> bool:
    return any(limit is not None for limit in (target.rate_limit, target.in_flight_limit, target.fence))


def _same_specs(
    view: WorldView, key: FleetKey, resource: InferenceFleetResource, classes: tuple[WorkloadClassResource, ...]
) -> bool:
    """Whether the plan was made for what is declared now."""
    now = view.fleet(key)
    if now is None or now.spec != resource.spec:
        return False
    fresh = {(entry.metadata.name, entry.metadata.uid): entry.spec for entry in view.classes_of(key)}
    return fresh == {(entry.metadata.name, entry.metadata.uid): entry.spec for entry in classes}


def _refused(view: WorldView, key: FleetKey, classes: tuple[WorkloadClassResource, ...]) -> tuple[Finding, ...]:
    """Edits of this fleet's objects that were refused: the last good version stays in force."""
    names = {entry.metadata.name for entry in classes}
    return tuple(
        _refusal(entry)
        for entry in view.refusals
        if entry.ref.namespace == key[0]
        and (
            (entry.ref.kind == "InferenceFleet" and entry.ref.name == key[1])
            or (entry.ref.kind == "WorkloadClass" and entry.ref.name in names)
        )
    )


def _refusal(entry: Refusal) -> Finding:
    return Finding(
        condition=ConditionType.ACCEPTED,
        reason=Reason.INVALID,
        message="; ".join(entry.problems),
        subject=f"{entry.ref.kind}/{entry.ref.name}",
    )


def _write_failed(message: str) -> Finding:
    return Finding(condition=ConditionType.PROGRAMMED, reason=Reason.WRITE_FAILED, message=message)
