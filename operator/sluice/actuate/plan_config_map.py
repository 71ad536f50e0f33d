"""The plan for anybody: a ConfigMap with the plan and the targets made of it. Pure.

``plan.json`` has the plan's schema (``sluice.model.plan``), ``targets.json`` the stabilised
limits and weights; a restarted operator takes the latter back as its memory. A new plan that
agrees with the written one within the fleet's dead band is not written: a plan changes its id
with every estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from sluice.actuate.kinds import CONFIG_MAP
from sluice.actuate.objects import Document, owned_by_fleet
from sluice.actuate.port import Order, targets_from_json, targets_to_json
from sluice.model.decision import Targets
from sluice.model.naming import plan_config_map
from sluice.model.plan import Plan
from sluice.policy.agreement import plans_agree

PLAN_KEY = "plan.json"
TARGETS_KEY = "targets.json"


def render(order: Order, observed: Mapping[str, Any] | None) -> Document:
    """The ConfigMap for ``order``; ``observed`` is the one that stands, whose plan is kept if it still agrees."""
    kept = targets_of(observed)
    targets = kept if kept is not None and kept.classes == order.targets.classes else order.targets
    data = {TARGETS_KEY: targets_to_json(targets)}
    standing = plan_of(observed)
    plan = order.plan
    if plan is not None and standing is not None and plans_agree(standing, plan, order.fleet.control.dead_band):
        plan = standing
    if plan is not None:
        data[PLAN_KEY] = plan.model_dump_json(by_alias=True, indent=2) + "\n"
    document = owned_by_fleet(CONFIG_MAP, plan_config_map(order.fleet.name), order.fleet, order.targets.plan_id)
    document["data"] = data
    return document


def plan_of(observed: Mapping[str, Any] | None) -> Plan | None:
    """The plan in a ConfigMap; None where there is none that this version can read."""
    text = (observed or {}).get("data", {}).get(PLAN_KEY)
    if text is None:
        return None
    try:
        return Plan.model_validate_json(text)
    except ValidationError:
        return None


def targets_of(observed: Mapping[str, Any] | None) -> Targets | None:
    """The targets in a ConfigMap."""
    text = (observed or {}).get("data", {}).get(TARGETS_KEY)
    return None if text is None else targets_from_json(text)
