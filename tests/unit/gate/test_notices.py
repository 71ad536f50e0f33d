"""What people are told of what the gate does not know: metrics, the log, readiness, ``sluice explain``."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from tests.unit.actuate.fleets import fleet, workload
from tests.unit.gate.worlds import engine, lane, request, terms

from sluice.control.logs import FieldFormatter
from sluice.gate.decision_log import DecisionLog, lines_about
from sluice.gate.desk import Desk
from sluice.gate.engines import EngineTerms
from sluice.gate.explanation import sentences
from sluice.gate.feed import World
from sluice.gate.meters import Meters
from sluice.gate.process import GateProcess, GateSettings
from sluice.gate.state import Gate
from sluice.model.fleet import DataPlaneKind, Hardness, Sli, SliSignal, SliStatistic

FLEET = fleet(DataPlaneKind.ENVOY_FILES)
POOL = FLEET.pools[0].name
UNLISTED = replace(FLEET, pools=(replace(FLEET.pools[0], endpoints=()),))
TTFT = Sli(
    signal=SliSignal.TTFT,
    statistic=SliStatistic.WITHIN_FRACTION,
    target_seconds=1.0,
    fraction=0.9,
    hardness=Hardness.HARD,
    penalty=0.0,
)
BLIND = World(fleet=UNLISTED, classes=(workload("chat"), workload("batch")))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The log as people see it."""
    return [FieldFormatter("%(message)s").format(record) for record in caplog.records]


@pytest.mark.parametrize(
    ("engines", "count"), [pytest.param((), 1, id="no engine"), pytest.param((engine("one"),), 0, id="an engine")]
)
def test_a_request_let_pass_for_want_of_an_engine_is_counted_and_explained(
    tmp_path: Path, engines: tuple[EngineTerms, ...], count: int
) -> None:
    meters = Meters(CollectorRegistry())
    desk = Desk(Gate(terms(lane("chat"), engines=engines)), meters, DecisionLog(tmp_path))
    desk.arrive(request(1))
    desk.close()
    assert meters.bypassed["NoEngine"] == count
    said = " ".join(text for line in lines_about(tmp_path, "r1") for text in sentences(line))
    assert ("NoEngine" in said) is bool(count)


async def test_log_readiness_and_metrics_name_the_classes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        process = GateProcess(GateSettings(polls_engines=False), BLIND)
        process.feed.take_world(replace(BLIND, addresses={POOL: ("10.0.0.1:8000",)}))
        process.feed.take_world(BLIND)
        process.feed.take_world(replace(BLIND, classes=(workload("batch"), workload("chat"))))
    assert [line for line in lines(caplog) if "replica" in line] == [
        f"no ready replica is known of some classes: they are not held addresses={POOL}: 0 classes=batch, chat",
        f"replicas are known again addresses={POOL}: 1 classes=",
        f"no ready replica is known of some classes: they are not held addresses={POOL}: 0 classes=batch, chat",
    ]
    runner, port = await process.serve_http()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        async with session.get("/readyz") as answer:
            assert (answer.status, "batch, chat" in await answer.text()) == (200, True)
        async with session.get("/metrics") as answer:
            assert 'sluice_gate_class_engines{class="chat"} 0.0' in await answer.text()
    await asyncio.wait_for(runner.cleanup(), 10.0)


def test_the_log_says_what_the_order_lacks_at_the_start_and_when_that_changes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        process = GateProcess(GateSettings(polls_engines=False), BLIND)
        process.feed.take_world(replace(BLIND, addresses={POOL: ("10.0.0.1:8000",)}))
        promising = tuple(replace(one, slis=(TTFT,)) for one in BLIND.classes)
        process.feed.take_world(replace(BLIND, classes=promising))
    told = [line.partition(" without=") for line in lines(caplog) if "order=timely" in line]
    assert [head for head, _, _ in told] == [
        "order of admission met=nothing order=timely",
        "order of admission met=Promises order=timely",
    ]
    assert ["Promises" in lacking for _, _, lacking in told] == [True, False]
