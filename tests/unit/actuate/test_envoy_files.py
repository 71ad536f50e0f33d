"""Files are written once, in order, and a file system that refuses becomes a finding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.actuate.fleets import fleet, order, pool, routed, target, workload

from sluice.actuate.envoy_files import EnvoyFiles
from sluice.actuate.port import Order
from sluice.model.decision import Receipt
from sluice.model.fleet import DataPlaneKind, Endpoint, GateUse, HeaderMatch, TrafficMatch
from sluice.model.reasons import Reason
from sluice.model.signal import Source
from sluice.model.snapshot import PoolSupply

KIND = DataPlaneKind.ENVOY_FILES
CLUSTER = "sluice-demo-chat"


def limited(**fields: Any) -> Order:
    return order(KIND, (workload(), target(**fields)))


def loaded(folder: Path, name: str) -> Any:
    return json.loads((folder / "envoy" / name).read_text())["resources"]


@pytest.mark.parametrize(
    ("change", "files"),
    [
        pytest.param({}, (), id="nothing changed, nothing is written"),
        pytest.param({"rate_limit": 4.0, "burst": 9}, ("rds.json",), id="a rate limit is in the route"),
        pytest.param({"in_flight_limit": 4}, ("runtime/limits.json",), id="an in-flight limit is in the runtime layer"),
        pytest.param({"fence": 4}, ("runtime/limits.json",), id="a fence too"),
        pytest.param({"weights": (("fast", 1), ("slow", 999))}, (f"eds/{CLUSTER}.json",), id="weights are endpoints"),
    ],
)
def test_a_change_touches_only_the_file_it_is_in(
    tmp_path: Path, change: dict[str, Any], files: tuple[str, ...]
) -> None:
    actuator = EnvoyFiles(tmp_path)
    assert len(actuator.act(limited()).written) == 6
    receipt = actuator.act(limited(**change))
    kept = ("targets.json",) if files else ()
    assert receipt.written == tuple(f"envoy/{name}" for name in (*files, *kept))
    assert receipt.unchanged == 6 - len(receipt.written)


def test_unchanged_files_keep_their_inode(tmp_path: Path) -> None:
    actuator = EnvoyFiles(tmp_path)
    actuator.act(limited())
    configuration = [path for path in tmp_path.rglob("*.json") if path.name != "targets.json"]
    before = {path: path.stat().st_ino for path in configuration}
    actuator.act(replace(limited(), targets=replace(limited().targets, plan_id="another")))
    assert {path: path.stat().st_ino for path in configuration} == before


def test_a_bucket_fills_no_slower_than_planned(tmp_path: Path) -> None:
    for rate in (0.03, 1.0, 3.0, 19.7, 20.0, 777.7):
        EnvoyFiles(tmp_path).act(limited(rate_limit=rate, burst=3))
        (routes,) = loaded(tmp_path, "rds.json")
        limit = routes["virtual_hosts"][0]["routes"][0]["typed_per_filter_config"]["envoy.filters.http.local_ratelimit"]
        bucket = limit["token_bucket"]
        seconds = float(bucket["fill_interval"].removesuffix("s"))
        assert seconds >= 0.05 - 1e-6
        assert rate <= bucket["tokens_per_fill"] / seconds <= rate * 1.001


def test_narrower_matches_come_first_and_paths_match_by_segment(tmp_path: Path) -> None:
    wide, narrow = TrafficMatch(path_prefix="/v1/"), TrafficMatch(path_prefix="/v1/chat")
    header = TrafficMatch(headers=(HeaderMatch(name="x", value="y"),), path_prefix="/v1")
    names = ("a-wide", "b-narrow", "c-header")
    pairs = [(workload(n, match=m), target(n)) for n, m in zip(names, (wide, narrow, header), strict=True)]
    EnvoyFiles(tmp_path).act(order(KIND, *pairs))
    (routes,) = loaded(tmp_path, "rds.json")
    listed = routes["virtual_hosts"][0]["routes"]
    assert [entry["name"] for entry in listed] == ["b-narrow", "c-header", "a-wide"]
    assert [entry["match"]["path_separated_prefix"] for entry in listed] == ["/v1/chat", "/v1", "/v1"]


def test_counted_replicas_serve_where_none_are_declared(tmp_path: Path) -> None:
    pools = (pool("fast", endpoints=()), pool("slow"))
    supply = PoolSupply(pool="fast", ready=2, source=Source.PODS, addresses=("10.1.0.2:80", "10.1.0.1:80"))
    EnvoyFiles(tmp_path).act(order(KIND, (workload(), target()), fleet=fleet(KIND, pools=pools), supplies=(supply,)))
    (assignment,) = loaded(tmp_path, f"eds/{CLUSTER}.json")
    addresses = [
        entry["endpoint"]["address"]["socket_address"]["address"]
        for locality in assignment["endpoints"]
        for entry in locality["lb_endpoints"]
    ]
    assert addresses == ["10.1.0.1", "10.1.0.2", "10.0.0.1"]


def test_the_endpoints_of_a_class_that_is_gone_are_removed(tmp_path: Path) -> None:
    actuator = EnvoyFiles(tmp_path)
    actuator.act(order(KIND, (workload(), target()), (workload("code"), target("code"))))
    receipt = actuator.act(limited())
    assert receipt.removed == ("envoy/eds/sluice-demo-code.json",)
    assert actuator.standing(fleet(KIND)) == limited().targets


def test_a_preview_tells_the_difference_and_writes_nothing(tmp_path: Path) -> None:
    actuator = EnvoyFiles(tmp_path)
    assert '+{"version_info"' in actuator.preview(limited())
    assert list(tmp_path.iterdir()) == []
    actuator.act(limited())
    assert actuator.preview(limited()) == ""
    assert 'default.max_requests": 5' in actuator.preview(limited(in_flight_limit=5))


def replaced_by_a_file(out: Path) -> Path:
    (out / "envoy").write_text("")
    return out / "envoy"


def below_a_file(out: Path) -> Path:
    out.rmdir()
    out.write_text("")
    return out


def blocked_by_a_folder(out: Path) -> Path:
    (out / "envoy" / "cds.json").mkdir(parents=True)
    return out / "envoy" / "cds.json"


@pytest.mark.parametrize("damage", [replaced_by_a_file, below_a_file, blocked_by_a_folder])
def test_an_output_folder_that_cannot_be_written_is_a_finding_with_its_path(tmp_path: Path, damage: Any) -> None:
    out = tmp_path / "out"
    out.mkdir()
    path = damage(out)
    (problem,) = EnvoyFiles(out).act(limited()).problems
    assert problem.reason is Reason.WRITE_FAILED
    assert str(path) in problem.message


def test_it_heals_when_the_folder_is_back(tmp_path: Path) -> None:
    actuator = EnvoyFiles(tmp_path)
    replaced_by_a_file(tmp_path)
    assert actuator.act(limited()).problems
    (tmp_path / "envoy").unlink()
    assert actuator.act(limited()).problems == ()
    assert (tmp_path / "envoy" / "bootstrap.json").is_file()


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        pytest.param(
            order(KIND, (routed(), target("code"))), Reason.ROUTE_NOT_FOUND, id="a routeRef has no meaning here"
        ),
        pytest.param(
            order(
                KIND,
                (workload(), target()),
                fleet=fleet(KIND, pools=(pool("fast", endpoints=(Endpoint(address="gpu.local", port=1),)),)),
            ),
            Reason.WRITE_FAILED,
            id="a host name is no address",
        ),
    ],
)
def test_what_the_files_cannot_say_is_a_finding(tmp_path: Path, one: Order, reason: Reason) -> None:
    assert [problem.reason for problem in EnvoyFiles(tmp_path).act(one).problems] == [reason]


ROUTES, RUNTIME = "envoy/rds.json", "envoy/runtime/limits.json"


def test_files_of_a_fleet_that_is_gone_are_opened_and_nothing_else_of_them_changes(tmp_path: Path) -> None:
    pairs = [(workload(name), target(name, rate_limit=2.0, burst=3, fence=9)) for name in ("chat", "code")]
    actuator = EnvoyFiles(tmp_path)
    actuator.act(order(KIND, *pairs))
    before = {path: path.read_text() for path in tmp_path.rglob("*.json")}
    assert actuator.open_unless(frozenset({"demo/fleet"})) == Receipt(), "it lives"
    receipt = actuator.open_unless(frozenset({"demo/other"}))
    assert set(receipt.written) == {ROUTES, RUNTIME, "envoy/targets.json"}
    assert not receipt.problems
    changed = {path for path in before if path.read_text() != before[path]}
    assert {str(path.relative_to(tmp_path)) for path in changed} == set(receipt.written)
    found = actuator.standing(fleet(KIND))
    assert found is not None
    assert {one.rate_limit for one in found.classes} | {one.fence for one in found.classes} == {None}
    assert actuator.open_unless(frozenset()) == Receipt(), "once is enough"
    # What it wrote is what an order without limits would have written.
    opened = (tmp_path / ROUTES).read_text(), (tmp_path / RUNTIME).read_text()
    other = EnvoyFiles(tmp_path / "other")
    other.act(order(KIND, *((one, target(one.name)) for one, _ in pairs)))
    reference = [(tmp_path / "other" / name).read_text() for name in (ROUTES, RUNTIME)]
    assert [text.replace(str(tmp_path / "other"), str(tmp_path)) for text in reference] == list(opened)


def test_the_gates_fence_goes_with_its_fleet_though_no_target_limits(tmp_path: Path) -> None:
    gated = fleet(KIND)
    gated = replace(gated, data_plane=replace(gated.data_plane, gate=GateUse.ENABLED, gate_address="127.0.0.1:9002"))
    actuator = EnvoyFiles(tmp_path)
    actuator.act(order(KIND, (workload(), target()), fleet=gated))
    assert "max_connections" in (tmp_path / RUNTIME).read_text()
    assert RUNTIME in actuator.open_unless(frozenset()).written
    assert "max_connections" not in (tmp_path / RUNTIME).read_text()
    assert actuator.open_unless(frozenset()) == Receipt(), "once is enough"


@pytest.mark.parametrize("damage", ["", "[]", '{"resources": 3}'])
def test_files_that_are_not_ours_any_longer_are_left_and_told(tmp_path: Path, damage: str) -> None:
    actuator = EnvoyFiles(tmp_path)
    actuator.act(order(KIND, (workload(), target(rate_limit=2.0, burst=3))))
    (tmp_path / ROUTES).write_text(damage)
    receipt = actuator.open_unless(frozenset())
    assert [finding.reason for finding in receipt.problems] == [Reason.WRITE_FAILED]
    assert (tmp_path / ROUTES).read_text() == damage


def test_an_empty_folder_has_nothing_to_open(tmp_path: Path) -> None:
    assert EnvoyFiles(tmp_path).open_unless(frozenset()) == Receipt()
