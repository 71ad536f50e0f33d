"""What a profile's status tells of its law as pools observe it. Pure.

Several fleets and pools may share a profile: each fleet tells its own entries and leaves the
others' alone. An entry is told anew when its drift moved visibly, not with every sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sluice.api.iteration_profile import IterationProfileResource, IterationProfileStatus, ObservedLaw
from sluice.learning.pools import LawMemory
from sluice.learning.recalibration import RecalibrationSettings, WorkingPoint, drift
from sluice.model.fleet import Fleet

VISIBLE_PERMILLE = 20
"""Change of the drift below which an entry stays as it was told."""
_LEAST_UPDATES = RecalibrationSettings().least_updates


def profile_statuses(
    profiles: Iterable[IterationProfileResource], fleet: Fleet, laws: LawMemory
) -> Iterator[tuple[IterationProfileResource, IterationProfileStatus]]:
    """Every profile of the fleet's namespace whose conditions were told, with the entries of this fleet."""
    for profile in profiles:
        if not profile.status.conditions:
            continue  # its first status comes with the conditions, from whoever reads the profile
        told = profile.status.observed
        mine = {entry.pool: entry for entry in told if entry.fleet == fleet.name}
        others = [entry for entry in told if entry.fleet != fleet.name]
        fresh = [_settled(mine.get(entry.pool), entry) for entry in _entries(profile.metadata.name, fleet, laws)]
        observed = tuple(sorted((*others, *fresh), key=lambda entry: (entry.fleet, entry.pool)))
        yield profile, profile.status.model_copy(update={"observed": observed})


def _entries(profile: str, fleet: Fleet, laws: LawMemory) -> Iterator[ObservedLaw]:
    """The fleet's pools that use the profile and have been observed long enough."""
    for pool in fleet.pools:
        state = laws.pools.get(pool.name)
        if pool.profile == profile and state is not None and state.updates >= _LEAST_UPDATES:
            point = WorkingPoint(chunk_tokens=pool.chunk_tokens, slots=pool.slots)
            change = drift(state, point)
            yield ObservedLaw.of(fleet.name, pool.name, state.law, drift=change, samples=state.updates)


def _settled(before: ObservedLaw | None, after: ObservedLaw) -> ObservedLaw:
    if before is not None and abs(before.drift_permille - after.drift_permille) < VISIBLE_PERMILLE:
        return before
    return after
