"""The demo's load is what it says, and its manifests are what the operator accepts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from sluice.api.validate import problems
from sluice.demo import manifests
from sluice.demo.arrivals import Row, Stretch, excerpt, replay
from sluice.demo.scene import SCENE
from sluice.model.fleet import LimitKind, Mode

PORTS = manifests.Ports(replicas=(1, 2, 3, 4), prometheus=9090, proxy=10000, admin=9901)
ROWS = [Row(arrival_seconds=float(i * i), prompt_tokens=i + 1, output_tokens=1) for i in range(50)]


def test_every_stretch_holds_exactly_its_load_and_keeps_the_order_of_rows() -> None:
    stretches = [Stretch(seconds=10, rate=1), Stretch(seconds=5, rate=4)]
    sent = list(replay("a", ROWS, stretches, 3.0, seed=7))
    assert sum(arrival.at_seconds < 10 for arrival in sent) == 10
    assert len(sent) == 30
    assert all(earlier.at_seconds <= later.at_seconds < 15 for earlier, later in itertools.pairwise(sent))
    lengths = [arrival.prompt_tokens for arrival in sent]
    assert lengths == list(range(lengths[0], lengths[0] + 30))


def test_the_same_seed_gives_the_same_load_and_another_seed_another() -> None:
    def load(seed: int) -> object:
        return SCENE.arrivals(seconds=12, unit_rate=5, seed=seed)

    assert load(1) == load(1)
    assert load(1) != load(2)


def test_a_run_longer_than_the_excerpt_is_refused_by_its_numbers() -> None:
    with pytest.raises(ValueError, match="80 requests are asked for, the excerpt holds 50 rows"):
        list(replay("a", ROWS, [Stretch(seconds=80, rate=1)], 3.0, seed=1))


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
    assert fleet.data_plane.limit is LimitKind.RATE
    assert [entry.ttft_promise_seconds for entry in classes] == [2.0, 1.0]


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
