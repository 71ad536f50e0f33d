"""What every class asks for, as estimated: each number with its source and age."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.model.signal import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One estimated quantity."""

    value: float
    source: Source
    age_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassDemand:
    """The demand of one class."""

    name: str
    rate: Estimate
    """Offered requests per second of the whole fleet."""
    prompt_tokens: Estimate
    """Mean prompt tokens of a request: what is paid for."""
    uncached_prompt_tokens: Estimate
    """Mean prompt tokens that must be computed: what takes capacity."""
    output_tokens: Estimate
    """Mean output tokens of a request."""
    patience_seconds: float | None
    """Mean patience; None: clients wait for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The demand of a fleet."""

    classes: tuple[ClassDemand, ...]
    unmatched_rate: float = 0.0
    """Requests per second that belong to no class but take capacity."""
    blind_since: float | None = None
    """Since when no class has had a fresh sample (seconds since the epoch); None: not blind."""

    def of(self, name: str) -> ClassDemand:
        """The demand of class ``name``; KeyError where there is none."""
        for demand in self.classes:
            if demand.name == name:
                return demand
        raise KeyError(name)
