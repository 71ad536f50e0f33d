"""What the gate is told: its classes, its engines, the plan. Frozen; a new value replaces the old one whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from sluice.gate.engines import EngineTerms
from sluice.gate.keys import KeySource
from sluice.policy.admission import AdmissionPolicy, LaneTerms
from sluice.policy.orders import TIMELY


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTerms:
    """What the gate must know of a class beside the plan's numbers."""

    name: str
    promise_seconds: float = math.inf
    pools: frozenset[str] = frozenset()
    """Pools it may use; empty: all."""
    mean_prompt_tokens: float = 500.0
    bytes_per_token: float = 4.0
    mean_output_tokens: float = 0.0
    value: float = 0.0
    """Money per request."""
    max_waiting: int = 2000
    max_wait_seconds: float = 60.0
    refuse_late: bool = False
    fairness: KeySource | None = None
    """What tells the class's tenants apart."""
    affinity: KeySource | None = None
    """What requests with a common prefix or session share."""
    split: Mapping[str, float] = field(default_factory=dict)
    """Planned share of the class's requests, by pool; empty: the plan does not say."""
    key_share: float = 0.5
    """Of ``max_waiting`` that one fairness key may fill."""
    closable: bool = False
    enforced_permille: int = 1000
    """Share of the class's requests that are gated; the others are only counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateTerms:
    """Everything that decisions are made of."""

    classes: tuple[ClassTerms, ...]
    lanes: tuple[LaneTerms, ...]
    """Of the same names, from the plan; without a fresh plan in the static order."""
    engines: tuple[EngineTerms, ...]
    policy: AdmissionPolicy = TIMELY
    plan_id: str = ""
    closed: frozenset[str] = frozenset()
    places: bool = False
    """Whether the gate names the replica; else the proxy chooses, and the least loaded is charged."""
    hard_deadline_seconds: float = 300.0
    """A budget is freed at the latest so long after the start."""
    release_factor: float = 2.0
    """Times the law's estimate of a prefill's end, after which its budget is freed."""
    release_floor_seconds: float = 1.0

    def __post_init__(self) -> None:
        if tuple(entry.name for entry in self.classes) != tuple(lane.name for lane in self.lanes):
            raise ValueError("every class needs its lane, in the same order")
        if self.policy.cap:
            raise ValueError(f"policy {self.policy.name} holds requests back while engines idle; the gate may not")
