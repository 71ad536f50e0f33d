"""What is compared: an admission policy, and how the fleet below it prefills and decodes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sluice.model.plan import Plan
from sluice.policy.admission import UNBOUNDED, AdmissionPolicy, Budget, LaneTerms, terms_of_plan
from sluice.policy.costs import Costs
from sluice.simulation.layout import Batching, Decode, Placement, Sight


class Fidelity(Enum):
    """How closely engines are followed."""

    NETWORK = "network"
    """The paper's stochastic network: lengths as drawn, tokens infinitely divisible, transfers free."""
    ITERATION = "iteration"
    """Whole tokens and whole iterations, packing, memory, transfers, the gate's round trip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """One way to run a fleet."""

    admission: AdmissionPolicy
    budget: Budget = UNBOUNDED
    decode: Decode = Decode.IN_PLACE
    placement: Placement = Placement.RANDOM
    partition: bool = False
    """Planned mixed replicas keep a slot for prefill, the others only decode."""
    disaggregated: bool = False
    """Planned mixed replicas only prefill, the others only decode."""
    eager: bool = False
    """A freed slot takes a new prefill before a buffered decode (the paper's GF)."""
    guard: bool = False
    """No prefill starts while a decode is buffered (model page section 3.6, H)."""
    sees_slots: Sight = Sight.NONE
    """How the gate knows free slots and KV memory."""
    whole_prompts: bool = False
    """The view of a gate at the proxy: prompts count in full until their first token, and decodes are out of sight."""
    batching: Batching = Batching.CHUNKED
    limits: tuple[tuple[float, float], ...] = ()
    """(requests per second, burst) by class; empty: no limits."""
    queue_limit: int | None = None

    @property
    def name(self) -> str:
        """The admission policy's name."""
        return self.admission.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """What a regime is told by a plan."""

    lanes: tuple[LaneTerms, ...]
    mixed_share: float = 1.0
    """Share of replicas that are mixed (rounded up to whole replicas)."""
    split: tuple[float, ...] = ()
    """Probability that a class decodes solo, p_s of section 3.4."""
    pull_solo: tuple[float, ...] = ()
    pull_mixed: tuple[float, ...] = ()
    """Planned decode completions by class, section 3.5."""

    @classmethod
    def of_plan(
        cls,
        plan: Plan,
        *,
        promises: dict[str, float],
        prompts: dict[str, float],
        values: dict[str, float],
        costs: dict[str, Costs],
        floors: dict[str, float],
    ) -> Guidance:
        """Targets, bands and routing shares of a plan."""
        lanes = terms_of_plan(plan, promises=promises, prompts=prompts, values=values, costs=costs, floors=floors)
        replicas = sum(pool.replicas for pool in plan.pools)
        mixed = sum(pool.mixed for pool in plan.pools)
        return cls(lanes=lanes, mixed_share=mixed / replicas if replicas else 1.0)

    @classmethod
    def blank(cls, names: tuple[str, ...]) -> Guidance:
        """No plan: lanes with names only."""
        return cls(lanes=tuple(LaneTerms(name=name) for name in names))
