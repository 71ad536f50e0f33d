"""Admission policies: one interface for the live gate and the simulator.

``AdmissionPolicy.decide(view, now)`` is pure: the view holds what a gate can see, and
what the rule remembers (its credit) travels in the view as a value and comes back from
``after``. The simulator runs the same kernels (``sluice.policy.kernels``) without building
views; a test holds both to the same decisions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from sluice.model.plan import Band, Plan
from sluice.policy.costs import NO_COSTS, Costs
from sluice.policy.kernels import (
    BAND_FULL,
    BAND_IDLE,
    BAND_RATIONED,
    LANE,
    NOBODY,
    RULE,
    Late,
    Order,
    accrue,
    choose,
    late_may_start,
    latest_start,
    record_start,
)

EVEN_PRICES = (1 / 3, 1 / 3, 1 / 3)
"""Before anything was watched."""
_BANDS = {Band.FULL: BAND_FULL, Band.RATIONED: BAND_RATIONED, Band.IDLE_ONLY: BAND_IDLE}


class Need(StrEnum):
    """A signal beyond what every gate sees (classes, arrivals, unfinished prefill tokens, readiness)."""

    PLAN = "Plan"
    """Rates, guarantees, bands, indices and targets of a fresh plan."""
    PROMISES = "Promises"
    GAUGES = "Gauges"
    """Slots, queue and memory of each replica: the gate ends its stream at the first token and does not see them
    by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneTerms:
    """What the plan and the class say about one lane."""

    name: str
    target: float = 0.0
    """Planned prefills in service, x* of the fleet."""
    queue_target: float = 0.0
    """Planned requests waiting for their prefill, q_p* of the fleet."""
    rate: float = 0.0
    """Planned requests per second, z* of the fleet."""
    arrival_rate: float = 0.0
    """Requests per second that come; at least the planned ones."""
    index: float = 0.0
    """Value per unit of the binding resource."""
    band: Band = Band.FULL
    promise_seconds: float = math.inf
    mean_prompt_tokens: float = 0.0
    value: float = 0.0
    """Money per request."""
    costs: Costs = NO_COSTS
    """What a request takes of an engine."""
    floor_rate: float = 0.0
    """Guaranteed requests per second."""
    tier: int = 0
    """Lower ones go first, whatever they are worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One request at the gate."""

    request_id: str
    lane: str
    arrival: float
    """Seconds, on the clock of ``now``."""
    prompt_tokens: float
    """Tokens to compute, as estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaView:
    """One replica as the gate sees it."""

    name: str
    ready: bool = True
    unfinished_requests: int = 0
    """Prefills started here whose first token is not yet seen."""
    unfinished_tokens: float = 0.0
    free_slots: int | None = None
    """None: unknown."""
    slots: int | None = None
    """All of them; None: unknown."""

    @property
    def room(self) -> float:
        """Share of its slots that one more start leaves free; 0 where nobody knows."""
        return max(0, (self.free_slots or 0) - 1) / self.slots if self.slots else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a rule remembers between decisions."""

    credit: tuple[float, ...] = ()
    """Requests that each lane may start now; empty: nothing earned yet."""
    accrued: float = 0.0
    """When credit was last added, seconds."""
    prices: tuple[float, float, float] = EVEN_PRICES
    """Of prefill, slots and KV memory, as watched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateView:
    """All that a decision may rest on."""

    lanes: tuple[LaneTerms, ...]
    waiting: tuple[Waiting, ...]
    """In order of arrival."""
    in_prefill: tuple[int, ...]
    """Started and unfinished, by lane."""
    replicas: tuple[ReplicaView, ...]
    memory: Memory = Memory()


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Let one request go to one replica."""

    request_id: str
    replica: str
    late: bool = False
    """Whether its promise was already lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much unfinished prefill one replica may hold before the gate holds back."""

    least_requests: int = 2
    """So many unfinished prefills are always allowed."""
    tokens: float = 0.0
    """More may start while fewer unfinished tokens than this are there."""

    def allows(self, replica: ReplicaView) -> bool:
        """Whether one more prefill may start."""
        within = replica.unfinished_requests < self.least_requests or replica.unfinished_tokens < self.tokens
        return replica.ready and within and replica.free_slots != 0


UNBOUNDED = Budget(least_requests=1 << 30, tokens=math.inf)
"""No gate: everything goes to an engine at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionPolicy:
    """One order of admission with its parameters."""

    name: str
    order: Order
    needs: frozenset[Need] = frozenset()
    """Signals that change what it decides; a test holds every order to that."""
    late: Late = Late.IGNORE
    cap: bool = False
    """No class above its planned prefill occupancy (model page section 3.6, C)."""
    own_prompt: bool = True
    """Latest starts from the request's own prompt, not the class's mean."""
    prefill_seconds_per_token: float = 0.0
    margin_seconds: float = 0.0
    credit_seconds: float = 5.0
    fill: float = 0.7
    """TIMELY: share of the time to a promise that may be spoken for; the rest is for what nobody expects."""
    guard_seconds: float = 1.0
    """TIMELY: slack below which a promise is in danger; one long prompt closes an engine for so long."""
    horizon_seconds: float = 10.0
    """TIMELY: time that a request without a promise counts as able to wait."""
    price_seconds: float = 5.0
    """TIMELY: time in which prices move by a factor e; inf: they stay."""
    tilt: float = 5.0
    """TIMELY: by how many factors e slots are cheaper on an engine that is all free; 0: alike on all."""
    late_share: float = 0.0
    """Share of ready replicas that must have budget before a late request starts."""
    late_tokens: float = math.inf
    """Unfinished prompt tokens that the replica of a late request may hold."""

    def rule(self) -> Any:
        """The parameters as the kernels take them: one ``RULE`` record in an array."""
        rule = np.zeros(1, dtype=RULE).view(np.recarray)
        rule["order"], rule["late"], rule["cap"], rule["own_prompt"] = (
            int(self.order),
            int(self.late),
            int(self.cap),
            int(self.own_prompt),
        )
        rule["prefill_seconds"] = self.prefill_seconds_per_token
        rule["margin"], rule["credit_seconds"] = self.margin_seconds, self.credit_seconds
        rule["spoken"], rule["guard"], rule["horizon"] = self.fill, self.guard_seconds, self.horizon_seconds
        rule["price_seconds"], rule["engines"] = self.price_seconds, 1.0
        rule["prefill_price"], rule["slot_price"], rule["memory_price"] = EVEN_PRICES
        rule["tilt"] = self.tilt
        rule["late_share"], rule["late_tokens"] = self.late_share, self.late_tokens
        return rule

    def decide(self, view: GateView, now: float, budget: Budget = Budget()) -> tuple[Start, ...]:
        """Which requests start now, and where: the replica with the least unfinished tokens takes the next."""
        return self._run(view, now, budget)[0]

    def after(self, view: GateView, now: float, budget: Budget = Budget()) -> Memory:
        """What the rule remembers once ``decide`` has been carried out."""
        return self._run(view, now, budget)[1]

    def refusals(self, view: GateView, now: float) -> tuple[str, ...]:
        """Requests that this rule refuses now because their promise is lost."""
        if self.late is not Late.REFUSE:
            return ()
        _, _, late = self._lanes(view, now)
        return tuple(entry.request_id for queue in late for entry in queue)

    def _run(self, view: GateView, now: float, budget: Budget) -> tuple[tuple[Start, ...], Memory]:
        rule, lanes = self.rule(), lanes_of(view.lanes)
        live, late = self._queues(view, now, rule[0], lanes)
        lanes["in_prefill"] = view.in_prefill
        lanes["credit"] = view.memory.credit or 0.0
        rule["accrued"] = view.memory.accrued
        rule["prefill_price"], rule["slot_price"], rule["memory_price"] = view.memory.prices
        rule["engines"] = max(1, sum(replica.ready for replica in view.replicas))
        accrue(rule[0], lanes, now)
        replicas = list(view.replicas)
        starts: list[Start] = []
        while eligible := [k for k, replica in enumerate(replicas) if budget.allows(replica)]:
            target = min(eligible, key=lambda k: (replicas[k].unfinished_tokens, replicas[k].unfinished_requests))
            rule["room"] = replicas[target].room
            choice = choose(rule[0], lanes, now)
            if choice == NOBODY or (choice >= len(lanes) and self.late is Late.REFUSE):
                break
            is_late, i = divmod(choice, len(lanes))
            ready = sum(replica.ready for replica in replicas)
            if is_late and not late_may_start(rule[0], len(eligible), ready, replicas[target].unfinished_tokens):
                break
            request = (late if is_late else live)[i].pop(0)
            starts.append(
                Start(request_id=request.request_id, replica=replicas[target].name, late=bool(is_late)),
            )
            replicas[target] = _with_one_more(replicas[target], request)
            record_start(rule[0], lanes[i])
            while self.late is not Late.IGNORE and live[i] and self._is_lost(live[i][0], now, rule[0], lanes[i]):
                late[i].append(live[i].pop(0))
            _show(lanes, i, live[i], late[i], rule[0])
        memory = Memory(
            credit=tuple(float(c) for c in lanes["credit"]),
            accrued=float(rule["accrued"][0]),
            prices=view.memory.prices,
        )
        return tuple(starts), memory

    def _lanes(self, view: GateView, now: float) -> tuple[Any, list[list[Waiting]], list[list[Waiting]]]:
        lanes = lanes_of(view.lanes)
        live, late = self._queues(view, now, self.rule()[0], lanes)
        return lanes, live, late

    def _queues(
        self, view: GateView, now: float, rule: Any, lanes: Any
    ) -> tuple[list[list[Waiting]], list[list[Waiting]]]:
        """Live and late requests by lane; a request is late once it and all before it in its lane are."""
        number = {terms.name: i for i, terms in enumerate(view.lanes)}
        live: list[list[Waiting]] = [[] for _ in view.lanes]
        late: list[list[Waiting]] = [[] for _ in view.lanes]
        for request in view.waiting:
            i = number[request.lane]
            is_late = self.late is not Late.IGNORE and not live[i] and self._is_lost(request, now, rule, lanes[i])
            (late if is_late else live)[i].append(request)
        for i in range(len(lanes)):
            _show(lanes, i, live[i], late[i], rule)
        return live, late

    @staticmethod
    def _is_lost(request: Waiting, now: float, rule: Any, lane: Any) -> bool:
        """Whether it can no longer keep its promise."""
        return bool(latest_start(rule, lane, request.arrival, request.prompt_tokens) < now)


def _show(lanes: Any, i: int, live: list[Waiting], late: list[Waiting], rule: Any) -> None:
    """Enter the heads of one lane's queues."""
    lanes["waiting"][i], lanes["late"][i] = len(live), len(late)
    if live:
        lanes["head_arrival"][i] = live[0].arrival
        lanes["head_latest"][i] = latest_start(rule, lanes[i], live[0].arrival, live[0].prompt_tokens)
    if late:
        lanes["late_arrival"][i], lanes["late_prompt"][i] = late[0].arrival, late[0].prompt_tokens


def _with_one_more(replica: ReplicaView, request: Waiting) -> ReplicaView:
    return replace(
        replica,
        unfinished_requests=replica.unfinished_requests + 1,
        unfinished_tokens=replica.unfinished_tokens + request.prompt_tokens,
        free_slots=None if replica.free_slots is None else replica.free_slots - 1,
    )


def lanes_of(terms: tuple[LaneTerms, ...]) -> Any:
    """Lane records of ``terms``, with nobody waiting."""
    lanes = np.zeros(len(terms), dtype=LANE).view(np.recarray)
    for i, entry in enumerate(terms):
        lanes["target"][i], lanes["queue_target"][i] = entry.target, entry.queue_target
        lanes["rate"][i], lanes["index"][i] = entry.rate, entry.index
        lanes["arrivals"][i] = max(entry.rate, entry.arrival_rate)
        lanes["band"][i] = _BANDS[entry.band]
        lanes["promise"][i], lanes["mean_prompt"][i] = entry.promise_seconds, entry.mean_prompt_tokens
        lanes["value"][i] = entry.value
        lanes["busy"][i], lanes["hold"][i] = entry.costs.busy_seconds, entry.costs.hold_seconds
        lanes["memory"][i] = entry.costs.memory_seconds
        lanes["floor"][i], lanes["tier"][i] = entry.floor_rate, entry.tier
    return lanes


def terms_of_plan(
    plan: Plan,
    *,
    promises: dict[str, float],
    prompts: dict[str, float],
    values: dict[str, float],
    costs: dict[str, Costs] | None = None,
    floors: dict[str, float] | None = None,
) -> tuple[LaneTerms, ...]:
    """Lane terms from a plan, in the plan's order.

    ``promises`` only names classes that have one; ``floors`` are guaranteed shares of what is offered.
    """
    return tuple(
        LaneTerms(
            name=entry.name,
            target=entry.prefill,
            queue_target=entry.prefill_queue,
            rate=entry.admitted_rate,
            arrival_rate=entry.arrival_rate,
            index=entry.index,
            band=entry.band,
            promise_seconds=promises.get(entry.name, math.inf),
            mean_prompt_tokens=prompts.get(entry.name, 0.0),
            value=values.get(entry.name, 0.0),
            costs=(costs or {}).get(entry.name, NO_COSTS),
            floor_rate=(floors or {}).get(entry.name, 0.0) * entry.arrival_rate,
        )
        for entry in plan.classes
    )
