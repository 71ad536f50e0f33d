"""The demo's load is what it says, and its manifests are what the operator accepts."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from sluice.api.validate import problems
from sluice.demo import manifests
from sluice.demo.arrivals import Arrival, Row, Stretch, excerpt, replay
from sluice.demo.scene import SCENE
from sluice.model.fleet import DataPlaneKind, GateUse, LimitKind, Mode, usual_limit

PORTS = manifests.Ports(replicas=(1, 2, 3, 4), prometheus=9090, proxy=10000, admin=9901)
ROWS = [Row(arrival_seconds=float(i * i), prompt_tokens=i + 1, output_tokens=1) for i in range(50)]


def even(seconds: float, rate: float) -> Stretch:
    return Stretch(seconds=seconds, rate=rate, rate_at_end=rate)


def replayed(*stretches: Stretch, seed: int = 7) -> list[Arrival]:
    return list(replay("a", ROWS, stretches, patience_seconds=3.0, bytes_per_token=4.0, seed=seed))


def test_every_stretch_holds_exactly_its_load_and_keeps_the_order_of_rows() -> None:
    sent = replayed(even(10, 1), even(5, 4))
    assert sum(arrival.at_seconds < 10 for arrival in sent) == 10
    assert len(sent) == 30
    assert all(earlier.at_seconds <= later.at_seconds < 15 for earlier, later in itertools.pairwise(sent))
    lengths = [arrival.prompt_tokens for arrival in sent]
    assert lengths == list(range(lengths[0], lengths[0] + 30))


@pytest.mark.parametrize(("rate", "rate_at_end"), [(1.0, 3.0), (3.0, 1.0), (0.0, 4.0), (2.0, 2.0)])
def test_on_a_ramp_requests_come_as_fast_as_it_says(rate: float, rate_at_end: float) -> None:
    ramp = Stretch(seconds=10.0, rate=rate, rate_at_end=rate_at_end)
    assert ramp.requests == 20
    assert ramp.moment(0.0) == 0.0
    assert ramp.moment(1.0) == pytest.approx(10.0)
    step = 1e-6
    for share in (0.1, 0.5, 0.9):
        at = ramp.moment(share)
        measured = step * ramp.requests / (ramp.moment(share + step) - at)
        assert measured == pytest.approx(rate + (rate_at_end - rate) * at / 10.0, rel=1e-3)


def test_bodies_are_as_large_as_their_prompts_and_differ_from_text_to_text() -> None:
    sent = replayed(even(10, 4))
    sizes = [arrival.body_bytes / arrival.prompt_tokens for arrival in sent if arrival.prompt_tokens > 20]
    assert all(3.3 < size < 4.7 for size in sizes)
    assert max(sizes) > 1.1 * min(sizes)


def test_the_acts_follow_each_other_without_a_gap_and_can_be_chosen_and_stretched() -> None:
    spans = SCENE.timetable
    assert [span.act.name for span in spans] == ["calm", "ramp", "burst", "back"]
    assert [span.act.load for span in spans] == ["0.7", "0.7-1.2", "1.2, code 2.4", "0.7"]
    assert spans[0].start == 0.0
    assert all(before.end == after.start for before, after in itertools.pairwise(spans))
    assert SCENE.act_at(spans[1].start).name == "ramp"
    assert SCENE.act_at(1e9).name == "back"
    assert [act.peak for act in SCENE.acts] == [0.7, 1.2, 2.4, 0.7]
    assert SCENE.calm is SCENE.acts[0]
    assert SCENE.playing(["ramp"]).calm is None
    assert SCENE.lasting(8.0).seconds == pytest.approx(8.0)
    assert [act.name for act in SCENE.playing(["back", "calm"]).acts] == ["calm", "back"]


def test_in_the_burst_code_comes_twice_as_often_and_chat_does_not() -> None:
    arrivals = SCENE.arrivals(unit_rate=10.0, seed=1)
    rates: Counter[tuple[str, str]] = Counter()
    for arrival in arrivals:
        act = SCENE.act_at(arrival.at_seconds)
        rates[act.name, arrival.workload] += 1
    for service, times in (("chat", 1.2), ("code", 2.4)):
        seconds = next(act.seconds for act in SCENE.acts if act.name == "burst")
        expected = times * 10.0 * SCENE.service(service).share * seconds
        assert rates["burst", service] == pytest.approx(expected, abs=1.0)


def test_the_same_seed_gives_the_same_load_and_another_seed_another() -> None:
    def load(seed: int) -> object:
        return SCENE.lasting(12.0).arrivals(unit_rate=5, seed=seed)

    assert load(1) == load(1)
    assert load(1) != load(2)


def test_a_run_longer_than_the_excerpt_is_refused_by_its_numbers() -> None:
    with pytest.raises(ValueError, match="80 requests are asked for, the excerpt holds 50 rows"):
        replayed(even(80, 1))


@pytest.mark.parametrize("service", SCENE.services, ids=lambda service: service.name)
def test_excerpts_hold_real_requests_in_order(service: object) -> None:
    rows = excerpt(getattr(service, "excerpt"))  # noqa: B009 - parametrised as object for its id
    assert len(rows) == 3000
    assert rows[0].arrival_seconds == 0.0
    assert all(row.prompt_tokens > 0 and row.output_tokens > 0 for row in rows)


def test_the_api_accepts_every_manifest() -> None:
    documents = manifests.documents(SCENE, PORTS, 10.0)
    assert [(document["kind"], problems(document)) for document in documents] == [
        ("IterationProfile", []),
        ("InferenceFleet", []),
        ("WorkloadClass", []),
        ("WorkloadClass", []),
    ]
    fleet, classes = manifests.resolved(manifests.text(SCENE, PORTS, 10.0))
    assert fleet.mode is Mode.ENFORCE
    assert fleet.data_plane.limit is usual_limit(DataPlaneKind.ENVOY_FILES), "the product's default"
    assert fleet.data_plane.gate is GateUse.DISABLED
    assert [entry.ttft_promise_seconds for entry in classes] == [2.0, 1.0]


def test_with_a_gate_the_limits_stand_open_and_the_gate_names_the_replica() -> None:
    ports = replace(PORTS, gate=9002, gate_http=9003)
    assert not [problem for document in manifests.documents(SCENE, ports, 10.0) for problem in problems(document)]
    fleet, _ = manifests.resolved(manifests.text(SCENE, ports, 10.0))
    assert fleet.data_plane.gate is GateUse.ENABLED
    assert fleet.data_plane.gate_address == "127.0.0.1:9002"
    assert fleet.data_plane.gate_places
    assert fleet.data_plane.limit is LimitKind.NONE


def test_a_limit_that_the_user_chose_is_declared() -> None:
    scene = replace(SCENE, limit=LimitKind.IN_FLIGHT)
    fleet, _ = manifests.resolved(manifests.text(scene, PORTS, 10.0))
    assert fleet.data_plane.limit is LimitKind.IN_FLIGHT


def test_replicas_and_planner_keep_the_same_law() -> None:
    fleet, _ = manifests.resolved(manifests.text(SCENE, PORTS, 10.0))
    engine = SCENE.replicas_settings.engine
    (pool,) = fleet.pools
    for tokens, sequences in ((0, 1), (16, 8), (512, 64)):
        assert engine.law.mixed(tokens, sequences) == pytest.approx(pool.law.mixed(tokens, sequences))
        assert engine.law.solo(sequences) == pytest.approx(pool.law.solo(sequences))
    assert (pool.slots, pool.batched_token_budget) == (engine.slots, engine.batched_token_budget)


def test_at_one_and_a_half_times_the_planned_load_one_class_is_rationed_and_not_the_dear_one() -> None:
    unit = manifests.unit_rate(SCENE)
    fleet, classes = manifests.resolved(manifests.text(SCENE, PORTS, unit))
    assert not any(entry.rationed for entry in manifests.planned(fleet, classes, 0.99).classes)
    rationed = {entry.name: entry.rationed for entry in manifests.planned(fleet, classes, 1.5).classes}
    assert rationed == {"chat": False, "code": True}


def test_twice_the_replicas_serve_twice_the_load() -> None:
    one, two = manifests.unit_rate(replace(SCENE, replicas=2)), manifests.unit_rate(SCENE)
    assert two == pytest.approx(2 * one, rel=5e-3)
