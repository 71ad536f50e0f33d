"""What a fleet's next pass depends on besides the world. It may be lost at any time."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from sluice.actuate.port import Order
from sluice.control.gathering import Declared
from sluice.deciding.decide import DecideMemory
from sluice.deciding.estimate import EstimateMemory
from sluice.deciding.verify import VerifyMemory
from sluice.learning.pools import LawMemory
from sluice.model.decision import Receipt, Targets


@dataclass(slots=True)
class Memory:
    """One fleet's memory; only the event loop changes it, between the steps of a pass."""

    estimate: EstimateMemory = field(default_factory=EstimateMemory)
    decide: DecideMemory = field(default_factory=DecideMemory)
    verify: VerifyMemory = field(default_factory=VerifyMemory)
    in_force: Targets | None = None
    """What the data plane holds by our orders."""
    ordered: Order | None = None
    """The last order that was carried out."""
    hanging: tuple[Order, Future[tuple[Receipt, Targets | None]]] | None = None
    """An order that ran past its time-out: until it comes back no other may overtake it."""
    proxies: int = 1
    """How many ready proxies divide the limits, as last counted."""
    enforcing: bool = False
    recalled: bool = False
    """Whether the plan and the targets of an operator before us were looked for."""
    declared: Declared | None = None
    """What was resolved last; the same declarations are not resolved again."""
    laws: LawMemory = field(default_factory=LawMemory)
    previewed: tuple[Order, str] | None = None
    """What was previewed last, and the preview."""
