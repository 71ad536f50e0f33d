"""The second step of a pass: from a snapshot to demand and a decision, in a thread with a time-out.

The work itself is pure (``sluice.deciding``). Here is what happens around it: a solver that
hangs or is refused a thread keeps the last plan, and a fleet that begins to enforce goes on
from what the data plane holds.
"""

from __future__ import annotations

from dataclasses import replace

from sluice.control.memory import Memory
from sluice.control.metrics import Metrics
from sluice.control.ports import Clock
from sluice.control.workers import Overloaded, Workers
from sluice.deciding.decide import DecideMemory, decide
from sluice.deciding.estimate import EstimateMemory, estimate
from sluice.model.decision import Decision
from sluice.model.demand import Demand
from sluice.model.fleet import Mode
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.snapshot import Snapshot
from sluice.policy.memory import ClassMemory
from sluice.policy.targets import Memory as TargetMemory


class Thinking:
    """Thinks for all fleets."""

    def __init__(self, *, crew: Workers, clock: Clock, metrics: Metrics) -> None:
        self._crew = crew
        self._clock = clock
        self._metrics = metrics

    async def think(self, snapshot: Snapshot, memory: Memory) -> tuple[Demand | None, Decision]:
        """Demand and decision; no demand where thinking took too long."""
        started = self._clock.monotonic()
        if snapshot.fleet.mode is Mode.ENFORCE and not memory.enforcing:
            _begin_enforcing(snapshot, memory)
        elif snapshot.fleet.mode is Mode.ENFORCE:
            _follow_what_stands(snapshot, memory)
        try:
            demand, decision, memory.estimate, memory.decide = await self._crew.run(
                _deliberate, snapshot, memory.estimate, memory.decide
            )
        except (TimeoutError, Overloaded) as error:
            return None, _kept(snapshot.findings, memory, str(error))
        finally:
            fleet, elapsed = snapshot.fleet, self._clock.monotonic() - started
            self._metrics.time("sluice_solve_duration_seconds", elapsed, namespace=fleet.namespace, fleet=fleet.name)
        return demand, decision


def _begin_enforcing(snapshot: Snapshot, memory: Memory) -> None:
    """What was computed while only looking was never in force: go on from what the data plane holds."""
    memory.enforcing = True
    targets = TargetMemory.empty()
    if memory.in_force is not None:
        targets = TargetMemory.recall(memory.in_force, snapshot.classes, snapshot.now)
    memory.decide = replace(memory.decide, targets=targets)


def _follow_what_stands(snapshot: Snapshot, memory: Memory) -> None:
    """What was ordered and could not be written is not in force: the next step starts from what is."""
    ordered, standing = memory.decide.targets.ordered, memory.in_force
    if ordered is None or ordered is standing:
        return
    before = memory.decide.targets.classes
    if standing is None:
        memory.decide = replace(memory.decide, targets=TargetMemory.empty())
        return
    recalled = TargetMemory.recall(standing, snapshot.classes, snapshot.now).classes
    astray = {target.name for target in ordered.classes if target != standing.of(target.name)}
    if not astray:
        return
    classes = {
        name: _set_back(entry, recalled.get(name)) if name in astray else entry for name, entry in before.items()
    }
    memory.decide = replace(memory.decide, targets=TargetMemory(classes=classes, ordered=standing))


def _set_back(meant: ClassMemory, held: ClassMemory | None) -> ClassMemory:
    """The values that are in force, with the times of what was meant: rests and dwells have begun all the same."""
    held = held or ClassMemory()
    return replace(
        meant,
        rate_limit=held.rate_limit,
        in_flight_limit=held.in_flight_limit,
        fence=held.fence,
        weights=held.weights,
    )


def _deliberate(
    snapshot: Snapshot, estimated: EstimateMemory, decided: DecideMemory
) -> tuple[Demand, Decision, EstimateMemory, DecideMemory]:
    demand, estimated = estimate(snapshot, estimated)
    decision, decided = decide(snapshot, demand, decided)
    return demand, decision, estimated, decided


def _kept(findings: tuple[Finding, ...], memory: Memory, why: str) -> Decision:
    stuck = Finding(condition=ConditionType.SOLVED, reason=Reason.SOLVER_FAILED, message=why, blocking=True)
    return Decision(plan=memory.decide.plan, targets=None, adopted=False, findings=(*findings, stuck))
