"""Ends of answers: what is under way, what was lost, and what an engine's gauges heal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2 as logger_pb2
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf import json_format
from tests.unit.actuate.fleets import fleet
from tests.unit.gate.worlds import engine, lane, request, terms

from sluice.actuate.envoy_bootstrap import bootstrap
from sluice.gate.access_log import ends
from sluice.gate.answers import LONGEST_SECONDS, UNREPORTED_SECONDS
from sluice.gate.engines import Engine, Reading
from sluice.gate.residents import POLL_SECONDS, Residents
from sluice.gate.state import Gate
from sluice.model.fleet import DataPlaneKind, GateUse
from sluice.policy.costs import Costs
from sluice.policy.orders import timely

SLOTS = 4


def reading(held: float, **fields: float) -> Reading:
    return Reading(**{"running": held, "waiting": 0.0, "kv_usage": 0.0, "preemptions": 0.0, **fields})


def slotted(*, reported: bool = True, **fields: float) -> Gate:
    """One engine with four slots and a budget that never binds, twice read while it was idle."""
    gate = Gate(terms(lane("chat"), engines=(engine("one", slots=SLOTS, budget_tokens=1e9, **fields),)))
    gate.accounts.hear(reported=reported)
    for now in (0.0, POLL_SECONDS):
        gate.on_reading("one", reading(0.0), now)
    return gate


def answered(gate: Gate, number: int, now: float) -> None:
    """A request that starts and brings its first token; its answer goes on."""
    one = request(number, arrival=now)
    assert gate.on_arrival(one, now).starts
    gate.on_first_chunk(one, now)


def test_an_engine_whose_slots_are_taken_gets_the_next_request_when_an_answer_ends() -> None:
    gate = slotted()
    for number in range(SLOTS):
        answered(gate, number, 0.6)
    fifth = request(5, arrival=0.7)
    assert not gate.on_arrival(fifth, 0.7).starts
    assert gate.on_answers_over([("r2", "one")], 0.8).starts == [fifth]


def test_without_reports_the_next_reading_tells() -> None:
    gate = slotted(reported=False)
    for number in range(SLOTS):
        answered(gate, number, 0.6)
    fifth = request(5, arrival=0.7)
    assert not gate.on_arrival(fifth, 0.7).starts
    assert gate.on_reading("one", reading(SLOTS - 1), 1.0).starts == [fifth]


def test_without_fresh_readings_slots_hold_nothing_back() -> None:
    gate = slotted()
    for number in range(SLOTS):
        answered(gate, number, 0.6)
    gate.on_tick(10.0)
    assert gate.engines["one"].free_slots() is None
    assert gate.on_arrival(request(9), 10.0).starts


@pytest.mark.parametrize(("ended", "first"), [(1, "long"), (2, "chat")])
def test_the_timely_order_sees_how_much_room_an_engine_has(ended: int, first: str) -> None:
    """Into the last free slot goes the short answer, into one of two the short prompt."""
    lanes = (
        lane("chat", value=1.0, costs=Costs(busy_seconds=0.10, hold_seconds=0.21)),
        lane("long", value=1.0, costs=Costs(busy_seconds=0.20, hold_seconds=0.10)),
    )
    one = engine("one", slots=SLOTS, budget_tokens=1e9)
    gate = Gate(terms(*lanes, engines=(one,), policy=timely(1e-4)))
    gate.accounts.hear(reported=True)
    for now in (0.0, POLL_SECONDS):
        gate.on_reading("one", reading(0.0), now)
    for number in range(SLOTS):
        answered(gate, number, 0.6)
    for number, name in ((5, "chat"), (6, "long")):
        assert not gate.on_arrival(request(number, name, arrival=0.6), 0.6).starts
    starts = gate.on_answers_over([(f"r{number}", "one") for number in range(ended)], 0.6).starts
    assert starts[0].lane == first


@pytest.mark.parametrize(("reported", "room"), [(True, 0.75), (False, 0.0)])
def test_room_is_looked_at_only_where_ends_are_reported(*, reported: bool, room: float) -> None:
    gate = Gate(terms(lane("chat"), engines=(engine("one", slots=4),)))
    gate.accounts.hear(reported=reported)
    for now in (0.0, POLL_SECONDS):
        gate.on_reading("one", reading(0.0), now)
    assert gate.engines["one"].free_slots() == 4
    assert gate.engines["one"].room() == room


@pytest.mark.parametrize("event", ["twice", "unknown", "in prefill"])
def test_reports_that_fit_nothing_free_nothing(event: str) -> None:
    gate = slotted()
    for number in range(SLOTS):
        answered(gate, number, 0.6)
    reports = {"twice": ["r1", "r1"], "unknown": ["r1", "other"], "in prefill": ["r1"]}[event]
    gate.on_answers_over([(one, "") for one in reports], 0.7)
    assert gate.engines["one"].free_slots() == 1
    assert gate.accounts.answers.resident["one"] == SLOTS - 1


def test_a_client_that_leaves_before_its_first_token_counts_once() -> None:
    gate = slotted()
    for number in range(SLOTS - 1):
        answered(gate, number, 0.6)
    last = request(7, arrival=0.6)
    gate.on_arrival(last, 0.6)
    gate.on_end(last, 0.7)
    gate.on_answers_over([("r7", "")], 0.75)
    assert gate.engines["one"].free_slots() == 1


def test_reports_that_were_lost_are_healed_by_two_readings() -> None:
    gate = slotted()
    for number in range(SLOTS):
        answered(gate, number, 0.6)
    gate.on_reading("one", reading(1.0), 5.0)
    assert gate.accounts.answers.resident["one"] == SLOTS, "one reading may have come before the reports"
    gate.on_reading("one", reading(1.0), 5.5)
    gate.on_reading("one", reading(1.0), 6.0)
    assert gate.accounts.answers.resident["one"] == 1


def test_a_proxy_that_stops_reporting_leaves_no_requests_behind() -> None:
    gate = slotted()
    answered(gate, 1, 0.6)
    gate.accounts.hear(reported=False)
    assert len(gate.accounts.answers) == 0


@pytest.mark.parametrize("reported", [True, False])
def test_what_is_too_old_to_be_true_is_forgotten(reported: bool) -> None:
    gate = slotted(reported=reported)
    answered(gate, 1, 0.6)
    kept = LONGEST_SECONDS if reported else UNREPORTED_SECONDS
    gate.on_tick(kept)
    assert len(gate.accounts.answers) == 1
    gate.on_tick(kept + 1.0)
    assert len(gate.accounts.answers) == 0


def test_an_answer_that_ends_gives_its_memory_back() -> None:
    gate = slotted()
    gate.on_reading("one", reading(1.0, kv_usage=0.89, kv_token_capacity=10_000.0), 1.0)
    answered(gate, 1, 1.1)
    second = request(2)
    assert not gate.on_arrival(second, 1.2).starts
    assert gate.on_answers_over([("r1", "")], 1.3).starts == [second]


def test_an_end_may_be_expected_before_it_is_known() -> None:
    """Ends come eight to an interval: without reports as many are expected, or slots would idle until the next."""
    one = Residents()
    one.read(10.0, 0.0)
    one.read(2.0, POLL_SECONDS)
    one.started = 6
    assert one.taken(2 * POLL_SECONDS, reported=False) == 0.0
    assert one.taken(2 * POLL_SECONDS, reported=True) == pytest.approx(8.0 - 8.0 * 0.2)


def test_an_engine_that_runs_more_than_declared_has_more_slots() -> None:
    account = Engine(engine("one", slots=SLOTS))
    for now in (0.0, POLL_SECONDS):
        account.read(reading(2.0 * SLOTS), now)
    assert account.free_slots() == 0
    account.read(reading(SLOTS), 2 * POLL_SECONDS)
    assert account.free_slots() == 2 * SLOTS


def test_entries_of_the_log_name_request_and_replica() -> None:
    entry = accesslog_pb2.HTTPAccessLogEntry()
    entry.request.request_id = "r1"
    address = entry.common_properties.upstream_remote_address.socket_address
    address.address, address.port_value = "10.0.0.1", 8000
    other = accesslog_pb2.HTTPAccessLogEntry()
    other.request.request_id = "r2"
    message = als_pb2.StreamAccessLogsMessage()
    message.http_logs.log_entry.extend([entry, other])
    assert list(ends(message)) == [("r1", "10.0.0.1:8000"), ("r2", "")]


@pytest.mark.parametrize("use", list(GateUse))
def test_envoy_reports_ends_where_there_is_a_gate_soon_and_from_a_bounded_buffer(use: GateUse) -> None:
    plane = fleet(DataPlaneKind.ENVOY_FILES)
    plane = replace(plane, data_plane=replace(plane.data_plane, gate=use, gate_address="127.0.0.1:9002"))
    (listener,) = bootstrap(plane, "/out")["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    logs = manager.get("access_log", [])
    assert bool(logs) is (use is not GateUse.DISABLED)
    for log in logs:
        document = {name: value for name, value in log["typed_config"].items() if name != "@type"}
        config = json_format.ParseDict(document, logger_pb2.HttpGrpcAccessLogConfig()).common_config
        assert 0 < config.buffer_flush_interval.ToSeconds() + config.buffer_flush_interval.nanos / 1e9 <= 0.1
        assert 0 < config.buffer_size_bytes.value <= 65_536
