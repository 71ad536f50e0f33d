"""What the control loop knows of a data plane."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from sluice.model.decision import Receipt, Targets
from sluice.model.fleet import Fleet, WorkloadClass
from sluice.model.plan import Plan
from sluice.model.reasons import Finding
from sluice.model.snapshot import PoolSupply

_TARGETS = TypeAdapter(Targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Everything that a data plane's content is made of."""

    fleet: Fleet
    classes: tuple[WorkloadClass, ...]
    targets: Targets
    plan: Plan | None = None
    """None before the first plan: routes without limits."""
    supplies: tuple[PoolSupply, ...] = ()
    """Addresses of ready replicas, for data planes that route to them directly."""
    proxies: int = 1
    """Ready proxies that divide each limit among themselves."""
    confirmed_at: float | None = field(default=None, compare=False)
    """When ``plan`` was last weighed against the present, epoch seconds; it alone makes no other order.

    None: not in this pass."""
    handed_over: frozenset[str] = frozenset()
    """Classes that are another fleet's now, which takes their routes as they stand: they are not ours to remove."""


class NoAnswer(Exception):  # noqa: N818 - a state of the world
    """What the data plane holds cannot be read now: that is not nothing. ``finding`` tells why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class Actuator(Protocol):
    """One data plane. The methods block on I/O: call them off the event loop.

    Neither ``act`` nor ``preview`` raises for what the outside world does; what failed is in
    ``Receipt.problems`` (reasons ``WriteFailed``, ``NotPermitted``, ``FieldConflict``).
    """

    def act(self, order: Order) -> Receipt:
        """Make the data plane hold ``order``; a second call with the same order writes nothing.

        Classes that are no longer in the order lose what we own of theirs. To leave
        Enforce, give the targets of ``policy.targets.open_targets``: routes and weights stay.
        """
        ...

    def preview(self, order: Order) -> str:
        """A unified diff of what ``act`` would change, empty when nothing; nothing is written."""
        ...

    def standing(self, fleet: Fleet) -> Targets | None:
        """The targets that the data plane holds for ``fleet``, for ``Memory.recall`` after a restart.

        None: it holds none. Raises :class:`NoAnswer` where that cannot be told.
        """
        ...


def targets_to_json(targets: Targets) -> str:
    """The targets as they are kept beside what they became."""
    return _TARGETS.dump_json(targets, indent=2).decode() + "\n"


def targets_from_json(text: str) -> Targets | None:
    """The targets in ``text``; None where it holds none (another version's, or damaged)."""
    try:
        return _TARGETS.validate_json(text)
    except ValidationError:
        return None
