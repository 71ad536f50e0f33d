"""What a pass decided: targets for the data plane, with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from sluice.model.plan import Plan
from sluice.model.reasons import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTarget:
    """What the data plane shall do with one class, fleet-wide."""

    name: str
    rate_limit: float | None
    """Requests per second; None: no limit."""
    burst: int | None = None
    """Requests that a token bucket behind the rate limit may let pass at once; None without one."""
    in_flight_limit: int | None
    """Requests in flight; None: no limit. Zero only for a class that is closable."""
    fence: int | None
    """A loose breaker behind a rate limit, requests in flight; None: no fence."""
    weights: tuple[tuple[str, int], ...]
    """(pool, permille), summing to 1000, in the fleet's order of pools."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The whole order to the data plane; its numbers are already stabilised."""

    plan_id: str
    classes: tuple[ClassTarget, ...]

    def of(self, name: str) -> ClassTarget | None:
        """The target of class ``name``."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> Mapping[str, ClassTarget]:
        return {target.name: target for target in self.classes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome of one pass of deciding."""

    plan: Plan | None
    """The plan in force: a new one, or the last good one."""
    targets: Targets | None
    """What to write; None: leave the data plane as it is."""
    adopted: bool
    """Whether ``plan`` is new."""
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What acting on a decision did."""

    written: tuple[str, ...] = ()
    """Objects or files that changed."""
    unchanged: int = 0
    removed: tuple[str, ...] = ()
    problems: tuple[Finding, ...] = ()
