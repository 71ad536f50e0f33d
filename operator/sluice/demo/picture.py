"""The two runs as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sluice.demo.act import Act
from sluice.demo.scene import Scene, Service
from sluice.demo.summary import MILLI, Outcome

_WITHOUT, _WITH = "#b0413e", "#2f6f4f"


def draw(scene: Scene, outcome: Outcome, path: Path) -> None:
    """Write a PNG: money, first tokens, and what was offered, refused and limited, over time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - from the extra `simulation`
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    figure = Figure(figsize=(11, 3.2 * (1 + len(scene.services))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1 + len(scene.services), 2, squeeze=False)
    _money(axes[0][0], outcome, good=True)
    _money(axes[0][1], outcome, good=False)
    for row, service in enumerate(scene.services, start=1):
        _first_tokens(axes[row][0], outcome, service)
        _demand(axes[row][1], outcome.with_sluice, service.name)
    for axis in axes[-1]:
        axis.set_xlabel("seconds")
    figure.suptitle(
        f"Same arrivals without and with Sluice (simulated replicas, real Envoy and Prometheus): "
        f"good value {outcome.good_value_gain:+.0%}, value {outcome.value_gain:+.0%}",
        fontsize=11,
    )
    figure.savefig(path, dpi=110)


def _money(axis: Any, outcome: Outcome, *, good: bool) -> None:
    for act, colour in ((outcome.without, _WITHOUT), (outcome.with_sluice, _WITH)):
        moments = act.while_arriving()
        money = [MILLI * sum(f.good_value if good else f.value for f in m.figures.values()) for m in moments]
        axis.plot([m.at_seconds for m in moments], money, color=colour, label=act.title)
    planned = [(m.at_seconds, m.reading.plan) for m in outcome.with_sluice.while_arriving()]
    known = [(at, MILLI * plan.value_per_second) for at, plan in planned if plan is not None]
    if known and not good:
        axis.step(*zip(*known, strict=True), color="black", linestyle=":", label="plan")
    axis.set(title="good value" if good else "value", ylabel="m$ per second", ylim=(0, None))
    axis.legend(fontsize=8)


def _first_tokens(axis: Any, outcome: Outcome, service: Service) -> None:
    for act, colour in ((outcome.without, _WITHOUT), (outcome.with_sluice, _WITH)):
        points = [(m.at_seconds, m.figures[service.name].ttft_seconds) for m in act.while_arriving()]
        if known := [(at, ttft) for at, ttft in points if ttft is not None]:
            axis.plot(*zip(*known, strict=True), color=colour, label=act.title)
    axis.axhline(service.promise_seconds, color="black", linestyle=":", label="promise")
    axis.set(title=f"{service.name}: mean TTFT", ylabel="seconds", ylim=(0, None))
    axis.legend(fontsize=8)


def _demand(axis: Any, act: Act, name: str) -> None:
    moments = act.while_arriving()
    times = [moment.at_seconds for moment in moments]
    axis.plot(times, [m.figures[name].offered for m in moments], color="black", label="offered")
    axis.plot(times, [m.figures[name].refused for m in moments], color=_WITHOUT, label="refused")
    limited = [moment.reading.limits(name) for moment in moments]
    axis.fill_between(times, 0, 1, where=limited, transform=axis.get_xaxis_transform(), color=_WITH, alpha=0.12)
    title = f"{name}: requests with Sluice" + (" (shaded: limited)" if any(limited) else " (never limited)")
    axis.set(title=title, ylabel="per second", ylim=(0, None))
    axis.legend(fontsize=8)
