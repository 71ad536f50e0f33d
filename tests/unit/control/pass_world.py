"""A world in which single passes run with everything around them injected: one object with every port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml
from tests.control.fleets import PROFILE, fleet, two_classes

from sluice.actuate.port import NoAnswer, Order
from sluice.api.manifests import parse
from sluice.control.events import Event
from sluice.control.metrics import Metrics
from sluice.control.observing import Haste, Observations
from sluice.control.passes import Passes
from sluice.control.ports import FleetKey, Ref, Status, WorldView, document
from sluice.control.telling import Telling
from sluice.control.workers import Crews
from sluice.model.decision import Receipt, Targets
from sluice.model.fleet import Fleet, WorkloadClass
from sluice.model.plan import Plan
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.snapshot import Observation
from sluice.observe.proxies import Proxies

KEY = ("default", "fleet")
HEAVY = {"promptTokens": 300, "outputTokens": 1000, "milliRequestsPerSecond": 40_000}
"""Priors that ask for more than a replica has."""


def view(
    mode: str = "Enforce", *, classes: Sequence[Mapping[str, Any]] | None = None, law: bool = True, **spec: Any
) -> WorldView:
    declared = two_classes() if classes is None else classes
    documents = [*([PROFILE] if law else []), fleet(mode, kind="ConfigMap", **spec), *declared]
    read = parse(yaml.safe_dump_all([dict(document) for document in documents]), "test")
    assert read.errors == ()
    return WorldView(fleets=read.fleets, classes=read.classes, profiles=read.profiles)


@dataclass
class Here:
    """The world, the data plane, the sink, the recorder, the clock: one object with every port."""

    shown: WorldView
    seconds: float = 1_767_225_600.0
    orders: list[Order] = field(default_factory=list)
    held: Targets | None = None
    failing: bool = False
    foreign: bool = False
    """One class's object is somebody else's; the others are written."""
    stuck: bool = False
    """One of two limited classes keeps what it has; the other is written."""
    silent: bool = False
    """Nobody tells what the data plane holds."""
    observation: Observation = field(default_factory=Observation)
    hold: threading.Event | None = None
    """A write hangs until it is set."""
    statuses: dict[Ref, Mapping[str, Any]] = field(default_factory=dict)
    writes: int = 0
    events: list[Event] = field(default_factory=list)
    on_observe: Callable[[], None] | None = None

    def view(self) -> WorldView:
        def dressed(resource: Any) -> Any:
            ref = Ref(resource.kind, resource.metadata.namespace, resource.metadata.name)
            status = type(resource.status).model_validate(self.statuses.get(ref, {}))
            return resource.model_copy(update={"status": status})

        return replace(
            self.shown,
            fleets=tuple(map(dressed, self.shown.fleets)),
            classes=tuple(map(dressed, self.shown.classes)),
        )

    async def changed(self) -> frozenset[str]:
        return frozenset()

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def read(self, namespace: str, name: str) -> None:
        del namespace, name

    async def observe(
        self, fleet: Fleet, classes: Sequence[WorkloadClass], now: float, around: Proxies | None = None
    ) -> Observation:
        del fleet, classes, now, around
        if self.on_observe is not None:
            self.on_observe()
        return self.observation

    async def close(self) -> None:
        """Nothing to end."""

    def act(self, order: Order) -> Receipt:
        if self.failing:
            finding = Finding(condition=ConditionType.PROGRAMMED, reason=Reason.WRITE_FAILED, message="no")
            return Receipt(problems=(finding,))
        self.orders.append(order)
        if self.hold is not None:
            self.hold.wait(10)
        if self.stuck and self.held is not None:
            kept = self.held.classes[:1] + order.targets.classes[1:]
            self.held = replace(order.targets, classes=kept)
            finding = Finding(condition=ConditionType.PROGRAMMED, reason=Reason.WRITE_FAILED, message="no")
            return Receipt(unchanged=1, problems=(finding,))
        changed = self.held is None or self.held.classes != order.targets.classes
        self.held = order.targets
        if self.foreign:
            finding = Finding(condition=ConditionType.PROGRAMMED, reason=Reason.FIELD_CONFLICT, message="not ours")
            return Receipt(written=("plane",), problems=(finding,))
        return Receipt(written=("plane",)) if changed else Receipt(unchanged=1)

    def preview(self, order: Order) -> str:
        del order
        return "+ something"

    def standing(self, fleet: Fleet) -> Targets | None:
        del fleet
        if self.silent:
            raise NoAnswer(Finding(condition=ConditionType.PROGRAMMED, reason=Reason.WRITE_FAILED, message="hush"))
        return self.held

    async def write_all(self, statuses: Mapping[Ref, Status]) -> Mapping[Ref, str]:
        self.writes += len(statuses)
        self.statuses |= {ref: document(status) for ref, status in statuses.items()}
        return {}

    def lacks(self, ref: Ref) -> bool:
        del ref
        return False

    async def keep_plan(self, key: FleetKey, plan: Plan, confirmed_at: float | None) -> None:
        """Status has it."""

    def kept_plan(self, key: FleetKey) -> None:
        """Status has it."""

    async def publish(self, events: tuple[Event, ...]) -> None:
        self.events += events

    def condition(self, type_: str) -> Mapping[str, Any]:
        status = self.statuses[Ref("InferenceFleet", *KEY)]
        return next(entry for entry in status["conditions"] if entry["type"] == type_)

    @property
    def limit(self) -> float | None:
        assert self.held is not None
        target = self.held.of("decode-heavy")
        return None if target is None else target.rate_limit


class Operator:
    """An operator's memory around one world; another instance is a restart."""

    def __init__(self, here: Here) -> None:
        self.crews = Crews(writing_seconds=20.0 if here.hold is None else 0.1)
        metrics = Metrics("0")
        self.passes = Passes(
            world=here,
            observations=Observations(lambda *_: here, here, here),
            actuator_of=lambda _: here,
            telling=Telling(sink=here, recorder=here, metrics=metrics),
            clock=here,
            metrics=metrics,
            crews=self.crews,
        )
        self.here = here

    async def run(self, times: int = 1) -> None:
        for _ in range(times):
            await self.passes.run(KEY, Haste(True, asyncio.Event()))
            self.here.seconds += 1.0


Start = Callable[[Here], Operator]
