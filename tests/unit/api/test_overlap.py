"""Which pairs of matches can claim one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.api.objects import workload

from sluice.api.overlap import Claims
from sluice.api.workload_class import WorkloadClassResource


def match(path: str | None = None, **headers: str) -> dict[str, Any]:
    entries = [{"name": name.replace("_", "-"), "value": value} for name, value in headers.items()]
    return {"headers": entries} if path is None else {"headers": entries, "pathPrefix": path}


@pytest.mark.parametrize(
    ("first", "second", "meet"),
    [
        pytest.param(match(x_model="a"), match(x_model="b"), False, id="one header with two values"),
        pytest.param(match(x_model="a"), match(x_model="a"), True, id="the same header and value"),
        pytest.param(match(x_model="a"), match(X_Model="b"), False, id="header names ignore case"),
        pytest.param(match(x_model="a"), match(x_model="A"), False, id="header values heed case"),
        pytest.param(match(x_model="a"), match(x_tenant="t"), True, id="a request may carry both headers"),
        pytest.param(match(x_model="a", x_tenant="t"), match(x_model="a"), True, id="a narrower match in a wider one"),
        pytest.param(match("/v1", x_model="a"), match("/v2", x_model="a"), False, id="paths that part"),
        pytest.param(match("/v1"), match("/v1/chat"), True, id="one path below the other"),
        pytest.param(match("/v1"), match("/v10"), False, id="a prefix is by whole segments"),
        pytest.param(match("/v1/"), match("/v1"), True, id="a slash at the end changes nothing"),
        pytest.param(match("/"), match(x_model="a"), True, id="the root holds everything"),
    ],
)
def test_overlap_is_symmetric_and_exact(first: dict[str, Any], second: dict[str, Any], meet: bool) -> None:
    one, other = workload("one", match=first), workload("other", match=second)
    assert meeting([one], other) == (["one"] if meet else [])
    assert meeting([other], one) == (["other"] if meet else [])


def meeting(older: Sequence[WorkloadClassResource], entry: WorkloadClassResource) -> list[str]:
    claims = Claims()
    for claim in older:
        claims.add(claim)
    return [rival.metadata.name for rival, _ in claims.rivals(entry)]


headers = st.dictionaries(st.sampled_from(["x_model", "x_tenant", "x_tier"]), st.sampled_from("ab"), min_size=1)
paths = st.sampled_from([None, "/v1", "/v1/chat", "/v2"])


@given(st.lists(st.tuples(headers, paths), min_size=2, max_size=8))
def test_many_claims_at_once_meet_exactly_where_pairs_do(found: list[tuple[dict[str, str], str | None]]) -> None:
    """The index by header values against one comparison per pair."""
    *older, newest = (workload(f"c{i}", match=match(path, **values)) for i, (values, path) in enumerate(found))
    pairs = [claim.metadata.name for claim in older if meeting([claim], newest)]
    assert meeting(older, newest) == pairs


def test_a_rule_of_a_route_belongs_to_one_class() -> None:
    one = workload("one", routeRef={"name": "r", "ruleName": "a"})
    assert meeting([one], workload("same", routeRef={"name": "r", "ruleName": "a"})) == ["one"]
    assert meeting([one], workload("other", routeRef={"name": "r", "ruleName": "b"})) == []
