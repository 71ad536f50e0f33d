"""What the runs show, claim by claim, with the figures. Pure.

A claim holds, fails, or is not decided: by too few requests, by a control that did not play,
or by a machine that was too busy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import fmean, median, stdev

from sluice.demo.load import Happening
from sluice.demo.run import Run
from sluice.demo.scene import Act, Control

HARMLESS = 0.02
"""At low load TTFT and throughput may differ by so much, relatively."""
NEAR = 2.0
"""The protected class's 95th percentile stays near its value at low load up to this factor."""
OBEYED_SECONDS = 0.1
IDLE_SHARE = 0.001
"""Of the run's length: what readings half a second old may mistake for idling."""
BLOCKS = 9
"""Parts of an act whose means are taken for independent."""
STUDENT_95 = 2.31
"""Two-sided 95 % point of Student's t with ``BLOCKS - 1`` degrees of freedom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One sentence about the runs."""

    name: str
    holds: bool | None
    """None: not decided."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A relative change with the half width of its 95 % interval."""

    relative: float
    margin: float

    def __str__(self) -> str:
        return f"{self.relative:+.1%} ± {self.margin:.1%}"


def claims(runs: Sequence[Run]) -> tuple[Claim, ...]:
    """All that can be said of the runs that were made."""
    by_control = {run.control: run for run in runs}
    none, limits, gate = (by_control.get(control) for control in Control)
    calm = runs[0].scene.calm if runs else None
    return (
        *((harmless(none, gate, calm),) if none and gate and calm else ()),
        *((worth_it(limits, gate),) if limits and gate else ()),
        *((protected(gate, calm, [run for run in runs if run is not gate]),) if gate and calm else ()),
        *(of_gate(gate) if gate else ()),
        *((rationed_only(limits),) if limits else ()),
    )


def harmless(none: Run, gate: Run, act: Act) -> Claim:
    """In an act that needs no control the gate costs neither TTFT nor throughput."""
    ttft, throughput = ttft_difference(none, gate, act), throughput_difference(none, gate, act)
    holds: bool | None = None
    if ttft is not None and throughput is not None:
        worse = ttft.relative - HARMLESS
        holds = None if abs(worse) < ttft.margin else worse <= 0.0
        holds = False if throughput < -HARMLESS else holds
    text = (
        f"{act.title} (load {act.load}), gate against none, same requests: mean TTFT {ttft or '-'}, throughput "
        f"{'-' if throughput is None else f'{throughput:+.1%}'} (bar: {HARMLESS:.0%})"
    )
    return Claim(name="no harm at low load", holds=holds, text=text)


def ttft_difference(before: Run, after: Run, act: Act) -> Difference | None:
    """Change of the mean TTFT over the requests of ``act`` that both runs answered; None of too few.

    The same request is compared with itself; requests that come together share a fate, so the
    interval is that of means over parts of the act.
    """
    span = next(span for span in before.scene.timetable if span.act.name == act.name)
    blocks: list[list[tuple[float, float]]] = [[] for _ in range(BLOCKS)]
    for number, record in before.records.items():
        other = after.records.get(number)
        at = record.arrival.at_seconds
        if (
            other is None
            or record.ttft_seconds is None
            or other.ttft_seconds is None
            or not span.start <= at < span.end
        ):
            continue
        block = int((at - span.start) / (span.end - span.start) * BLOCKS)
        blocks[block].append((record.ttft_seconds, other.ttft_seconds))
    if not all(blocks):
        return None
    mean = fmean(old for block in blocks for old, _ in block)
    changes = [fmean(new - old for old, new in block) / mean for block in blocks]
    everything = fmean(new - old for block in blocks for old, new in block) / mean
    return Difference(relative=everything, margin=STUDENT_95 * stdev(changes) / sqrt(BLOCKS))


def throughput_difference(before: Run, after: Run, act: Act) -> float | None:
    """Change of the prompt and output tokens of complete answers to the requests of ``act``."""
    old, new = (_answered_tokens(run, act) for run in (before, after))
    return new / old - 1.0 if old else None


def _answered_tokens(run: Run, act: Act) -> int:
    return sum(
        record.arrival.prompt_tokens + record.arrival.output_tokens
        for record in run.records_of(act)
        if record.end is Happening.DONE
    )


def worth_it(limits: Run, gate: Run) -> Claim:
    """The gate earns at least as much good value as limits do."""
    with_limits, with_gate = limits.good_value(), gate.good_value()
    change = f"{with_gate / with_limits - 1.0:+.1%}" if with_limits else "-"
    chooser = "which places too" if gate.scene.placement else "the proxy places"
    text = f"good value {1000 * with_gate:.2f} with the gate ({chooser}), "
    text += f"{1000 * with_limits:.2f} m$/s with limits ({change})"
    return Claim(name="the gate earns no less than limits", holds=with_gate >= with_limits, text=text)


def protected(gate: Run, calm: Act, others: Sequence[Run]) -> Claim:
    """The protected class hardly notices the overload."""
    acts, service = gate.scene.acts, gate.scene.protected
    tails = {act.name: _tail(gate, act) for act in acts}
    base = tails[calm.name]
    rest = [tail for act in acts if act is not calm and (tail := tails[act.name]) is not None]
    holds = None if base is None or not rest else max(rest) <= NEAR * base
    told = ", ".join(f"{name} {_seconds(tail)}" for name, tail in tails.items())
    text = f"p95 TTFT of {service.name} with the gate: {told} (bar: {NEAR:g} times {calm.name})"
    for other in others:
        worst = max((tail for act in acts if (tail := _tail(other, act)) is not None), default=None)
        text += f"; worst {other.control.words}: {_seconds(worst)}"
    return Claim(name="the protected class stays near its TTFT", holds=holds, text=text)


def _tail(run: Run, act: Act) -> float | None:
    """The protected class's 95th percentile."""
    return run.totals(act)[run.scene.protected.name].ttft(0.95)


def of_gate(run: Run) -> Iterator[Claim]:
    """What the gate says of itself."""
    account = run.gate
    if account is None:
        return
    idle = account.reading.idle_while_waiting_seconds
    text = f"{idle:.2f} s in which something waited while an engine idled"
    yield Claim(name="nothing waits while something idles", holds=idle <= IDLE_SHARE * run.scene.seconds, text=text)
    obeyed = sorted(account.obeyed_seconds)
    if obeyed:
        text = (
            f"plan written -> gate obeys: median {1000 * median(obeyed):.0f} ms, slowest {1000 * obeyed[-1]:.0f} ms "
            f"of {len(obeyed)} plans"
        )
        yield Claim(name="the gate obeys at once", holds=median(obeyed) <= OBEYED_SECONDS, text=text)


def rationed_only(run: Run) -> Claim:
    """Limits stand on classes only that the plan rations."""
    strangers = sorted(limited_without_need(run))
    rationed = sorted(name for name in run.totals() if any(m.reading.rations(name) for m in run.moments))
    text = (
        f"limited without need: {', '.join(strangers) or 'none'}; rationed by the plan: {', '.join(rationed) or 'none'}"
    )
    return Claim(name="limits only where the plan rations", holds=not strangers, text=text)


def limited_without_need(run: Run) -> frozenset[str]:
    """Classes with a limit at a moment at which neither the plan nor the one just before rationed them.

    Plan and limits are read one after the other, so a plan may be one reading ahead of its limits.
    """
    moments = run.moments
    return frozenset(
        service.name
        for service in run.scene.services
        for before, now in pairwise([moments[0], *moments] if moments else [])
        if now.reading.limits(service.name)
        and not (now.reading.rations(service.name) or before.reading.rations(service.name))
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
