"""What a class declares of its queue, from the manifest to the gate's terms."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from tests.control.fleets import PROFILE, fleet, workload

from sluice.api.manifests import parse
from sluice.api.resolve import resolve
from sluice.gate.assembly import Choices, terms_of
from sluice.gate.terms import ClassTerms

RUNNER = Choices(max_waiting=500, max_wait_seconds=20.0)
PROMISED = [{"signal": "TTFT", "targetMilliseconds": 1000}]


def declared(**spec: Any) -> ClassTerms:
    """The terms of one class under a gate that allows 500 to wait for 20 s."""
    documents = [dict(PROFILE), fleet(), workload("chat", 300, 1000, **{"patienceMilliseconds": 3_600_000, **spec})]
    read = parse(yaml.safe_dump_all(documents), "test")
    assert read.errors == ()
    resolved = resolve(read.fleets[0], read.profiles, read.classes)
    assert resolved.fleet is not None
    (found,) = terms_of(resolved.fleet, resolved.classes, None, {}, RUNNER).classes
    return found


@pytest.mark.parametrize(
    ("spec", "waiting", "seconds", "refuses"),
    [
        pytest.param({}, 500, 20.0, False, id="whoever runs the gate decides"),
        pytest.param({"patienceMilliseconds": 5000}, 500, 5.0, False, id="nobody waits beyond the class's patience"),
        pytest.param({"queue": {"maxWaiting": 30}}, 30, 20.0, False, id="a shorter queue"),
        pytest.param({"queue": {"maxWaiting": 9000}}, 500, 20.0, False, id="never a longer one than the gate allows"),
        pytest.param(
            {"queue": {"maxWaitMilliseconds": 8000}, "patienceMilliseconds": 5000}, 500, 8.0, False, id="its own age"
        ),
        pytest.param({"queue": {"maxWaitMilliseconds": 60000}}, 500, 20.0, False, id="nor a longer wait"),
        pytest.param({"queue": {"late": "Refuse"}, "slis": PROMISED}, 500, 20.0, True, id="late ones are refused"),
        pytest.param({"queue": {}, "slis": PROMISED}, 500, 20.0, False, id="late ones wait by default"),
    ],
)
def test_a_class_bounds_its_queue(spec: dict[str, Any], waiting: int, seconds: float, *, refuses: bool) -> None:
    terms = declared(**spec)
    assert (terms.max_waiting, terms.max_wait_seconds, terms.refuse_late) == (waiting, seconds, refuses)
