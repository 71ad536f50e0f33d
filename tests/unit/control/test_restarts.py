"""Passes of an operator that was started anew: it goes on from what stands."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.control.fleets import two_classes
from tests.unit.control.pass_world import HEAVY, KEY, Here, Start, view

from sluice.control.ports import Ref
from sluice.model.signal import Gap, GapReason, Sample, Signal, Source
from sluice.model.snapshot import ClassSamples, Observation


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


async def test_leaving_enforce_while_the_operator_was_away_opens_too(started: Start) -> None:
    here = Here(view())
    await started(here).run(5)
    here.shown = view("Observe")
    await started(here).run(1)
    assert here.limit is None


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
