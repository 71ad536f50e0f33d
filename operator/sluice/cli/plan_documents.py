"""``-o json`` and ``-o yaml``: the plan, and what was asked beside it, as one document."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from sluice.model.plan import Plan
from sluice.planning.diff import Change
from sluice.planning.sensitivity import Sensitivity

Document = dict[str, Any]


def plan_document(plan: Plan) -> Document:
    """The plan alone, as it is stored everywhere."""
    return plan.model_dump(mode="json", by_alias=True)


def sensitivity_document(found: Iterable[Sensitivity]) -> list[Document]:
    """How the plan leans on each estimate; money per second, and requests per second."""
    return [
        {
            "class": entry.class_name,
            "onePercentMoreArrivals": entry.rate_percent,
            "onePercentLongerPrompts": entry.prompt_percent,
            "onePercentLongerAnswers": entry.output_percent,
            "sameClassesServedFrom": entry.rate_low,
            # No number says "any more", and JSON has none for infinity.
            "sameClassesServedTo": None if math.isinf(entry.rate_high) else entry.rate_high,
        }
        for entry in found
    ]


def diff_document(before: Plan, found: Iterable[Change]) -> Document:
    """What differs from an earlier plan."""
    return {
        "planId": before.plan_id,
        "time": before.time,
        "changes": [
            {"subject": change.subject, "field": change.field, "before": change.before, "after": change.after}
            for change in found
        ],
    }
