"""Which pairs of matches can claim one request."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.api.objects import workload

from sluice.api.overlap import overlaps


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
    one, other = workload("one", match=first).spec, workload("other", match=second).spec
    assert bool(overlaps(one, other)) is meet
    assert bool(overlaps(other, one)) is meet
