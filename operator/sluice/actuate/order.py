"""Two writes, one crash: the intermediate targets that make stopping anywhere safe.

Between what stands and what is wanted lie three steps, each of which a data plane may be
left in for ever:

1. *tighten* the limits that get tighter, on the old weights, so that no pool is handed load
   that its limits do not yet hold back;
2. *move* the weights under those limits;
3. *loosen* what depends on the new weights.

Mostly only one of them differs from what stands.
"""

from __future__ import annotations

from dataclasses import replace

from sluice.model.decision import ClassTarget, Targets


def steps(standing: Targets | None, wanted: Targets) -> tuple[Targets, ...]:
    """The targets to write one after the other, the last being ``wanted``."""
    if standing is None:
        return (wanted,)
    before = {target.name: target for target in standing.classes}
    tight = tuple(_tightest(before.get(target.name), target) for target in wanted.classes)
    held = tuple(_held(before.get(target.name), target) for target in tight)
    distinct = dict.fromkeys((held, tight, wanted.classes))
    return tuple(replace(wanted, classes=step) for step in distinct if step != standing.classes) or (wanted,)


def _tightest(before: ClassTarget | None, wanted: ClassTarget) -> ClassTarget:
    """``wanted`` with the tighter one of each limit."""
    if before is None:
        return wanted
    keep_rate = before.rate_limit is not None and (wanted.rate_limit is None or before.rate_limit < wanted.rate_limit)
    return replace(
        wanted,
        rate_limit=before.rate_limit if keep_rate else wanted.rate_limit,
        burst=before.burst if keep_rate else wanted.burst,
        in_flight_limit=_least(before.in_flight_limit, wanted.in_flight_limit),
        fence=_least(before.fence, wanted.fence),
    )


def _held(before: ClassTarget | None, tight: ClassTarget) -> ClassTarget:
    """``tight`` on the old weights, unless they name pools that are gone."""
    if before is None or {pool for pool, _ in before.weights} != {pool for pool, _ in tight.weights}:
        return tight
    return replace(tight, weights=before.weights)


def without_limits(targets: Targets) -> Targets:
    """The same weights, and nothing refused: how Enforce is left."""
    opened = (
        replace(target, rate_limit=None, burst=None, in_flight_limit=None, fence=None) for target in targets.classes
    )
    return replace(targets, classes=tuple(opened))


def has_limits(targets: Targets) -> bool:
    """Whether any class is limited."""
    return any(
        limit is not None
        for target in targets.classes
        for limit in (target.rate_limit, target.in_flight_limit, target.fence)
    )


def breaker(target: ClassTarget) -> int | None:
    """The one in-flight threshold that a proxy can hold: the limit or the fence, whichever is tighter."""
    return _least(target.in_flight_limit, target.fence)


def _least(one: int | None, other: int | None) -> int | None:
    """The tighter of two limits; None is no limit."""
    return min((limit for limit in (one, other) if limit is not None), default=None)
