"""Whether the data plane does what it was told: the facts behind ``Effective``.

"Healthy but inert" is the commonest complaint about controllers of this kind, so nothing
is assumed. What the data plane reports about itself comes first (Envoy's runtime and
breakers); where it cannot be asked, the measured traffic must at least respect the limits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sluice.model.decision import ClassTarget, Targets
from sluice.model.fleet import DataPlaneKind, Fleet, GateUse
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.signal import Sample, Signal
from sluice.model.snapshot import EnforcedLimit, PoolShares, Snapshot

SETTLE_SECONDS = {
    DataPlaneKind.ENVOY_FILES: 2.0,  # a runtime layer acts in 17 ms; two admin reads apart
    DataPlaneKind.ENVOY_GATEWAY: 20.0,  # a changed breaker acts after 15 s
    DataPlaneKind.CONFIG_MAP: math.inf,  # somebody else's data plane: nothing to compare
}
"""How long after a change a disagreement is still news on its way; a fence that may change sooner is judged sooner."""
RATE_TOLERANCE = 0.25
"""A token bucket lets bursts through; the mean over a window may exceed the limit by this share."""
REPORTED_RATE_TOLERANCE = 0.05
"""A bucket is filled by whole requests per interval: the rate in force is a rounded one."""
CLEARLY_OPEN = 100_000
"""A breaker threshold that no class reaches; the implicit 1024 of Envoy is not one."""
IN_FLIGHT_TOLERANCE = 0.10
"""Breakers are soft and counted per proxy worker."""


CONFIDENCE_DEVIATIONS = 4.0
"""Standard deviations of the bound on a measured share: shares are judged in every pass, by the thousand a day."""

Weights = tuple[tuple[str, int], ...]
"""(pool, permille), as a target has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyMemory:
    """The targets under verification, and since when they are in force."""

    targets: Targets | None = None
    since: float = 0.0
    weights: Mapping[str, tuple[Weights, float]] = field(default_factory=lambda: MappingProxyType({}))
    """Class -> its weights and since when they are in force; limits move more often."""


def verify(
    snapshot: Snapshot, targets: Targets | None, memory: VerifyMemory
) -> tuple[tuple[Finding, ...], VerifyMemory]:
    """Findings on ``Effective``; empty while targets are too young to judge.

    ``targets`` are those that were written before this snapshot was taken.
    """
    if targets is None:
        return (_unverified("nothing was written to the data plane yet"),), VerifyMemory()
    memory = _dated(targets, memory, snapshot.now)
    astray = _weights_not_followed(snapshot, targets, memory)
    age = snapshot.now - memory.since
    if astray or age < _settle_seconds(snapshot.fleet):
        return astray, memory
    judged = [(target, _judge(snapshot, target, age)) for target in targets.classes]
    wrong = tuple(finding for _, finding in judged if finding is not None and finding.reason is not Reason.NOT_VERIFIED)
    if wrong:
        return wrong, memory
    silent = [target.name for target, finding in judged if finding is not None]
    if silent:
        return (_unverified(f"nothing tells which limit holds for {', '.join(silent)}"),), memory
    limited = sum(_is_limited(target) for target in targets.classes)
    if not limited:
        return (_obeyed("no class is limited, and nothing says that one is"),), memory
    return (_obeyed(f"{limited} of {len(judged)} classes are limited, and the data plane agrees"),), memory


def _dated(targets: Targets, memory: VerifyMemory, now: float) -> VerifyMemory:
    """The memory with ``targets`` in it: what they changed is in force since ``now``."""
    known = memory.weights
    same = memory.targets is not None and memory.targets.classes == targets.classes
    return VerifyMemory(
        targets=targets,
        since=memory.since if same else now,
        weights={
            target.name: standing
            if (standing := known.get(target.name)) and standing[0] == target.weights
            else (target.weights, now)
            for target in targets.classes
        },
    )


def _weights_not_followed(snapshot: Snapshot, targets: Targets, memory: VerifyMemory) -> tuple[Finding, ...]:
    """Classes whose measured shares are surely not their weights; where none can be told apart, the fleet as a whole.

    An enabled gate places every request itself, and weights are only what it falls back to.
    """
    fleet, observation = snapshot.fleet, snapshot.observation
    if math.isinf(SETTLE_SECONDS[fleet.data_plane.kind]) or fleet.data_plane.gate is GateUse.ENABLED:
        return ()
    settled = {
        name: weights
        for name, (weights, since) in memory.weights.items()
        if (shares := observation.shares.get(name, observation.shares_of_all)) and since <= shares.since_seconds
    }
    found = []
    for name, weights in settled.items():
        if (shares := observation.shares.get(name)) and (
            words := _strays(snapshot, _expected(snapshot, weights), shares)
        ):
            found.append(_astray(words, name))
    if observation.shares or observation.shares_of_all is None or len(settled) < len(targets.classes):
        return tuple(found)
    words = _strays(snapshot, _expected_of_all(snapshot, settled), observation.shares_of_all)
    return (_astray(words),) if words else ()


def _expected(snapshot: Snapshot, weights: Weights) -> Mapping[str, float]:
    """The share that each pool should get: its weight, among pools that can serve at all."""
    serving = {pool: float(weight) for pool, weight in weights if _serves(snapshot, pool)}
    total = math.fsum(serving.values())
    return {pool: weight / total for pool, weight in serving.items()} if total > 0 else {}


def _serves(snapshot: Snapshot, pool: str) -> bool:
    """An API that is paid per token has no replica to count."""
    supply = snapshot.supply(pool)
    return supply is None or supply.ready > 0


def _expected_of_all(snapshot: Snapshot, weights: Mapping[str, Weights]) -> Mapping[str, float]:
    """The same of all classes together, by the rates at which they were admitted; empty where one is not measured."""
    expected: dict[str, float] = {}
    total = 0.0
    strangers = snapshot.observation.unmatched_rate
    for name, pairs in weights.items():
        observed = snapshot.observation.classes.get(name)
        admitted = observed.samples.get(Signal.ADMITTED_RATE) if observed is not None else None
        if admitted is None:
            return {}
        total += admitted.value
        for pool, share in _expected(snapshot, pairs).items():
            expected[pool] = expected.get(pool, 0.0) + admitted.value * share
    if total <= 0.0 or (strangers is not None and strangers.value > 0.0):
        return {}  # whoever matches no class goes where its own route leads
    return {pool: rate / total for pool, rate in expected.items()}


def _strays(snapshot: Snapshot, expected: Mapping[str, float], shares: PoolShares) -> str:
    """The pools whose share is surely off by more than the dead band, in words; empty where none is."""
    total = math.fsum(shares.requests.values())
    if not expected or total <= 0.0:
        return ""
    band = snapshot.fleet.control.dead_band
    parts = []
    for pool in sorted({*expected, *shares.requests}):
        wanted, found = expected.get(pool, 0.0), shares.requests.get(pool, 0.0)
        low, high = wilson_bounds(found, total, CONFIDENCE_DEVIATIONS)
        if low > wanted + band or high < wanted - band:
            parts.append(f"{pool} {found / total:.0%} instead of {wanted:.0%}")
    return f"of {total:.0f} requests {', '.join(parts)}" if parts else ""


def wilson_bounds(found: float, total: float, deviations: float) -> tuple[float, float]:
    """Wilson's score interval of a share: ``found`` of ``total`` trials, at so many standard deviations.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    share, square = found / total, deviations**2
    middle = share + square / (2.0 * total)
    half = deviations * math.sqrt(share * (1.0 - share) / total + square / (4.0 * total**2))
    scale = 1.0 + square / total
    return (middle - half) / scale, (middle + half) / scale


def _astray(words: str, name: str = "") -> Finding:
    return Finding(
        condition=ConditionType.EFFECTIVE,
        reason=Reason.WEIGHTS_NOT_FOLLOWED,
        message=f"{f'class {name}: ' if name else ''}{words}",
        subject=f"WorkloadClass/{name}" if name else "",
    )


def _settle_seconds(fleet: Fleet) -> float:
    """Never longer than limits stand still, or nothing would ever be judged."""
    usual = SETTLE_SECONDS[fleet.data_plane.kind]
    return usual if math.isinf(usual) else min(usual, fleet.control.fence_dwell_seconds)


def _is_limited(target: ClassTarget) -> bool:
    return any(limit is not None for limit in (target.rate_limit, target.in_flight_limit, target.fence))


def _judge(snapshot: Snapshot, target: ClassTarget, age_seconds: float) -> Finding | None:
    """None: obeyed. A finding with NOT_VERIFIED: nobody can tell."""
    enforced = snapshot.observation.enforced.get(target.name)
    if enforced is not None:
        finding = _disagreement(target, enforced, snapshot.observation.proxies_ready)
        if finding is not None or target.rate_limit is None or enforced.rate is not None:
            return finding
    if not _is_limited(target):
        return None
    if age_seconds < snapshot.fleet.metrics.window_seconds:
        return _unverified(f"{target.name}: the window still holds traffic from before the change", target.name)
    return _traffic_above_limit(snapshot, target)


def _disagreement(target: ClassTarget, enforced: EnforcedLimit, proxies: int) -> Finding | None:
    """Compare with what the proxies say about themselves."""
    wanted = target.in_flight_limit if target.in_flight_limit is not None else target.fence
    if enforced.in_flight is not None and not _same_breaker(wanted, enforced.in_flight, proxies):
        plan = "no limit on requests in flight" if wanted is None else f"{wanted} requests in flight"
        return _not_enforced(target.name, plan, f"{enforced.in_flight}", enforced.origin)
    if enforced.rate is not None and not _same_rate(target.rate_limit, enforced.rate):
        plan = "no limit on the rate" if target.rate_limit is None else f"{target.rate_limit:.3g} requests/s"
        found = "none" if math.isinf(enforced.rate) else f"{enforced.rate:.3g}"
        return _not_enforced(target.name, plan, found, enforced.rate_origin)
    if wanted is not None and enforced.in_flight is None:
        return _unverified(f"{target.name}: the proxy does not report its breaker", target.name)
    return None


def _same_breaker(wanted: int | None, found: int, proxies: int) -> bool:
    """Each proxy rounds its share up, so the sum may exceed the plan by less than one per proxy."""
    if wanted is None:
        return found >= CLEARLY_OPEN
    return wanted <= found < wanted + max(1, proxies)


def _same_rate(wanted: float | None, found: float) -> bool:
    if wanted is None:
        return math.isinf(found)
    return math.isclose(found, wanted, rel_tol=REPORTED_RATE_TOLERANCE)


def _traffic_above_limit(snapshot: Snapshot, target: ClassTarget) -> Finding | None:
    """Judge by measured traffic; silence proves nothing, so no traffic is NOT_VERIFIED."""
    observed = snapshot.observation.classes.get(target.name)
    samples = observed.samples if observed is not None else {}
    admitted, in_flight = samples.get(Signal.ADMITTED_RATE), samples.get(Signal.IN_FLIGHT)
    if target.rate_limit is not None and _exceeds(admitted, target.rate_limit * (1 + RATE_TOLERANCE)):
        return _not_enforced(target.name, f"{target.rate_limit:.3g} requests/s", _shown(admitted), "measured")
    limit = target.in_flight_limit if target.in_flight_limit is not None else target.fence
    if limit is not None and _exceeds(in_flight, limit * (1 + IN_FLIGHT_TOLERANCE) + 1):
        return _not_enforced(target.name, f"{limit} requests in flight", _shown(in_flight), "measured")
    if admitted is None and in_flight is None:
        return _unverified(f"{target.name}: no counters", target.name)
    return None


def _exceeds(sample: Sample | None, bound: float) -> bool:
    return sample is not None and sample.value > bound


def _shown(sample: Sample | None) -> str:
    return "nothing" if sample is None else f"{sample.value:.3g}"


def _not_enforced(name: str, wanted: str, found: str, origin: str) -> Finding:
    source = f" (set by {origin})" if origin else ""
    return Finding(
        condition=ConditionType.EFFECTIVE,
        reason=Reason.LIMIT_NOT_ENFORCED,
        message=f"class {name}: the plan allows {wanted}, the data plane enforces {found}{source}",
        subject=f"WorkloadClass/{name}",
    )


def _unverified(message: str, name: str = "") -> Finding:
    return Finding(
        condition=ConditionType.EFFECTIVE,
        reason=Reason.NOT_VERIFIED,
        message=message,
        subject=f"WorkloadClass/{name}" if name else "",
    )


def _obeyed(message: str) -> Finding:
    return Finding(condition=ConditionType.EFFECTIVE, reason=Reason.OBEYED, message=message)
