"""What Sluice says, read back from the files that ``sluice run --standalone`` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sluice.actuate.envoy_files import KEPT_TARGETS
from sluice.actuate.port import targets_from_json
from sluice.demo.scene import FLEET, NAMESPACE
from sluice.model.decision import ClassTarget
from sluice.model.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One condition of the fleet."""

    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The plan in force, what was ordered of the proxy, and the fleet's conditions."""

    plan: Plan | None = None
    targets: Mapping[str, ClassTarget] = field(default_factory=dict)
    conditions: Mapping[str, Word] = field(default_factory=dict)

    def limit(self, name: str) -> str:
        """The limit of class ``name`` in words; a dash where there is none."""
        target = self.targets.get(name)
        if target is None:
            return "-"
        words = [] if target.rate_limit is None else [f"{target.rate_limit:.1f}/s"]
        words += [] if target.in_flight_limit is None else [f"{target.in_flight_limit} in flight"]
        return ", ".join(words) or "-"

    def limits(self, name: str) -> bool:
        """Whether class ``name`` has a limit."""
        return self.limit(name) != "-"

    def rations(self, name: str) -> bool:
        """Whether the plan serves less of class ``name`` than is offered."""
        entry = self.plan.of(name) if self.plan else None
        return entry is not None and entry.rationed

    @property
    def effective(self) -> Word | None:
        """Whether the data plane obeys."""
        return self.conditions.get("Effective")


def read(out: Path) -> Reading:
    """What lies in ``out`` now; what is missing or just being replaced is left out."""
    return Reading(plan=_plan(out), targets=_targets(out), conditions=_conditions(out))


def _plan(out: Path) -> Plan | None:
    try:
        return Plan.model_validate_json((out / f"plan.{NAMESPACE}.{FLEET}.json").read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def _targets(out: Path) -> dict[str, ClassTarget]:
    try:
        targets = targets_from_json((out / "envoy" / KEPT_TARGETS).read_text(encoding="utf-8"))
    except OSError:
        return {}
    return {} if targets is None else {target.name: target for target in targets.classes}


def _conditions(out: Path) -> dict[str, Word]:
    try:
        text = (out / "status" / f"InferenceFleet.{NAMESPACE}.{FLEET}.json").read_text(encoding="utf-8")
        status: dict[str, Any] = json.loads(text)
    except (OSError, ValueError):
        return {}
    return {
        entry["type"]: Word(
            status=str(entry.get("status", "")), reason=entry.get("reason", ""), message=entry.get("message", "")
        )
        for entry in status.get("conditions", ())
    }
