"""What the next targets depend on besides the plan: an explicit, frozen state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sluice.model.decision import Targets
from sluice.model.fleet import WorkloadClass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMemory:
    """What one class's next targets depend on besides the plan; times in seconds since the epoch."""

    rate_limit: float | None = None
    """The stabilised rate limit in force; None: none."""
    in_flight_limit: int | None = None
    """The stabilised in-flight limit in force, before any ceiling of the user; None: none."""
    fence: int | None = None
    fence_changed_at: float = -math.inf
    tightened_at: float = -math.inf
    rationed_since: float | None = None
    """Since when every plan has rationed the class; None: the last one did not."""
    released_at: float = -math.inf
    """When its limits were last removed."""
    weights: tuple[tuple[str, int], ...] = ()
    weights_changed_at: float = -math.inf

    @property
    def limited(self) -> bool:
        """Whether a limit of ours is in force."""
        return self.rate_limit is not None or self.in_flight_limit is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The state between two calls: what was ordered, and since when. Empty at a first start."""

    classes: Mapping[str, ClassMemory]
    ordered: Targets | None

    @classmethod
    def empty(cls) -> Memory:
        """Nothing was ever ordered."""
        return cls(classes={}, ordered=None)

    @classmethod
    def recall(cls, ordered: Targets, classes: Sequence[WorkloadClass], now: float) -> Memory:
        """The memory of an operator that starts anew and finds ``ordered`` in the data plane.

        It takes everything found as set at ``now``, so a restart moves no weight and no
        fence early, and tightens from where the limits stand.
        """
        ceilings = {workload.name: workload.in_flight_ceiling for workload in classes}
        return cls(
            classes={
                target.name: ClassMemory(
                    rate_limit=target.rate_limit,
                    in_flight_limit=_above_ceiling(target.in_flight_limit, ceilings.get(target.name)),
                    fence=target.fence,
                    fence_changed_at=now,
                    tightened_at=now,
                    rationed_since=now,
                    weights=target.weights,
                    weights_changed_at=now,
                )
                for target in ordered.classes
            },
            ordered=ordered,
        )


def _above_ceiling(limit: int | None, ceiling: int | None) -> int | None:
    """The planned in-flight limit behind an ordered one: a limit at the ceiling may be the ceiling's alone."""
    return None if limit is not None and ceiling is not None and limit >= ceiling else limit
