"""The third step of a pass: write what the fleet's mode asks for, or preview it.

Enforce writes the decision's targets, or holds what is in force. Leaving Enforce opens
limits once, takes gate, fence and objectives away, and keeps weights. Advise shows what Enforce would change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from dataclasses import replace

from sluice.actuate.order import has_limits, without_limits
from sluice.actuate.port import Actuator, NoAnswer, Order
from sluice.control.account import confirmed_at
from sluice.control.enforcing import handed_over, moved_away
from sluice.control.gathering import Gathered
from sluice.control.memory import Memory
from sluice.control.metrics import Metrics
from sluice.control.ports import FleetKey, WorldView
from sluice.control.workers import Overloaded, StillRunning, Workers
from sluice.model.decision import Decision, Receipt, Targets
from sluice.model.fleet import DataPlaneKind, Fleet, GateUse, Mode
from sluice.model.reasons import ConditionType, Finding, Reason

log = logging.getLogger("sluice.acting")

ActuatorOf = Callable[[Fleet], Actuator]


class Acting:
    """Acts for all fleets."""

    def __init__(self, *, actuator_of: ActuatorOf, crew: Workers, metrics: Metrics) -> None:
        self._actuator_of = actuator_of
        self._crew = crew
        self._metrics = metrics

    async def standing(self, fleet: Fleet) -> Targets | None:
        """What the data plane holds by the orders of an operator before us."""
        return await self._crew.run(self._actuator_of(fleet).standing, fleet)

    async def act(self, gathered: Gathered, decision: Decision, memory: Memory) -> tuple[Receipt | None, str]:
        """Write what is to be written in the fleet's mode; the receipt, or the preview."""
        fleet = gathered.fleet
        _has_caught_up(memory)
        memory.enforcing = fleet.mode is Mode.ENFORCE
        if memory.ordered is not None and memory.ordered.fleet.data_plane.kind is not fleet.data_plane.kind:
            # Nobody would loosen limits there again.
            await self.release(gathered.declared.key, memory, gathered.declared.view)
        if fleet.mode is Mode.ENFORCE:
            targets = _wanted(gathered, decision, memory)
            if targets is None:
                return None, ""
            return await self._write(_order(gathered, decision, targets), memory), ""
        if memory.in_force is not None and (has_limits(memory.in_force) or _holds_more(memory)):
            opened = without_limits(_present(memory.in_force, gathered))
            return await self._write(_let_go(_order(gathered, decision, opened)), memory), ""
        if fleet.mode is Mode.ADVISE and decision.targets is not None:
            return None, await self._preview(_order(gathered, decision, decision.targets), memory)
        return None, ""

    async def release(self, key: FleetKey, memory: Memory, view: WorldView) -> None:
        """The fleet is gone, or its data plane is: nobody would ever loosen the limits there again, so they go too.

        Not those of classes that are another fleet's by now: what stands of them is not ours to write.
        Where an earlier write still hangs nothing is written: come back when it has ended.
        """
        if not _has_caught_up(memory) or memory.ordered is None:
            return
        if not has_limits(memory.ordered.targets) and not _holds_more(memory):
            return
        order = _let_go(_without(memory.ordered, moved_away(view, key)))
        order = replace(order, targets=without_limits(order.targets), handed_over=handed_over(view, key))
        receipt = await self._write(order, memory)
        for problem in receipt.problems:
            log.warning(
                "limits that nobody loosens any longer stay: %s", problem.message, extra={"fleet": "/".join(key)}
            )

    async def _write(self, order: Order, memory: Memory) -> Receipt:
        if not _has_caught_up(memory):
            return Receipt(problems=(_write_failed("an earlier write has not come back yet"),))
        try:
            receipt, held = await self._crew.run(_carry_out, self._actuator_of(order.fleet), order)
        except StillRunning as error:
            memory.hanging = order, error.future
            return Receipt(problems=(_write_failed(str(error)),))
        except (TimeoutError, Overloaded) as error:
            return Receipt(problems=(_write_failed(str(error)),))
        _remember(order, held, memory)
        writes = len(receipt.written) + len(receipt.removed)
        self._metrics.count(
            "sluice_data_plane_writes_total", writes, namespace=order.fleet.namespace, fleet=order.fleet.name
        )
        return receipt

    async def _preview(self, order: Order, memory: Memory) -> str:
        """What Enforce would change; computed anew only for a new order."""
        if memory.previewed is not None and memory.previewed[0] == order:
            return memory.previewed[1]
        try:
            text = await self._crew.run(self._actuator_of(order.fleet).preview, order)
        except (TimeoutError, Overloaded) as error:
            return f"(no preview: {error})"
        memory.previewed = (order, text)
        return text


def _has_caught_up(memory: Memory) -> bool:
    """Whether no write is under way; one that came back late counts as if it had come in time."""
    if memory.hanging is None:
        return True
    order, future = memory.hanging
    if not future.done():
        return False
    memory.hanging = None
    if future.exception() is None:
        _, held = future.result()
        _remember(order, held, memory)
    return True


def _carry_out(actuator: Actuator, order: Order) -> tuple[Receipt, Targets | None]:
    """What acting did, and the targets in force then; None where nobody can tell.

    After a problem the data plane is asked: one class that cannot be written leaves the limits
    of the others in force, and a limit that could not be lifted must be tried again.
    """
    receipt = actuator.act(order)
    if not any(finding.condition is ConditionType.PROGRAMMED for finding in receipt.problems):
        return receipt, order.targets
    try:
        return receipt, actuator.standing(order.fleet)
    except NoAnswer:
        return receipt, None


def _remember(order: Order, held: Targets | None, memory: Memory) -> None:
    """What was written is in force, beside whatever could not be."""
    if held is not None:
        memory.in_force = held
        memory.ordered = replace(order, targets=held)


def _wanted(gathered: Gathered, decision: Decision, memory: Memory) -> Targets | None:
    """The targets to hold: the decision's, or what is in force without the classes that are gone."""
    if decision.targets is not None:
        return decision.targets
    if memory.in_force is None:
        return None
    return _present(memory.in_force, gathered)


def _without(order: Order, names: Set[str]) -> Order:
    """The same, less the classes of these ``names``."""
    targets = tuple(target for target in order.targets.classes if target.name not in names)
    return replace(
        order,
        classes=tuple(workload for workload in order.classes if workload.name not in names),
        targets=replace(order.targets, classes=targets),
    )


def _present(targets: Targets, gathered: Gathered) -> Targets:
    """``targets`` without classes that are gone."""
    names = {workload.name for workload in gathered.snapshot.classes}
    return replace(targets, classes=tuple(target for target in targets.classes if target.name in names))


def _order(gathered: Gathered, decision: Decision, targets: Targets) -> Order:
    return Order(
        fleet=gathered.fleet,
        classes=gathered.snapshot.classes,
        targets=targets,
        plan=decision.plan,
        supplies=gathered.supplies,
        proxies=gathered.snapshot.observation.proxies_ready,
        confirmed_at=confirmed_at(decision, gathered.fleet, gathered.snapshot.now),
        handed_over=handed_over(gathered.declared.view, gathered.declared.key),
    )


def _holds_more(memory: Memory) -> bool:
    """Whether the last order put more in the way than limits: a gate, its fence, objectives."""
    ordered = memory.ordered
    return ordered is not None and _let_go(ordered).fleet.data_plane != ordered.fleet.data_plane


def _let_go(order: Order) -> Order:
    """The same with nothing in the way but limits.

    In Envoy's files the gate is part of the bootstrap: it stays, by its own word holds nothing, and loses its fence.
    """
    plane = order.fleet.data_plane
    match plane.kind:
        case DataPlaneKind.ENVOY_GATEWAY:
            # No placement either: without the gate nobody takes out what clients write into its header.
            free = replace(plane, gate=GateUse.DISABLED, gate_places=False, objective_group=None)
        case DataPlaneKind.ENVOY_FILES if plane.gate is GateUse.ENABLED:
            free = replace(plane, gate=GateUse.SHADOW)
        case _:
            return order
    return replace(order, fleet=replace(order.fleet, data_plane=free))


def _write_failed(message: str) -> Finding:
    return Finding(condition=ConditionType.PROGRAMMED, reason=Reason.WRITE_FAILED, message=message)
