"""The kernels' records of all lanes, kept up to date event by event.

The kernels of ``sluice.policy.kernels`` take records of arrays where they are compiled, and
anything with the same attributes where they are not. Plain objects are many times as fast
without a compiler, and the gate's process has none (it would cost more memory than all
requests that wait).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice.policy.admission import AdmissionPolicy, LaneTerms, lanes_of
from sluice.policy.compiled import IS_COMPILED
from sluice.policy.kernels import NOBODY, Late, accrue, choose, latest_start, record_start


class _Record:
    """One record with the fields of a kernel's type as attributes."""

    def __init__(self, record: Any) -> None:
        for name, value in zip(record.dtype.names, record.item(), strict=True):
            setattr(self, name, value)


class LaneTable:
    """All lanes as the kernels see them."""

    def __init__(self, policy: AdmissionPolicy, terms: tuple[LaneTerms, ...]) -> None:
        self.names = tuple(entry.name for entry in terms)
        self.policy = policy
        self._lanes: Any = lanes_of(terms)
        self._rule: Any = policy.rule()[0]
        if not IS_COMPILED:
            self._lanes = [_Record(record) for record in self._lanes]
            self._rule = _Record(self._rule)

    def set(self, lane: int, field: str, value: float) -> None:
        """Write one field."""
        if IS_COMPILED:
            self._lanes[field][lane] = value
        else:
            setattr(self._lanes[lane], field, value)

    def get(self, lane: int, field: str) -> float:
        """Read one field."""
        return float(self._lanes[field][lane] if IS_COMPILED else getattr(self._lanes[lane], field))

    @property
    def accrued(self) -> float:
        """When credit was last added, seconds."""
        return float(self._rule.accrued)

    def remember(self, credit: Mapping[str, float], accrued: float) -> None:
        """Take over what another table's rule remembered."""
        self._rule.accrued = accrued
        for number, name in enumerate(self.names):
            self.set(number, "credit", credit.get(name, 0.0))

    def credit(self) -> dict[str, float]:
        """What the rule remembers, by lane."""
        return {name: self.get(number, "credit") for number, name in enumerate(self.names)}

    def latest_start(self, lane: int, arrival: float, prompt_tokens: float) -> float:
        """Latest start that keeps the promise; infinite where promises play no part."""
        if self.policy.late is Late.IGNORE and not self._needs_latest:
            return float("inf")
        return float(latest_start(self._rule, self._lanes[lane], arrival, prompt_tokens))

    @property
    def _needs_latest(self) -> bool:
        return self.policy.order.name == "BLEND"

    def accrue(self, now: float) -> None:
        """Add credit up to ``now``."""
        accrue(self._rule, self._lanes, now)

    def choose(self, now: float) -> tuple[int, bool] | None:
        """(lane, whether its late head) that starts next; None: nobody."""
        choice = int(choose(self._rule, self._lanes, now))
        if choice == NOBODY:
            return None
        late, lane = divmod(choice, len(self.names))
        return lane, bool(late)

    def record_start(self, lane: int) -> None:
        """Account for one started prefill."""
        record_start(self._rule, self._lanes[lane])
