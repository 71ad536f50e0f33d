"""Small gates that the tests of this room share."""

from __future__ import annotations

import math
from typing import Any

from sluice.gate.engines import EngineTerms
from sluice.gate.request import Request
from sluice.gate.terms import ClassTerms, GateTerms
from sluice.model.plan import Band
from sluice.policy.admission import AdmissionPolicy, LaneTerms
from sluice.policy.orders import FIRST_COME


def lane(name: str, **fields: Any) -> LaneTerms:
    given = {"band": Band.FULL, "index": 1.0, "rate": 1.0, "promise_seconds": math.inf, **fields}
    return LaneTerms(name=name, **given)


def engine(name: str, **fields: Any) -> EngineTerms:
    given = {"pool": "pool", "budget_tokens": 1000.0, "least_requests": 2, **fields}
    return EngineTerms(name=name, **given)


def terms(
    *lanes: LaneTerms,
    engines: tuple[EngineTerms, ...] = (engine("one"),),
    policy: AdmissionPolicy = FIRST_COME,
    classes: dict[str, dict[str, Any]] | None = None,
    **fields: Any,
) -> GateTerms:
    extra = classes or {}
    return GateTerms(
        classes=tuple(
            ClassTerms(name=one.name, promise_seconds=one.promise_seconds, **extra.get(one.name, {})) for one in lanes
        ),
        lanes=lanes,
        engines=engines,
        policy=policy,
        **fields,
    )


def request(
    number: int, lane_name: str = "chat", arrival: float = 0.0, tokens: float = 100.0, **fields: Any
) -> Request:
    return Request(f"r{number}", lane_name, arrival, tokens, **fields)
