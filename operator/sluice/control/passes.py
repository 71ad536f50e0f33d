"""One pass of one fleet: gather, estimate, decide, act, verify, report.

The steps are in ``gathering``, ``thinking``, ``acting`` and ``report``; here is their order.
Everything that takes long or blocks runs in threads of its own kind, so that the event loop
answers probes meanwhile. What is remembered between passes can be lost at any time: a
restarted operator reads the plan from status and the targets from the data plane, and goes
on from there instead of tightening or moving anything anew.
"""

from __future__ import annotations

import asyncio
import logging

from sluice.actuate.port import NoAnswer
from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.resolve import orphans
from sluice.control.account import Account
from sluice.control.acting import Acting, ActuatorOf
from sluice.control.gathering import Declared, Gathered, declare, gather, look_around
from sluice.control.memory import Memory
from sluice.control.metrics import Metrics
from sluice.control.observing import Haste, Observations
from sluice.control.ports import Clock, FleetKey, World, WorldView, epoch_seconds
from sluice.control.report import report
from sluice.control.statuses import estimates_from_status, plan_from_status
from sluice.control.telling import Telling
from sluice.control.thinking import Thinking
from sluice.control.workers import Crews, ended
from sluice.deciding.decide import DecideMemory
from sluice.deciding.estimate import EstimateMemory
from sluice.deciding.verify import VerifyMemory, verify
from sluice.model.decision import Decision
from sluice.model.demand import Demand
from sluice.model.fleet import Fleet, Mode
from sluice.model.reasons import Finding
from sluice.policy.targets import Memory as TargetMemory

log = logging.getLogger("sluice.pass")

ORPHAN_PERIOD_SECONDS = 30.0
"""How often classes without a fleet are looked at when nothing changes."""
REPLANS = 3
"""How often one pass starts over because the world changed while it thought."""


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
        self._telling = telling
        self._clock = clock
        self._metrics = metrics
        self._paperwork = crews.paperwork
        self._thinking = Thinking(crew=crews.thinking, clock=clock, metrics=metrics)
        self._acting = Acting(actuator_of=actuator_of, crew=crews.writing, metrics=metrics)
        self._memories: dict[FleetKey, Memory] = {}
        self._late: set[asyncio.Task[None]] = set()
        """Of fleets that are gone: what is left to do once a write that hung has ended."""

    async def run(self, key: FleetKey, haste: Haste) -> float:
        """One pass; the seconds until the next one is due."""
        view = self._world.view()
        resource = view.fleet(key)
        if resource is None:
            await self._leave(key)  # its classes are still there, and so are their limits
            await self._tell_orphans(key, view)
            return ORPHAN_PERIOD_SECONDS
        memory = self._memories.setdefault(key, Memory())
        for _ in range(REPLANS):
            declared = await self._paperwork.run(declare, view, key, resource, memory.declared)
            memory.declared = declared
            unread = await self._recall(memory, declared)
            if declared.resolved.fleet is None or unread:
                await self._tell_unplanned(declared, memory, unread)
                break
            gathered = await self._gather(declared, declared.resolved.fleet, memory, haste)
            demand, decision = await self._thinking.think(gathered.snapshot, memory)
            view = self._world.view()
            if declared.is_current(view):
                await self._act_and_tell(view, gathered, demand, decision, memory)
                break
            fresh: InferenceFleetResource | None = view.fleet(key)
            if fresh is None:
                break
            resource = fresh
        return float(resource.spec.control.solve_period_seconds)

    async def survey(self, view: WorldView) -> None:
        """Tell about what belongs to no fleet: profiles, and objects that cannot be read."""
        await self._telling.survey(view, self._clock.now())

    async def end(self, key: FleetKey) -> None:
        """The fleet is gone, and with it what it measured and limited."""
        await self._leave(key)

    async def _leave(self, key: FleetKey) -> None:
        memory = self._memories.pop(key, None)
        await self._observations.forget(key)
        if memory is None:
            return
        await self._acting.release(key, memory, self._world.view())
        if memory.hanging is not None:
            late = asyncio.create_task(self._release_late(key, memory), name=f"leaving {'/'.join(key)}")
            self._late.add(late)
            late.add_done_callback(self._late.discard)

    async def _release_late(self, key: FleetKey, memory: Memory) -> None:
        """Take back what a write that hung as its fleet left has written after all; not from a fleet that is back."""
        try:
            while memory.hanging is not None:
                await ended(memory.hanging[1])
                if key in self._memories:
                    return
                await self._acting.release(key, memory, self._world.view())
        except Exception:
            log.exception("taking leave of a fleet failed", extra={"fleet": "/".join(key)})
        if key not in self._world.view().fleet_keys:
            self._metrics.forget_fleet(*key)

    async def _recall(self, memory: Memory, declared: Declared) -> tuple[Finding, ...]:
        """The first pass after a start: plan and estimates from status, the targets from the data plane.

        A finding where a fleet that enforces cannot be told from one that never did: to plan anew from
        there would open limits that stand, and tighten them again.
        """
        if memory.recalled:
            return ()
        if memory.decide.plan is None:
            plan = self._telling.kept_plan(declared.key) or plan_from_status(declared.resource, declared.classes)
            memory.decide = DecideMemory(plan=plan)
            memory.estimate = EstimateMemory(last=estimates_from_status(declared.classes, self._clock.now()))
        fleet = declared.resolved.fleet
        if fleet is None:
            return ()
        try:
            standing = await self._acting.standing(fleet)
        except NoAnswer as error:
            return (error.finding,) if fleet.mode is Mode.ENFORCE else ()
        memory.recalled = True
        memory.in_force = standing
        memory.enforcing = standing is not None and fleet.mode is Mode.ENFORCE
        if standing is None:
            return ()
        plan = memory.decide.plan
        since = epoch_seconds(plan.time) if plan is not None else self._clock.now()
        recalled = TargetMemory.recall(standing, declared.resolved.classes, self._clock.now())
        memory.decide = DecideMemory(plan=plan, targets=recalled)
        memory.verify = VerifyMemory(targets=standing, since=since)
        return ()

    async def _gather(self, declared: Declared, fleet: Fleet, memory: Memory, haste: Haste) -> Gathered:
        site = await self._paperwork.run(look_around, declared, fleet, memory.in_force)
        workloads = declared.resolved.classes
        measured = await self._observations.take(declared.key, fleet, workloads, site.around, haste=haste)
        now = self._clock.now()
        gathered, memory.laws = await self._paperwork.run(gather, site, measured, memory.laws, memory.proxies, now)
        memory.proxies = gathered.snapshot.observation.proxies_ready
        return gathered

    async def _act_and_tell(
        self, view: WorldView, gathered: Gathered, demand: Demand | None, decision: Decision, memory: Memory
    ) -> None:
        standing, key = memory.in_force, gathered.declared.key
        judged, memory.verify = await self._paperwork.run(verify, gathered.snapshot, standing, memory.verify)
        receipt, preview = await self._acting.act(gathered, decision, memory)
        problems = receipt.problems if receipt is not None else ()
        effective = judged if gathered.fleet.mode is Mode.ENFORCE and standing is not None else ()
        account = Account(
            key=key,
            now=gathered.snapshot.now,
            resource=view.fleet(key) or gathered.declared.resource,
            classes=view.classes_of(key),
            profiles=view.profiles_of(key[0]),
            laws=memory.laws,
            fleet=gathered.fleet,
            workloads=gathered.snapshot.classes,
            supplies=gathered.supplies,
            observation=gathered.snapshot.observation,
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

    async def _tell_orphans(self, key: FleetKey, view: WorldView) -> None:
        classes = view.classes_of(key)
        findings = tuple(orphans(view.fleets, classes))
        await self._tell(Account(key=key, now=self._clock.now(), resource=None, classes=classes, findings=findings))

    async def _tell_unplanned(self, declared: Declared, memory: Memory, unread: tuple[Finding, ...]) -> None:
        """A fleet that cannot be built (no profile) or recalled: what is in force stays, and the reason is told.

        Unless it enforces no longer: leaving Enforce needs no plan.
        """
        if declared.resource.spec.mode is not Mode.ENFORCE:
            await self._acting.release(declared.key, memory, declared.view)
        findings = (*declared.findings, *unread)
        await self._tell(
            Account(
                key=declared.key,
                now=self._clock.now(),
                resource=declared.resource,
                classes=declared.classes,
                workloads=declared.resolved.classes,
                decision=Decision(plan=memory.decide.plan, targets=None, adopted=False, findings=findings),
                in_force=memory.in_force,
                findings=findings,
            )
        )

    async def _tell(self, account: Account) -> None:
        namespace, name = account.key
        told = await self._paperwork.run(report, account)
        await self._telling.tell(told)
        await self._paperwork.run(self._metrics.show_fleet, namespace, name, told.figures)
        plan, adopted = account.plan, account.decision is not None and account.decision.adopted
        if plan is not None:
            await self._telling.keep_plan(account.key, plan, account.confirmed_at)
        outcome = "Adopted" if adopted else "Kept"
        self._metrics.count("sluice_passes_total", namespace=namespace, fleet=name, outcome=outcome)
        if adopted and plan is not None:
            log.info("plan adopted", extra={"fleet": f"{namespace}/{name}", "plan": plan.plan_id})
