"""What each step of ``sluice reproduce`` costs, and how much of it is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

COSTS: Mapping[str, tuple[float, float]] = {
    "the linear programs": (0.1, 0.1),
    "closed forms": (98.0, 98.0),
    "convergence": (226.0, 4200.0),
    "baselines on random instances": (234.0, 4500.0),
    "the default order in the network": (277.0, 20000.0),
    "the SLI router": (23.0, 100.0),
    "prices of promises": (0.1, 0.1),
    "promises and sensitivity": (0.3, 0.3),
    "batch sizes": (8.0, 20.0),
    "separate charging": (22.0, 100.0),
    "token-level iterations": (105.0, 420.0),
    "the operator beside its ideal": (190.0, 500.0),
    "gates on fresh traffic": (39.0, 680.0),
}
"""Processor seconds of one core by step.

At the quick scale as measured in one run beside tests, with the compilation of kernels; at the full one by the number
of runs times what a run of each kind took. Minutes differ between machines.
"""


def cost_of(step: str, *, full: bool) -> float:
    """Processor seconds of a step."""
    return COSTS[step][full]


def told() -> str:
    """Every step that takes a while, with its cost at both scales."""
    shown = [f"{name} {_minutes(quick)} / {_minutes(full)}" for name, (quick, full) in COSTS.items() if full >= 60.0]
    return "; ".join(shown)


def hours(*, full: bool) -> float:
    """Processor hours of everything."""
    return sum(cost_of(step, full=full) for step in COSTS) / 3600.0


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}" if seconds < 600.0 else f"{seconds / 60:.0f}"


@dataclass(slots=True)
class Remaining:
    """How much is done of what is to be done, in processor seconds; what was known already counts as neither."""

    total: float
    show: Callable[[float, float], None]
    """Called with (done, total) whenever one changed."""
    done: float = 0.0
    _step: float = 0.0
    """What the step under way still costs."""

    def begin(self, cost: float) -> None:
        """A step of this cost begins."""
        self._step = cost

    def job(self, cost: float, known: bool) -> None:
        """A job of about this cost ended: never more than its step."""
        cost = min(cost, self._step)
        self._step -= cost
        if known:
            self.total -= cost
        else:
            self.done += cost
        self.show(self.done, self.total)

    def end(self) -> None:
        """The step ended, whatever its jobs were thought to cost."""
        self.done += self._step
        self._step = 0.0
        self.show(self.done, self.total)
