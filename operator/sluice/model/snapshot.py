"""Everything one control pass may know: frozen, with ages, built at the edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sluice.model.engine_sample import EngineSample
from sluice.model.fleet import Fleet, WorkloadClass
from sluice.model.reasons import Finding
from sluice.model.signal import Gap, Sample, Signal, Source

NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSupply:
    """How many replicas of a pool can serve, and who says so."""

    pool: str
    ready: int
    source: Source
    addresses: tuple[str, ...] = ()
    """``ip:port`` of each ready replica where the source knows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSamples:
    """The samples of one class; a signal is in exactly one of the two mappings."""

    samples: Mapping[Signal, Sample] = field(default_factory=dict)
    gaps: Mapping[Signal, Gap] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnforcedLimit:
    """What a data plane says it enforces for one class, read back from it."""

    in_flight: int | None = None
    """The breaker threshold in force, summed over proxies; None: unknown."""
    rate: float | None = None
    """The rate limit in force, requests per second over all proxies; infinite: none is in force; None: unknown."""
    refused: float | None = None
    """Requests refused since the proxy started, where it counts them."""
    origin: str = ""
    """Who set the breaker, in the proxy's own words (for example a runtime layer's name)."""
    rate_origin: str = ""
    """Who set or lifted the rate limit, in the same way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolShares:
    """How requests were spread over the pools, counted."""

    requests: Mapping[str, float]
    """Pool -> requests that its replicas were sent; a pool that got none may be absent."""
    since_seconds: float
    """They are counted from here on, seconds since the epoch."""
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was measured in one pass."""

    classes: Mapping[str, ClassSamples] = field(default_factory=dict)
    enforced: Mapping[str, EnforcedLimit] = field(default_factory=dict)
    shares: Mapping[str, PoolShares] = field(default_factory=dict)
    """Class -> where its requests went; a class whose requests cannot be told from others' is absent."""
    shares_of_all: PoolShares | None = None
    """The same of all classes together, where engines count without telling classes."""
    unmatched_rate: Sample | None = None
    """Requests per second that match no class and are forwarded all the same: they take capacity."""
    unrouted_rate: Sample | None = None
    """Requests per second at the listener that no route takes; they take no capacity."""
    proxies_ready: int = 1
    """Ready proxies that divide limits; 0: nobody can count them."""
    engines: Mapping[str, EngineSample] = field(default_factory=dict)
    """What each replica's engine did over the window, by its address ``ip:port``."""
    problems: tuple[Finding, ...] = ()
    """Whole sources that failed: unreachable, refused, misconfigured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The input of one decision. ``now`` is an argument: decisions read no clock."""

    now: float
    """Seconds since the epoch."""
    fleet: Fleet
    classes: tuple[WorkloadClass, ...]
    supplies: tuple[PoolSupply, ...]
    observation: Observation = Observation()
    findings: tuple[Finding, ...] = ()
    """What resolving the resources found wrong (unknown profile, overlapping match, ...)."""

    def supply(self, pool: str) -> PoolSupply | None:
        """The supply of ``pool``, or None where nobody counted it."""
        return next((supply for supply in self.supplies if supply.pool == pool), None)
