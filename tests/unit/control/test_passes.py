"""Single passes with everything around them injected: modes, restarts, edits under way, failures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
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
from sluice.model.fleet import DataPlaneKind, Fleet, WorkloadClass
from sluice.model.plan import Plan
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.signal import Gap, GapReason, Sample, Signal, Source
from sluice.model.snapshot import ClassSamples, Observation
from sluice.observe.proxies import Proxies

KEY = ("default", "fleet")


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

    async def keep_plan(self, key: FleetKey, plan: Plan) -> None:
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


@pytest.fixture
async def started() -> AsyncIterator[Callable[[Here], Operator]]:
    made: list[Operator] = []

    def start(here: Here) -> Operator:
        made.append(Operator(here))
        return made[-1]

    yield start
    for operator in made:
        operator.crews.close()


Start = Callable[[Here], Operator]


async def test_a_rationed_class_is_limited_and_settles(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(5)
    assert here.limit == pytest.approx(4.6833, rel=1e-3)
    assert here.condition("Programmed")["status"] == "True"
    writes, events = here.writes, len(here.events)
    await operator.run(5)
    assert (here.writes, len(here.events)) == (writes, events)


async def test_a_restart_orders_the_same_and_tells_nothing(started: Start) -> None:
    here = Here(view())
    await started(here).run(5)
    held, writes, events = here.held, here.writes, len(here.events)
    await started(here).run(3)
    assert here.held == held
    assert (here.writes, len(here.events)) == (writes, events)


async def test_a_restart_does_not_tighten_faster(started: Start) -> None:
    here = Here(view(classes=[{**entry, "spec": {**entry["spec"], "priors": HEAVY}} for entry in two_classes()]))
    await started(here).run(3)
    first = here.limit
    assert first is not None
    assert first < 0.8 * 40  # below where an operator without memory would begin
    here.seconds -= 1.0  # the restarted operator comes in the same second
    await started(here).run(1)
    assert here.limit == first


HEAVY = {"promptTokens": 300, "outputTokens": 1000, "milliRequestsPerSecond": 40_000}


@pytest.mark.parametrize("mode", ["Observe", "Advise"])
async def test_looking_orders_nothing(started: Start, mode: str) -> None:
    here = Here(view(mode))
    await started(here).run(3)
    assert here.orders == []
    assert ("would change" in here.condition("Programmed")["message"]) == (mode == "Advise")


async def test_leaving_enforce_opens_once_and_a_return_starts_from_open(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(5)
    here.shown = view("Observe")
    await operator.run(1)
    assert here.limit is None
    orders = len(here.orders)
    await operator.run(3)
    assert len(here.orders) == orders
    assert here.held is not None
    assert all(target.weights for target in here.held.classes), "weights stay"


async def test_leaving_enforce_while_the_operator_was_away_opens_too(started: Start) -> None:
    here = Here(view())
    await started(here).run(5)
    here.shown = view("Observe")
    await started(here).run(1)
    assert here.limit is None


async def test_an_edit_under_way_is_planned_in_the_same_pass(started: Start) -> None:
    here = Here(view())
    other = view(classes=two_classes()[:1])

    def edit() -> None:
        here.shown, here.on_observe = other, None

    here.on_observe = edit
    await started(here).run(1)
    assert [[entry.name for entry in order.classes] for order in here.orders] == [["decode-heavy"]]


async def test_a_write_that_fails_is_told_and_does_not_count_as_done(started: Start) -> None:
    here = Here(view(), failing=True)
    operator = started(here)
    await operator.run(2)
    assert here.condition("Programmed")["reason"] == "WriteFailed"
    assert here.condition("Ready")["status"] == "False"
    assert here.statuses[Ref("WorkloadClass", "default", "decode-heavy")]["limit"] == ""
    here.failing = False
    await operator.run(1)
    assert here.condition("Programmed")["status"] == "True"


async def test_what_was_written_beside_a_problem_is_in_force_and_opened_on_leaving(started: Start) -> None:
    here = Here(view(), foreign=True)
    operator = started(here)
    await operator.run(5)
    assert here.condition("Programmed")["reason"] == "FieldConflict"
    assert here.statuses[Ref("WorkloadClass", "default", "decode-heavy")]["limit"] == "4.68/s"
    here.shown = view("Observe")
    await operator.run(1)
    assert here.limit is None


async def test_a_limit_that_could_not_be_lifted_on_leaving_is_tried_again(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(5)
    here.shown, here.stuck = view("Observe"), True
    await operator.run(2)
    assert here.limit is not None
    here.stuck = False
    await operator.run(1)
    assert here.limit is None


async def test_no_order_overtakes_one_that_still_hangs(started: Start) -> None:
    here = Here(view(), hold=threading.Event())
    operator = started(here)
    assert here.hold is not None
    await operator.run(3)
    assert len(here.orders) == 1
    assert "an earlier write" in here.condition("Programmed")["message"]
    here.hold.set()
    await asyncio.sleep(0.2)  # it comes back late
    await operator.run(1)
    assert here.condition("Programmed")["status"] == "True"


async def test_the_last_plan_stays_when_a_profile_goes(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(5)
    plan, held = here.statuses[Ref("InferenceFleet", *KEY)]["plan"], here.held
    here.shown = view(law=False)
    await operator.run(2)
    assert here.condition("ResolvedRefs")["reason"] == "ProfileNotFound"
    assert here.statuses[Ref("InferenceFleet", *KEY)]["plan"] == plan
    assert here.held == held


async def test_the_last_class_takes_its_limits_with_it(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(5)
    here.shown = view(classes=[])
    await operator.run(1)
    assert here.held is not None
    assert here.held.classes == ()
    assert here.condition("Solved")["reason"] == "EmptyFleet"


async def test_a_deleted_fleet_leaves_open_limits(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(5)
    await operator.passes.end(KEY)
    assert here.limit is None


async def test_a_fleet_that_moves_to_another_data_plane_leaves_open_limits_behind(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(5)
    moved = view()
    spec = moved.fleets[0].spec
    plane = spec.data_plane.model_copy(update={"kind": DataPlaneKind.ENVOY_FILES})
    fleet = moved.fleets[0].model_copy(update={"spec": spec.model_copy(update={"data_plane": plane})})
    here.shown = replace(moved, fleets=(fleet,))
    seen = len(here.orders)
    await operator.run(1)
    left, taken = here.orders[seen:]
    assert left.fleet.data_plane.kind is DataPlaneKind.CONFIG_MAP
    assert taken.fleet.data_plane.kind is DataPlaneKind.ENVOY_FILES
    assert [target.rate_limit for target in left.targets.classes] == [None, None]


async def test_a_class_without_a_fleet_is_told(started: Start) -> None:
    here = Here(replace(view(), fleets=()))
    await started(here).run(1)
    status = here.statuses[Ref("WorkloadClass", "default", "decode-heavy")]
    assert {"ResolvedRefs": "FleetNotFound"}.items() <= {c["type"]: c["reason"] for c in status["conditions"]}.items()


async def test_a_fleet_that_goes_before_its_classes_takes_its_limits_along(started: Start) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(3)
    limits = [here.limit]
    here.shown = replace(here.shown, fleets=())
    await operator.run(2)
    limits.append(here.limit)
    assert [limit is None for limit in limits] == [False, True]
    assert here.held is not None
    assert here.held.of("decode-heavy") is not None, "routes and weights stay"


@pytest.mark.parametrize(("mode", "stays"), [("Enforce", True), ("Observe", False)])
async def test_a_fleet_that_cannot_be_resolved_can_still_leave_enforce(started: Start, mode: str, stays: bool) -> None:
    here = Here(view())
    operator = started(here)
    await operator.run(3)
    here.shown = view(mode, law=False)
    await operator.run(2)
    assert (here.limit is not None) == stays


async def test_a_limit_that_could_not_be_written_goes_on_from_where_it_stands(started: Start) -> None:
    here = Here(view(classes=[{**entry, "spec": {**entry["spec"], "priors": HEAVY}} for entry in two_classes()]))
    operator = started(here)
    await operator.run(2)
    before = here.limit
    assert before is not None
    here.failing = True
    await operator.run(4)
    here.failing = False
    await operator.run(1)
    assert here.limit is not None
    assert 0.8 * before - 1e-9 <= here.limit < before, "one step of a fifth, and not five of them"


@pytest.mark.parametrize(("mode", "told"), [("Enforce", "WriteFailed"), ("Observe", "NotEnforcing")])
async def test_what_cannot_be_read_after_a_restart_is_not_taken_for_nothing(
    started: Start, mode: str, told: str
) -> None:
    here = Here(view())
    await started(here).run(5)
    orders, limit = len(here.orders), here.limit
    here.silent, here.shown = True, view(mode)
    again = started(here)
    await again.run(2)
    assert (len(here.orders), here.limit) == (orders, limit)
    assert here.condition("Programmed")["reason"] == told
    here.silent = False
    await again.run(2)
    assert here.limit == (limit if mode == "Enforce" else None)
    assert here.condition("Programmed")["reason"] == ("Programmed" if mode == "Enforce" else "NotEnforcing")


def measured(rates: Mapping[str, float], at: float) -> Observation:
    def samples(rate: float) -> ClassSamples:
        return ClassSamples(samples={Signal.OFFERED_RATE: Sample(value=rate, at_seconds=at, source=Source.ENVOY)})

    return Observation(classes={name: samples(rate) for name, rate in rates.items()})


def unmeasured(reason: GapReason) -> Observation:
    gap = Gap(signal=Signal.OFFERED_RATE, tried=((Source.ENVOY, reason),))
    return Observation(
        classes={name: ClassSamples(gaps={Signal.OFFERED_RATE: gap}) for name in ("decode-heavy", "prefill-heavy")}
    )


METRICS = {"prometheusUrl": "http://127.0.0.1:9"}
LOAD = {"decode-heavy": 15.0, "prefill-heavy": 5.0}
"""Three times the decode-heavy class's prior."""


@pytest.mark.parametrize("reason", [GapReason.NO_SERIES, GapReason.TOO_YOUNG, GapReason.STALE, GapReason.UNREACHABLE])
async def test_a_restart_under_load_keeps_limits_until_demand_is_measured_again(
    started: Start, reason: GapReason
) -> None:
    here = Here(view(metrics=METRICS))
    operator = started(here)
    for _ in range(12):
        here.observation = measured(LOAD, here.seconds)
        await operator.run(1)
    limit, plan = here.limit, here.statuses[Ref("InferenceFleet", *KEY)]["plan"]
    assert limit is not None
    here.observation = unmeasured(reason)
    again = started(here)
    await again.run(10)
    assert (here.limit, here.statuses[Ref("InferenceFleet", *KEY)]["plan"]) == (limit, plan)
    assert here.condition("Degraded")["reason"] == "Held"
    here.observation = measured(LOAD, here.seconds)
    await again.run(1)
    assert here.limit == limit
    here.seconds += 400.0  # longer than blindAfterSeconds: then the safe plan, open limits, is due
    here.observation = unmeasured(reason)
    await again.run(1)
    here.seconds += 400.0
    await again.run(1)
    assert here.limit is None
