"""What the two runs came to, in words and figures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, quantiles

from rich.console import Group
from rich.table import Table

from sluice.demo.act import Act
from sluice.demo.scene import Scene
from sluice.demo.tally import ClassTotals

MILLI = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Both runs side by side."""

    without: Act
    with_sluice: Act

    @property
    def good_value_gain(self) -> float:
        """Relative change of good value per second; infinite where there was none before."""
        return _gain(self.without.good_value, self.with_sluice.good_value)

    @property
    def value_gain(self) -> float:
        """Relative change of value per second."""
        return _gain(self.without.value, self.with_sluice.value)

    @property
    def predicted_value(self) -> float | None:
        """Mean over the run of what the plans in force promised, dollars per second."""
        plans = [moment.reading.plan for moment in self.with_sluice.while_arriving()]
        values = [plan.value_per_second for plan in plans if plan is not None]
        return fmean(values) if values else None

    @property
    def limited(self) -> dict[str, float]:
        """Class -> share of the run in which it had a limit."""
        moments = self.with_sluice.while_arriving()
        return {
            name: sum(moment.reading.limits(name) for moment in moments) / max(1, len(moments))
            for name in self.with_sluice.totals
        }

    @property
    def rationed(self) -> frozenset[str]:
        """Classes that some plan of the run rationed."""
        return frozenset(
            name
            for name in self.with_sluice.totals
            if any(moment.reading.rations(name) for moment in self.with_sluice.moments)
        )

    @property
    def limited_without_need(self) -> frozenset[str]:
        """Classes with a limit at a moment at which neither the plan nor the one just before rationed them.

        Plan and limits are read one after the other, so a plan may be one reading ahead of its limits.
        """
        moments = self.with_sluice.moments
        return frozenset(
            name
            for name in self.with_sluice.totals
            for before, now in pairwise([moments[0], *moments] if moments else [])
            if now.reading.limits(name) and not (now.reading.rations(name) or before.reading.rations(name))
        )

    @property
    def effective_share(self) -> float:
        """Share of the run in which ``Effective`` was true."""
        words = [moment.reading.effective for moment in self.with_sluice.while_arriving()]
        return sum(word is not None and word.status == "True" for word in words) / max(1, len(words))


def _gain(before: float, after: float) -> float:
    return after / before - 1.0 if before > 0 else float("inf")


def renderable(scene: Scene, outcome: Outcome) -> Group:
    """The summary for a terminal or a log."""
    return Group(_money(outcome), _classes(scene, outcome), *_words(outcome))


def _money(outcome: Outcome) -> Table:
    result = Table(title="Thousandths of a dollar per second")
    for heading in ("", "without", "with Sluice", "change", "plan said"):
        result.add_column(heading, justify="right" if heading else "left")
    predicted = outcome.predicted_value
    result.add_row(
        "good value (of answers that kept their TTFT promise)",
        f"{outcome.without.good_value * MILLI:.2f}",
        f"{outcome.with_sluice.good_value * MILLI:.2f}",
        f"{outcome.good_value_gain:+.0%}",
        "",
    )
    result.add_row(
        "value (of all complete answers)",
        f"{outcome.without.value * MILLI:.2f}",
        f"{outcome.with_sluice.value * MILLI:.2f}",
        f"{outcome.value_gain:+.0%}",
        "-" if predicted is None else f"{predicted * MILLI:.2f}",
    )
    return result


def _classes(scene: Scene, outcome: Outcome) -> Table:
    result = Table(title="Requests")
    for heading in ("class", "Sluice", "sent", "refused", "left", "failed", "done", "kept", "TTFT p50/p90", "TPOT"):
        result.add_column(heading, justify="left" if heading in {"class", "Sluice"} else "right")
    result.add_column("limited", justify="right")
    for service in scene.services:
        for act in (outcome.without, outcome.with_sluice):
            steered = act is outcome.with_sluice
            totals = act.totals[service.name]
            numbers = (totals.sent, totals.refused, totals.gone, totals.failed, totals.done, totals.good)
            result.add_row(
                "" if steered else service.name,
                "with" if steered else "without",
                *(str(number) for number in numbers),
                f"{_percentile(totals, 50)}/{_percentile(totals, 90)} s",
                _tpot(totals),
                f"{outcome.limited[service.name]:.0%}" if steered else "",
                end_section=steered,
            )
    return result


def _words(outcome: Outcome) -> Sequence[str]:
    strangers = sorted(outcome.limited_without_need)
    last = next((m.reading.effective for m in reversed(outcome.with_sluice.moments) if m.reading.effective), None)
    effective = f"Effective=True {outcome.effective_share:.0%} of the time"
    if last is not None:
        effective += f"; last: {last.status}, {last.reason}: {last.message}"
    used = ", ".join(f"{name} {share:.0%}" for name, share in outcome.with_sluice.processors.items())
    return (
        f"Limits stood on rationed classes only: {', '.join(sorted(outcome.rationed)) or 'none was rationed'}."
        if not strangers
        else f"A limit stood on a class that the plan did not ration: {', '.join(strangers)}.",
        effective + ".",
        f"Processor time with Sluice, share of one core: {used}.",
        "Replicas are simulated by an iteration-time law; Envoy, Prometheus and the load are real.",
    )


def _percentile(totals: ClassTotals, share: int) -> str:
    if len(totals.ttft_seconds) < 2:
        return "-"
    return f"{quantiles(totals.ttft_seconds, n=100)[share - 1]:.2f}"


def _tpot(totals: ClassTotals) -> str:
    return f"{fmean(totals.tpot_seconds) * MILLI:.0f} ms" if totals.tpot_seconds else "-"
