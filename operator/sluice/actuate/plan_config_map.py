"""The plan for anybody: a ConfigMap with the plan and the targets made of it. Pure.

``plan.json`` has the plan's schema (``sluice.model.plan``), ``targets.json`` the stabilised
limits and weights; a restarted operator takes the latter back as its memory. A new plan that
agrees with the written one within the fleet's dead band is not written: a plan changes its id
with every estimate. ``confirmed`` says when it last was what the operator would plan, and moves
only every ten minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from sluice.actuate.confirming import is_due
from sluice.actuate.kinds import CONFIG_MAP
from sluice.actuate.objects import Document, owned_by_fleet
from sluice.actuate.port import Order, targets_from_json, targets_to_json
from sluice.model.decision import Targets
from sluice.model.naming import plan_config_map
from sluice.model.plan import Plan
from sluice.policy.agreement import plans_agree

PLAN_KEY = "plan.json"
TARGETS_KEY = "targets.json"
CONFIRMED_KEY = "confirmed"


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
        data |= _confirmed(order, observed, stays=plan is standing)
    document = owned_by_fleet(CONFIG_MAP, plan_config_map(order.fleet.name), order.fleet, order.targets.plan_id)
    document["data"] = data
    return document


def _confirmed(order: Order, observed: Mapping[str, Any] | None, *, stays: bool) -> dict[str, str]:
    """The time of confirmation, RFC 3339: as it stands, or, with another plan or after a while, that of ``order``."""
    text = str((observed or {}).get("data", {}).get(CONFIRMED_KEY, ""))
    try:
        told_at = datetime.fromisoformat(text).timestamp()
    except ValueError:
        text, told_at = "", None
    if order.confirmed_at is not None and (not stays or is_due(told_at, order.confirmed_at)):
        text = datetime.fromtimestamp(order.confirmed_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {CONFIRMED_KEY: text} if text else {}


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
