"""What an order of admission declares to need is what changes its decisions, and nothing else does."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.gate.worlds import engine, lane, terms

from sluice import gate as gate_room
from sluice.cli.gate import GateOrder
from sluice.gate.engines import READING_AGE_SECONDS, Reading
from sluice.gate.needs import ORDERS, SOURCE, WITHOUT, rows, unmet
from sluice.gate.state import Gate
from sluice.model.plan import Band
from sluice.policy.admission import AdmissionPolicy, GateView, LaneTerms, Memory, Need, ReplicaView, Waiting
from sluice.policy.costs import Costs
from sluice.policy.orders import TIMELY

TRIALS = 150
NAMES = ("chat", "code", "batch")


def lanes(dice: random.Random) -> tuple[LaneTerms, ...]:
    """Three classes; what makes them up is drawn."""
    return tuple(
        LaneTerms(
            name=name,
            mean_prompt_tokens=dice.uniform(50.0, 2000.0),
            value=dice.uniform(0.5, 5.0),
            costs=Costs(
                **{part: dice.uniform(0.01, 0.3) for part in ("busy_seconds", "hold_seconds", "memory_seconds")}
            ),
            **planned(dice),
            **promised(dice),
        )
        for name in NAMES
    )


def planned(dice: random.Random) -> dict[str, Any]:
    """What a plan says of a class."""
    return {
        "target": dice.uniform(0.0, 4.0),
        "queue_target": dice.uniform(0.0, 9.0),
        "rate": dice.uniform(0.0, 4.0),
        "arrival_rate": dice.uniform(0.0, 4.0),
        "index": dice.uniform(0.0, 3.0),
        "band": dice.choice(list(Band)),
        "floor_rate": dice.choice((0.0, 1.0)),
        "tier": dice.randint(0, 2),
    }


def promised(dice: random.Random) -> dict[str, Any]:
    return {"promise_seconds": dice.choice((math.inf, 0.5, 2.0, 8.0))}


def priced(dice: random.Random) -> tuple[float, float, float]:
    return dice.choice(((1.0, 0.02, 0.02), (0.02, 1.0, 0.02), (0.02, 0.02, 1.0)))


def view(dice: random.Random) -> GateView:
    waiting = sorted(
        (
            Waiting(request_id=f"r{n}", lane=dice.choice(NAMES), arrival=dice.uniform(0.0, 10.0), prompt_tokens=100.0)
            for n in range(8)
        ),
        key=lambda one: one.arrival,
    )
    return GateView(
        lanes=lanes(dice),
        waiting=tuple(waiting),
        in_prefill=tuple(dice.randint(0, 3) for _ in NAMES),
        replicas=(ReplicaView(name="one"), ReplicaView(name="two")),
        memory=Memory(credit=tuple(dice.uniform(0.0, 2.0) for _ in NAMES), accrued=9.0, prices=priced(dice)),
    )


def otherwise(seen: GateView, need: Need, dice: random.Random) -> GateView:
    """The same view, with another word about one need."""
    if need is Need.GAUGES:
        return replace(seen, memory=replace(seen.memory, prices=priced(dice)))
    draw = planned if need is Need.PLAN else promised
    return replace(seen, lanes=tuple(replace(entry, **draw(dice)) for entry in seen.lanes))


@pytest.mark.parametrize("need", Need)
@pytest.mark.parametrize("order", [pytest.param(one, id=one.name) for one in ORDERS])
def test_an_order_follows_what_it_declares_and_nothing_else(order: AdmissionPolicy, need: Need) -> None:
    dice = random.Random(7)
    changed = 0
    for _ in range(TRIALS):
        seen = view(dice)
        changed += order.decide(seen, 10.0) != order.decide(otherwise(seen, need, dice), 10.0)
    assert bool(changed) is (need in order.needs), f"{changed} of {TRIALS} decisions changed"


def test_every_order_of_the_command_line_is_told() -> None:
    assert {policy.name for policy in ORDERS} == {order.value for order in GateOrder}
    assert set(SOURCE) == set(WITHOUT) == set(Need)


def test_the_readmes_table_is_the_codes() -> None:
    (folder,) = gate_room.__path__
    readme = (Path(folder) / "README.md").read_text(encoding="utf-8")
    assert "\n".join(rows()) in readme


def test_what_the_view_lacks_is_known() -> None:
    def world(promise: float, plan: str) -> Gate:
        return Gate(terms(lane("chat", promise_seconds=promise), engines=(engine("one"),), policy=TIMELY, plan_id=plan))

    assert unmet(world(math.inf, "")) == set(Need)
    assert unmet(world(1.0, "")) == {Need.PLAN, Need.GAUGES}
    gate = world(math.inf, "p")
    assert unmet(gate) == {Need.PROMISES, Need.GAUGES}
    gate.on_reading("one", Reading(running=0.0, waiting=0.0, kv_usage=0.0, preemptions=0.0), 1.0)
    assert unmet(gate) == {Need.PROMISES}
    gate.on_tick(1.0 + READING_AGE_SECONDS + 0.1)
    assert unmet(gate) == {Need.PROMISES, Need.GAUGES}
