"""The gate's edges: bytes to Envoy, engines' gauges, the decision log, plans and routes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
from tests.unit.actuate.fleets import fleet, workload
from tests.unit.gate.worlds import lane, request, terms

from sluice.gate import wire
from sluice.gate.assembly import BUDGETS, LEAST_REQUESTS, UNPLACED_BUDGETS, Choices, may_hold, terms_of
from sluice.gate.decision_log import NEWER, DecisionLog, lines_about
from sluice.gate.engines import Reading
from sluice.gate.explanation import sentences
from sluice.gate.feed import Feed, FeedError, World, read_plan
from sluice.gate.gauges import parse
from sluice.gate.keys import LONGEST_KEY
from sluice.gate.request import Refusal, Refused
from sluice.gate.retries import REMEMBERED_KEYS, Attempts
from sluice.gate.server import is_gated, prompt_tokens, refused
from sluice.gate.state import Gate
from sluice.gate.terms import GateTerms
from sluice.model.fleet import DataPlaneKind, GateUse, Mode, Tier
from sluice.model.plan import Band

FLEET = fleet(DataPlaneKind.ENVOY_FILES)


@pytest.mark.parametrize("plan_id", ["", "p", "x" * 64, "x" * 200])
@pytest.mark.parametrize("remove", [(), ("x-sluice-endpoint",)])
def test_what_is_joined_from_bytes_is_the_message(plan_id: str, remove: tuple[str, ...]) -> None:
    fields = (("x-sluice-plan", plan_id), ("x-sluice-waited-ms", "0"))
    message = messages.ProcessingResponse.FromString(wire.let_go(fields, remove))
    mutation = message.request_headers.response.header_mutation
    assert [(one.header.key, one.header.raw_value.decode()) for one in mutation.set_headers] == list(fields)
    overwrite = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    assert {one.append_action for one in mutation.set_headers} == {overwrite}
    assert tuple(mutation.remove_headers) == remove


def test_a_refusal_is_429_in_the_clients_own_words() -> None:
    message = messages.ProcessingResponse.FromString(refused(Refusal(request(1), Refused.QUEUE_FULL, 2.4, 9.0)))
    answer = message.immediate_response
    headers = {one.header.key: one.header.raw_value.decode() for one in answer.headers.set_headers}
    assert (answer.status.code, headers["retry-after"], headers["x-sluice-refused"]) == (429, "3", "QueueFull")
    assert json.loads(answer.body)["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize(
    ("declared", "tokens"),
    [
        ("4000", 1000.0),
        ("0", 1.0),
        (None, 500.0),
        ("-5", 500.0),
        ("9" * 5, 24999.75),
        ("1e9", 500.0),
        ("9" * 5000, 500.0),
    ],
)
def test_prompts_are_estimated_from_the_bodys_length(declared: str | None, tokens: float) -> None:
    gate = Gate(terms(lane("chat")))
    assert prompt_tokens(declared, gate.lanes["chat"]) == tokens


@pytest.mark.parametrize(
    ("headers", "attempt"),
    [
        ({}, 0),
        ({"x-stainless-retry-count": "2"}, 2),
        ({"x-envoy-attempt-count": "1"}, 0),
        ({"x-envoy-attempt-count": "3"}, 2),
        ({"x-stainless-retry-count": "many"}, 0),
        ({"x-stainless-retry-count": "9" * 5000, "x-envoy-attempt-count": "2"}, 1),
        ({"x-envoy-attempt-count": "9" * 5000}, 0),
    ],
)
def test_retries_are_told_apart(headers: dict[str, str], attempt: int) -> None:
    assert Attempts().of(headers) == attempt


def test_a_key_that_comes_again_is_a_retry() -> None:
    attempts = Attempts()
    key = {"idempotency-key": "one"}
    assert [attempts.of(key), attempts.of({"idempotency-key": "two"}), attempts.of(key)] == [0, 0, 1]
    assert attempts.of({**key, "x-stainless-retry-count": "5"}) == 5
    for number in range(REMEMBERED_KEYS):
        attempts.of({"idempotency-key": f"k{number}"})
    assert attempts.of(key) == 0, "what is remembered has a bound"


def test_of_a_long_key_only_so_much_is_kept_and_it_is_known_again() -> None:
    attempts = Attempts()
    one, other = ({"idempotency-key": "x" * 60_000 + end} for end in "ab")
    assert [attempts.of(one), attempts.of(other), attempts.of(one)] == [0, 0, 1]
    assert max(map(len, attempts._seen)) == LONGEST_KEY


def test_a_share_of_traffic_is_gated_and_the_same_request_always_the_same_way() -> None:
    chosen = [is_gated(f"request-{number}", 250) for number in range(4000)]
    assert 800 < sum(chosen) < 1200
    assert chosen == [is_gated(f"request-{number}", 250) for number in range(4000)]


VLLM = b"""# HELP vllm:num_requests_running x
vllm:num_requests_running{engine="0",model_name="a"} 3.0
vllm:num_requests_running{engine="0",model_name="b"} 2.0
vllm:num_requests_waiting{engine="0",model_name="a"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="a"} 0.25
vllm:num_preemptions_total{engine="0",model_name="a"} 7.0
vllm:cache_config_info{block_size="16",num_gpu_blocks="1000",engine="0"} 1.0
"""
SGLANG = b"sglang:num_running_reqs 3.0\nsglang:num_queue_reqs 4.0\nsglang:token_usage 0.5\n"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        pytest.param(VLLM, (5.0, 1.0, 0.25, 7.0, 16000.0), id="vLLM"),
        pytest.param(SGLANG, (3.0, 4.0, 0.5, 0.0, None), id="SGLang"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(b"<html>not metrics</html>", None, id="something else"),
    ],
)
def test_engines_gauges(text: bytes, seen: tuple[Any, ...] | None) -> None:
    reading = parse(text)
    got = (
        None
        if reading is None
        else (reading.running, reading.waiting, reading.kv_usage, reading.preemptions, reading.kv_token_capacity)
    )
    assert got == seen


def line(request_id: str, **fields: Any) -> str:
    given = {
        "id": request_id,
        "time": 1.0,
        "class": "chat",
        "outcome": "Started",
        "waitedMs": 5.0,
        "promptTokens": 10,
        "late": False,
        "attempt": 0,
        "plan": "p",
        "policy": "bands",
        "holds": True,
        "waitingInClass": 0,
        "retryAfter": 0.0,
        "engine": None,
    }
    return json.dumps({**given, **fields})


def test_the_log_is_bounded_and_finds_what_it_kept(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path, bound_bytes=20_000)
    for number in range(500):
        log.add(line(f"r{number}"))
        log.flush()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 20_000
    assert [one["id"] for one in lines_about(tmp_path, "r499")] == ["r499"]
    assert list(lines_about(tmp_path, "r0")) == []


def test_a_disk_that_fails_costs_the_log_and_not_the_request(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "kept")
    (tmp_path / "kept" / NEWER).mkdir()
    log.add(line("r1"))
    log.flush()
    assert log.failures == 1


@pytest.mark.parametrize("outcome", ["Started", "Gone", *Refused])
def test_every_outcome_can_be_explained(outcome: str) -> None:
    said = "\n".join(sentences(json.loads(line("r", outcome=str(outcome)))))
    assert "class chat" in said


def planned(**classes: dict[str, Any]) -> str:
    entry = {
        "band": "Full",
        "index": 1.0,
        "rationed": False,
        "arrivalRate": 1.0,
        "admittedRate": 1.0,
        "prefill": 1.0,
        "decodeMixed": 0.0,
        "decodeSolo": 0.0,
        "prefillQueue": 0.0,
        "decodeQueue": 0.0,
        "pools": [],
    }
    return json.dumps(
        {
            "planId": "p",
            "fleet": "demo/fleet",
            "time": "t",
            "charging": "Bundled",
            "verdict": "Optimal",
            "valuePerSecond": 1.0,
            "upperBound": 1.0,
            "pools": [],
            "classes": [{**entry, "name": name, **fields} for name, fields in classes.items()],
        }
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="not JSON"),
        pytest.param(planned().replace("demo/fleet", "demo/other"), id="another fleet's"),
        pytest.param(planned().replace("Optimal", "Feasible"), id="not proven optimal"),
        pytest.param(planned(chat={"surprise": 1}), id="of an unknown schema"),
    ],
)
def test_a_plan_that_cannot_be_used_is_refused(text: str) -> None:
    with pytest.raises(FeedError):
        read_plan(text, "demo/fleet")


def gate_terms(plan: str | None, **fields: Any) -> GateTerms:
    classes = [workload("chat", tier=Tier.PROTECTED), workload("batch", tier=Tier.BEST_EFFORT, **fields)]
    return terms_of(FLEET, classes, read_plan(plan, "demo/fleet") if plan else None, {}, Choices())


def test_without_a_plan_the_order_is_static_and_nothing_is_closed() -> None:
    static = gate_terms(None, closable=True)
    assert [one.band for one in static.lanes] == [Band.FULL, Band.IDLE_ONLY]
    assert static.lanes[0].index > static.lanes[1].index
    assert static.closed == frozenset()


@pytest.mark.parametrize("closable", [True, False])
def test_a_plan_closes_only_what_its_owner_declared_closable(closable: bool) -> None:
    one = gate_terms(planned(batch={"inFlightLimit": 0, "band": "IdleOnly"}), closable=closable)
    assert one.closed == (frozenset({"batch"}) if closable else frozenset())


def test_a_budget_is_two_iterations_of_every_engine_behind_the_address() -> None:
    (first, *_) = gate_terms(None).engines
    assert (first.budget_tokens, first.least_requests) == (2 * 2048.0, 2)


def test_a_plan_that_grows_old_loses_the_order_and_nothing_else(tmp_path: Path) -> None:
    told: list[tuple[str, bool]] = []
    world = World(fleet=FLEET, classes=(workload("chat"),))
    feed = Feed(
        world=world,
        choices=Choices(),
        take=lambda one, fresh: told.append((one.plan_id, fresh)),
        problem=lambda _: None,
        plan_file=tmp_path / "plan.json",
        stale_seconds=60.0,
    )
    feed.look(0.0)
    (tmp_path / "plan.json").write_text(planned(chat={}))
    feed.look(1.0)
    feed.look(30.0)
    feed.look(62.0)
    assert told == [("p", True), ("", False)]


def test_estimates_follow_the_engines_own_counts() -> None:
    """A body that the gate takes for 122 tokens and the engine counts as 100."""
    gate = Gate(terms(lane("chat")))
    counted = 0.0
    for second in range(1200):
        one = request(second, tokens=122.0 * gate.accounts.calibration.factor("chat"))
        gate.on_arrival(one, float(second))
        gate.on_first_chunk(one, second + 0.1)
        counted += 100.0
        seen = Reading(running=0.0, waiting=0.0, kv_usage=0.0, preemptions=0.0, prompt_tokens=counted)
        gate.on_reading("one", seen, second + 0.2)
    assert gate.accounts.calibration.factor("chat") == pytest.approx(100.0 / 122.0, abs=0.03)


@pytest.mark.parametrize("counts", [[5e6, 5e6, 1e7], [1e6, 0.0, 1e6], [None, None, None]])
def test_counts_of_something_else_correct_nothing(counts: list[float | None]) -> None:
    gate = Gate(terms(lane("chat")))
    for second, counted in enumerate(counts):
        for number in range(210):
            one = request(number, tokens=100.0)
            gate.on_arrival(one, float(second))
            gate.on_first_chunk(one, second + 0.1)
        seen = Reading(running=0.0, waiting=0.0, kv_usage=0.0, preemptions=0.0, prompt_tokens=counted)
        gate.on_reading("one", seen, second + 0.2)
    assert gate.accounts.calibration.factor("chat") == 1.0


@pytest.mark.parametrize(
    ("placement", "addresses", "times"),
    [
        pytest.param(True, ("10.0.0.1:1", "10.0.0.2:1"), 1, id="the gate places: budgets are exact"),
        pytest.param(False, ("10.0.0.1:1",), 1, id="one engine: there is nothing to place"),
        pytest.param(False, ("10.0.0.1:1", "10.0.0.2:1"), UNPLACED_BUDGETS, id="the proxy places, unevenly"),
    ],
)
def test_budgets_are_wider_where_the_proxy_spreads_prefills(
    placement: bool, addresses: tuple[str, ...], times: int
) -> None:
    pool = FLEET.pools[0]
    fleet = replace(FLEET, pools=(replace(pool, endpoints=()),))
    terms = terms_of(fleet, [workload("chat")], None, {pool.name: addresses}, Choices(places=placement))
    assert [(one.budget_tokens, one.least_requests) for one in terms.engines] == [
        (times * BUDGETS * pool.batched_token_budget, times * LEAST_REQUESTS)
    ] * len(addresses)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("use", GateUse)
def test_only_a_fleet_in_enforce_with_its_gate_enabled_lets_it_hold(mode: Mode, use: GateUse) -> None:
    one = replace(FLEET, mode=mode, data_plane=replace(FLEET.data_plane, gate=use))
    assert may_hold(one) is ((mode, use) == (Mode.ENFORCE, GateUse.ENABLED))
