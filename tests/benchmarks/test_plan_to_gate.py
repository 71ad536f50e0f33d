"""From a plan's ConfigMap on a real API server to the gate's new terms, the write itself included."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from contextlib import suppress
from functools import partial

import pytest
from tests.contract.gate_world import manifests, replica_settings
from tests.contract.test_gate_cluster_feed import Server, server, settled

from sluice.gate.assembly import Choices
from sluice.gate.cluster_feed import Access, ClusterFeed
from sluice.gate.feed import Feed, World
from sluice.gate.terms import GateTerms
from sluice.model.plan import Plan

pytestmark = [pytest.mark.benchmark, pytest.mark.controlplane]
__all__ = ["server"]
PLANS = 15


class Gate:
    """As much of a gate as takes what its feed tells."""

    def __init__(self) -> None:
        self.feed: Feed | None = None
        self.plan_ids: list[str] = []

    def take_world(self, world: World) -> None:
        if self.feed is not None:
            self.feed.take_world(world)
            return
        self.feed = Feed(world=world, choices=Choices(), take=self.take, problem=lambda why: None)

    def take_plan(self, plan: Plan) -> None:
        assert self.feed is not None
        self.feed.take_plan(plan, time.monotonic())

    def take(self, terms: GateTerms, fresh: bool) -> None:
        del fresh
        self.plan_ids.append(terms.plan_id)


@pytest.mark.parametrize("classes", [2, 100])
async def test_from_plan_to_gate(server: Server, classes: int) -> None:
    names = [f"of-{classes}-{number}" for number in range(classes)]
    text = manifests([8000], 10000, 9901, 9002, {name: {} for name in names}, "Enabled", replica_settings(1))
    for document in map(json.loads, text.split("---\n")):
        await settled(partial(server.apply_resource, document), "our kinds are served")
    gate = Gate()
    feed = ClusterFeed(
        access=Access(configuration=server.configuration, namespace="default"),
        fleet_name="fleet",
        take_world=gate.take_world,
        take_plan=gate.take_plan,
        problem=lambda why: None,
    )
    following = asyncio.create_task(feed.run())
    seconds = []
    try:
        await settled(lambda: gate.feed, "the fleet is seen")
        order = dict.fromkeys(names, 1.0)
        for number in range(PLANS):
            order[names[number % classes]] += number
            began, plan_id = time.monotonic(), f"{classes}-{number}"
            await asyncio.to_thread(server.apply_plan, order, plan_id)
            await settled(partial(gate.plan_ids.__contains__, plan_id), "the plan is in force")
            seconds.append(time.monotonic() - began)
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
    low, middle, high = (round(1e3 * value, 1) for value in (min(seconds), statistics.median(seconds), max(seconds)))
    sys.stdout.write(
        f"\nplan to gate over the API, {classes} classes: {low} / {middle} / {high} ms (least, median, most)\n"
    )
