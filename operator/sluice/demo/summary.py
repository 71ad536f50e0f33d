"""What the runs came to, in tables and sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.console import Group
from rich.table import Table

from sluice.demo.claims import Claim, claims
from sluice.demo.lateness import TRUSTED_SECONDS
from sluice.demo.record import Totals
from sluice.demo.run import Run
from sluice.demo.scene import Act, Control, Scene, Service

MILLI = 1000.0
_VERDICTS = {True: "[green]yes[/]", False: "[red]no[/]", None: "[yellow]not decided[/]"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All runs side by side."""

    scene: Scene
    seed: int
    unit_rate: float
    runs: tuple[Run, ...]

    def of(self, control: Control) -> Run | None:
        """The run under ``control``, if there was one."""
        return next((run for run in self.runs if run.control is control), None)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What the runs show."""
        return claims(self.runs)

    @property
    def trusted(self) -> bool:
        """Whether the machine kept up in every run."""
        return all(run.busyness.trusted for run in self.runs)


def predicted_value(run: Run) -> float | None:
    """Mean over the run of what the plans in force promised, dollars per second."""
    values = [
        moment.reading.plan.value_per_second for moment in run.while_arriving() if moment.reading.plan is not None
    ]
    return fmean(values) if values else None


def effective_share(run: Run) -> float:
    """Share of the run in which ``Effective`` was true."""
    words = [moment.reading.effective for moment in run.while_arriving()]
    return sum(word is not None and word.status == "True" for word in words) / max(1, len(words))


def renderable(outcome: Outcome) -> Group:
    """The summary for a terminal or a log."""
    return Group(
        _money(outcome),
        *(_requests(outcome, service) for service in outcome.scene.services),
        *_sentences(outcome),
        *([_verdicts(outcome.claims)] if outcome.claims else []),
        *_warnings(outcome),
    )


def _acts(outcome: Outcome) -> Iterator[tuple[str, Act | None]]:
    """The rows of a table: every act, and all of them."""
    yield from ((act.name, act) for act in outcome.scene.acts)
    if len(outcome.scene.acts) > 1:
        yield "whole run", None


def _money(outcome: Outcome) -> Table:
    result = Table(title="Thousandths of a dollar per second, by the requests that came in an act")
    result.add_column("act")
    for kind in ("good value", "value"):
        for run in outcome.runs:
            result.add_column(f"{kind}\n{run.control.value}", justify="right")
    for head, act in _acts(outcome):
        good = (f"{MILLI * run.good_value(act):.2f}" for run in outcome.runs)
        result.add_row(
            f"{head} ({act.load})" if act else head, *good, *(f"{MILLI * run.value(act):.2f}" for run in outcome.runs)
        )
    return result


def _requests(outcome: Outcome, service: Service) -> Table:
    protected = ", the protected class" if service is outcome.scene.protected else ""
    result = Table(title=f"{service.name}{protected}: first tokens are promised within {service.promise_seconds:g} s")
    for heading in ("act", "control", "TTFT p50", "p95", "sent", "kept", "refused", "left", "waited"):
        result.add_column(heading, justify="left" if heading in {"act", "control"} else "right")
    for head, act in _acts(outcome):
        for run in outcome.runs:
            result.add_row(
                head if run is outcome.runs[0] else "",
                run.control.value,
                *_cells(run.totals(act)[service.name]),
                end_section=run is outcome.runs[-1],
            )
    return result


def _cells(entry: Totals) -> Iterator[str]:
    yield from (_seconds(entry.ttft(share)) for share in (0.5, 0.95))
    yield from (str(number) for number in (entry.sent, entry.good, entry.refused, entry.gone, entry.waited))


def _sentences(outcome: Outcome) -> Iterator[str]:
    yield (
        "good value: of answers whose first token kept the promise; kept: their number; left: gave up, and counts in "
        "TTFT with the time waited; waited: held by the gate, then let go."
    )
    for run in outcome.runs:
        used = ", ".join(f"{name} {share:.0%}" for name, share in run.processors.items())
        yield f"{run.control.words}: {_plan(run)}processor time, share of one core: {used}."


def _plan(run: Run) -> str:
    if (predicted := predicted_value(run)) is None:
        return ""
    return f"the plan said {MILLI * predicted:.2f} m$/s, Effective {effective_share(run):.0%} of the time; "


def _verdicts(found: Sequence[Claim]) -> Table:
    result = Table(title="What it shows", show_header=False)
    for claim in found:
        result.add_row(claim.name, _VERDICTS[claim.holds], claim.text)
    return result


def _warnings(outcome: Outcome) -> Iterator[str]:
    for run in outcome.runs:
        sending, iterating = (each.quantile(0.99) for each in (run.busyness.sending, run.busyness.iterating))
        told = f"99 % of requests were sent within {MILLI * sending:g} ms of their time, iterations ended within"
        yield (
            f"{run.control.words}: {told} {MILLI * iterating:g} ms (bar: {MILLI * TRUSTED_SECONDS:g} ms); "
            f"load average {run.busyness.load_average:.1f}."
        )
    if not outcome.trusted:
        yield "[red]The machine was too busy: do not trust these figures.[/] End what else runs, and run again."
    yield "Replicas are simulated by an iteration-time law; Envoy, Prometheus, the gate and the load are real."


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
