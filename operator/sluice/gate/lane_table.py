"""The kernels' records of all lanes, kept up to date event by event.

The kernels of ``sluice.policy.kernels`` take records of arrays where they are compiled, and
anything with the same attributes where they are not. Plain objects are many times as fast
without a compiler, and the gate's process has none (it would cost more memory than all
requests that wait).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from sluice.gate.engines import Engine
from sluice.gate.lanes import Lane
from sluice.gate.scarcity import Scarcity
from sluice.policy.admission import AdmissionPolicy, LaneTerms, Memory, lanes_of
from sluice.policy.compiled import IS_COMPILED
from sluice.policy.kernels import NOBODY, Late, Order, accrue, choose, latest_start, record_start
from sluice.policy.timely import watch_prices

_REMEMBERED = ("accrued", "prefill_price", "slot_price", "memory_price", "watched")


class _Record:
    """One record with the fields of a kernel's type as attributes."""

    def __init__(self, record: Any) -> None:
        for name, value in zip(record.dtype.names, record.item(), strict=True):
            setattr(self, name, value)


class LaneTable:
    """All lanes as the kernels see them."""

    def __init__(self, policy: AdmissionPolicy, terms: tuple[LaneTerms, ...]) -> None:
        self.names = tuple(entry.name for entry in terms)
        self.policy = policy
        self.watches = policy.order is Order.TIMELY
        """Whether the rule has prices that follow what keeps engines closed."""
        self._lanes: Any = lanes_of(terms)
        self._rule: Any = policy.rule()[0]
        if not IS_COMPILED:
            self._lanes = [_Record(record) for record in self._lanes]
            self._rule = _Record(self._rule)

    def set(self, lane: int, field: str, value: float) -> None:
        """Write one field."""
        if IS_COMPILED:
            self._lanes[field][lane] = value
        else:
            setattr(self._lanes[lane], field, value)

    def get(self, lane: int, field: str) -> float:
        """Read one field."""
        return float(self._lanes[field][lane] if IS_COMPILED else getattr(self._lanes[lane], field))

    def take_over(self, before: LaneTable) -> None:
        """What another table's rule remembered: credit by lane, and prices."""
        for field in _REMEMBERED:
            setattr(self._rule, field, float(getattr(before._rule, field)))
        known = {name: number for number, name in enumerate(before.names)}
        for number, name in enumerate(self.names):
            self.set(number, "credit", before.get(known[name], "credit") if name in known else 0.0)

    @property
    def memory(self) -> Memory:
        """What the rule remembers."""
        rule = self._rule
        return Memory(
            credit=tuple(self.get(number, "credit") for number in range(len(self.names))),
            accrued=float(rule.accrued),
            prices=(float(rule.prefill_price), float(rule.slot_price), float(rule.memory_price)),
        )

    def count_engines(self, ready: int) -> None:
        """So many engines share the work."""
        self._rule.engines = float(max(1, ready))

    def watch(self, short: Scarcity | None, now: float) -> None:
        """What has kept engines closed since the last call; None: nothing waited, and nothing is learnt."""
        if short is None:
            self._rule.watched = now
            return
        watch_prices(self._rule, float(short.prefill), float(short.slots), float(short.memory), now)

    def latest_start(self, lane: int, arrival: float, prompt_tokens: float) -> float:
        """Latest start that keeps the promise; infinite where promises play no part."""
        if self.policy.late is Late.IGNORE:
            return float("inf")
        return float(latest_start(self._rule, self._lanes[lane], arrival, prompt_tokens))

    def rank(self, lane: int) -> tuple[float, float]:
        """Standing of a lane where the order has one whatever waits: the lowest goes first."""
        match self.policy.order:
            case Order.BANDS:
                return self.get(lane, "band"), -self.get(lane, "index")
            case Order.INDEX:
                return 0.0, -self.get(lane, "index")
            case Order.TIMELY:  # as of the last choice
                return self.get(lane, "tier"), -self.get(lane, "worth")
            case _:
                return 0.0, 0.0

    def show(self, lane: Lane) -> None:
        """Enter a lane's heads."""
        number = lane.number
        self.set(number, "waiting", len(lane.live))
        self.set(number, "late", len(lane.late))
        lane.head_latest = math.inf
        if head := lane.live.head():
            lane.head_latest = self.latest_start(number, head.arrival, head.prompt_tokens)
            self.set(number, "head_arrival", head.arrival)
            self.set(number, "head_latest", lane.head_latest)
        if late := lane.late.head():
            self.set(number, "late_arrival", late.arrival)
            self.set(number, "late_prompt", late.prompt_tokens)

    def hide_unservable(self, lanes: Iterable[Lane], open_: Iterable[Engine]) -> list[Lane]:
        """Hide lanes that none of the open engines may serve from the kernel; returns them."""
        pools = {engine.terms.pool for engine in open_}
        hidden = [lane for lane in lanes if lane.waiting and lane.terms.pools and lane.terms.pools.isdisjoint(pools)]
        for lane in hidden:
            self.set(lane.number, "waiting", 0)
            self.set(lane.number, "late", 0)
        return hidden

    def accrue(self, now: float) -> None:
        """Add credit up to ``now``."""
        accrue(self._rule, self._lanes, now)

    def choose(self, now: float, room: float = 0.0) -> tuple[int, bool] | None:
        """(lane, whether its late head) that starts next; None: nobody. ``room``: of the engine at hand."""
        self._rule.room = room
        choice = int(choose(self._rule, self._lanes, now))
        if choice == NOBODY:
            return None
        late, lane = divmod(choice, len(self.names))
        return lane, bool(late)

    def record_start(self, lane: int) -> None:
        """Account for one started prefill."""
        record_start(self._rule, self._lanes[lane])
