"""What Sluice really does: the operator's own estimate and decide, over the engine's data plane.

Every solve period the simulated counters become an ``Observation``, ``deciding.estimate``
and ``deciding.decide`` run as they do in the operator (dead band, dwell, bounded steps and
all), and the targets are carried out as a proxy would: token buckets and in-flight limits
rounded as they are divided among proxies, pools drawn by integer weights. Requests go to
the engines at once; nothing waits at a gate.

Beside it runs the *ideal* of the same means: it knows the traffic's true rates and
lengths, holds the plan's exact numbers from the first second, and rounds nothing. The
difference is what estimating, waiting, stepping and rounding cost together.

Between the two stand operators that know or may do one thing more than the real one
(``Informed``): what their difference is worth, cause by cause, is the table of ``gap``.

Not followed: several proxies are one bucket of their sum (each would refuse a little more
when its share of the traffic is uneven), writes act at once, and endpoints never fail.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from sluice.deciding.decide import DecideMemory, decide
from sluice.deciding.estimate import EstimateMemory, estimate
from sluice.model.decision import ClassTarget, Targets
from sluice.model.demand import Demand
from sluice.model.fleet import DataPlaneKind, Fleet, LimitKind, WorkloadClass
from sluice.model.plan import Plan
from sluice.model.snapshot import Observation, PoolSupply, Snapshot
from sluice.policy.admission import UNBOUNDED
from sluice.policy.division import in_flight_per_proxy, rate_per_proxy
from sluice.policy.orders import FIRST_COME
from sluice.policy.targets import BURST_SECONDS, DEFAULT_BURST_SECONDS, Memory, open_targets, targets
from sluice.simulation.counters import Counters
from sluice.simulation.layout import Placement, Sim
from sluice.simulation.regime import Regime

LIMITS = {"": None, "-rate": LimitKind.RATE, "-in-flight": LimitKind.IN_FLIGHT, "-both": LimitKind.BOTH}
"""Suffix of a policy's name -> the kind of limit; none: as the fleet declares."""


class Informed(StrEnum):
    """What an operator knows or may do beyond the real one; each the earlier ones' too."""

    NOTHING = ""
    LENGTHS = ":lengths"
    """The traffic's true mean lengths."""
    DEMAND = ":demand"
    """Its true rates too."""
    AT_ONCE = ":at-once"
    """It acts before the first request, and no step is too large."""


def _behind_a_proxy(name: str) -> Regime:
    return Regime(admission=replace(FIRST_COME, name=name), budget=UNBOUNDED, placement=Placement.BY_WEIGHT)


ACTUATED = {f"sluice{kind}{more}": _behind_a_proxy(f"sluice{kind}{more}") for more in Informed for kind in LIMITS}
"""The operator by name: as it is, then better informed."""
IDEAL = {f"sluice{suffix}-ideal": _behind_a_proxy(f"sluice{suffix}-ideal") for suffix in LIMITS}
"""The same means in the hands of one who knows the traffic."""


def ideal_of(name: str) -> str | None:
    """The ideal beside an actuated policy; None where ``name`` is none."""
    return f"{name.partition(':')[0]}-ideal" if name in ACTUATED else None


def informed_of(name: str) -> Informed:
    """What the operator of that name knows."""
    return Informed(name[len(name.partition(":")[0]) :])


def limited_as(fleet: Fleet, name: str) -> Fleet:
    """``fleet`` with the kind of limit, and the caution, that a policy's name asks for."""
    kind = LIMITS[name.partition(":")[0].removeprefix("sluice").removesuffix("-ideal")]
    if name in ACTUATED and informed_of(name) is Informed.AT_ONCE:
        fleet = replace(fleet, control=replace(fleet.control, largest_step=1.0, dwell_seconds=0.0))
    return fleet if kind is None else replace(fleet, data_plane=replace(fleet.data_plane, limit=kind))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one pass of the operator ordered."""

    at_seconds: float
    targets: Targets
    rationed: frozenset[str]
    """Classes that the plan in force does not serve in full."""
    written: bool
    """Whether the order differs from the last one."""


class Operator:
    """One operator at work: called at every tick, it observes, decides and writes to the engine's data plane."""

    def __init__(
        self,
        fleet: Fleet,
        classes: tuple[WorkloadClass, ...],
        supplies: tuple[PoolSupply, ...],
        proxies: int = 1,
        *,
        truth: Demand | None = None,
        informed: Informed = Informed.NOTHING,
    ) -> None:
        self.truth, self.informed = truth, informed
        self.fleet, self.classes, self.supplies, self.proxies = fleet, classes, supplies, proxies
        self.counters = Counters([entry.name for entry in classes], fleet.metrics.window_seconds)
        self.estimates, self.decisions = EstimateMemory(), DecideMemory()
        self.turns: list[Turn] = []

    def __call__(self, sim: Sim, now: float) -> None:
        """One pass at ``now``, seconds since the start of the run."""
        seen = self.counters.observe(sim, now) if now > 0.0 else Observation()
        observation = replace(seen, proxies_ready=self.proxies)
        snapshot = Snapshot(
            now=now, fleet=self.fleet, classes=self.classes, supplies=self.supplies, observation=observation
        )
        demand, self.estimates = estimate(snapshot, self.estimates)
        demand = self._told(demand)
        decision, self.decisions = decide(snapshot, demand, self.decisions)
        if decision.targets is None:
            return
        standing = self.turns[-1].targets if self.turns else None
        written = standing is None or standing.classes != decision.targets.classes
        entries = decision.plan.classes if decision.plan is not None else ()
        rationed = frozenset(entry.name for entry in entries if entry.rationed)
        self.turns.append(Turn(at_seconds=now, targets=decision.targets, rationed=rationed, written=written))
        if written:
            carry_out(sim, self.fleet, decision.targets, standing, self.proxies, now)

    def _told(self, demand: Demand) -> Demand:
        """The demand as estimated, with the truth in place of what this operator knows."""
        if self.truth is None or self.informed is Informed.NOTHING:
            return demand
        if self.informed is not Informed.LENGTHS:
            return self.truth
        rates = {entry.name: entry.rate for entry in demand.classes}
        return replace(self.truth, classes=tuple(replace(c, rate=rates[c.name]) for c in self.truth.classes))

    @property
    def writes(self) -> int:
        """How often the data plane was told something new."""
        return sum(turn.written for turn in self.turns)


def start_open(sim: Sim, fleet: Fleet, classes: tuple[WorkloadClass, ...], supplies: tuple[PoolSupply, ...]) -> None:
    """Before the first pass: no limits of ours, pools weighted by capacity."""
    ready = {supply.pool: supply.ready for supply in supplies}
    carry_out(sim, fleet, open_targets(fleet, classes, ready, Memory.empty())[0], None, 1, 0.0)


def carry_out(sim: Sim, fleet: Fleet, ordered: Targets, standing: Targets | None, proxies: int, now: float) -> None:
    """Write targets as a data plane holds them: whole requests per proxy; a bucket that changes starts full."""
    for i, target in enumerate(ordered.classes):
        before = standing.of(target.name) if standing is not None else None
        entry = sim.classes[i]
        shares = dict(target.weights)
        for k, pool in enumerate(fleet.pools):
            sim.weights[i, k] = float(shares.get(pool.name, 0))
        inside = target.in_flight_limit if target.in_flight_limit is not None else target.fence
        entry.limit_inside = math.inf if inside is None else in_flight_per_proxy(inside, proxies) * proxies
        if before is not None and before.rate_limit == target.rate_limit and before.burst == target.burst:
            continue
        entry.limit_rate, entry.limit_depth = _bucket(target, fleet.data_plane.kind, proxies)
        entry.limit_tokens, entry.limit_at = min(entry.limit_depth, 1e18), now


def _bucket(target: ClassTarget, kind: DataPlaneKind, proxies: int) -> tuple[float, float]:
    """(requests per second, depth): Envoy takes any rate, Envoy Gateway whole requests per unit, one unit deep."""
    if target.rate_limit is None:
        return math.inf, math.inf
    if kind is DataPlaneKind.ENVOY_GATEWAY:
        share = rate_per_proxy(target.rate_limit, proxies)
        return share.per_second * proxies, float(share.requests * proxies)
    return target.rate_limit, float(max(1, target.burst or 1))


def hold_plan(sim: Sim, fleet: Fleet, classes: tuple[WorkloadClass, ...], plan: Plan) -> None:
    """The ideal: the plan's own numbers for rationed classes, at once and unrounded."""
    ordered, _ = targets(plan, fleet, classes, Memory.empty(), 0.0)
    exact = []
    for target in ordered.classes:
        entry = plan.of(target.name)
        rationed = entry is not None and entry.rationed and fleet.data_plane.limit is not LimitKind.NONE
        rate = inside = None
        if rationed and entry is not None:
            if fleet.data_plane.limit in {LimitKind.RATE, LimitKind.BOTH}:
                rate = max(entry.admitted_rate, 1e-9)
            if fleet.data_plane.limit in {LimitKind.IN_FLIGHT, LimitKind.BOTH}:
                inside = entry.in_flight_limit
        exact.append(replace(target, rate_limit=rate, burst=None, in_flight_limit=inside, fence=None))
    carry_out(sim, fleet, replace(ordered, classes=tuple(exact)), None, 1, 0.0)
    for entry, workload in zip(sim.classes, classes, strict=True):
        entry.limit_depth = entry.limit_tokens = max(1.0, min(entry.limit_rate, 1e12) * _bucket_seconds(workload))


def _bucket_seconds(workload: WorkloadClass) -> float:
    """Depth of a bucket in seconds of its rate, as ``policy.targets`` has it."""
    promise = workload.ttft_promise_seconds
    return DEFAULT_BURST_SECONDS if promise is None else min(max(promise, BURST_SECONDS[0]), BURST_SECONDS[1])
