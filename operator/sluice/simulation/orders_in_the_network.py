"""The default order in the paper's network: goals by fleet size, floors, and two rows that bind at once.

Fresh random instances (no draw of any other panel) of 2, 4 and 8 classes. An instance counts
with the mean of its seeds, so that the worst is an instance and not a draw; values are the
calm ones of ``network``. ``TI-WSP`` is what the live gate does, decode in place; ``TG-WSP``
is the same order where decodes may move, which the paper's network allows for nothing. The
index and the bands run beside them on the same requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sluice.simulation.catalogue import NETWORK
from sluice.simulation.claims import Claim, Table, verdict_of
from sluice.simulation.experiments import Runner, Scale
from sluice.simulation.instances import Instance, random_instance, wide_instance
from sluice.simulation.measure import interval_of
from sluice.simulation.network import PlanningError, Trial, solved

Floats = NDArray[np.float64]
Draw = Callable[[int, int], Instance]
"""From a number and a count of classes to an instance."""

GOALS: Mapping[int, tuple[float, float]] = {20: (0.990, 0.955), 100: (0.997, 0.980), 500: (0.999, 0.990)}
"""Replicas -> mean and worst share of R*."""
GOALS_SHOWN = ", ".join(f"n={n}: {mean:.3f} / {worst:.3f}" for n, (mean, worst) in GOALS.items())
DEFAULTS = ("TI-WSP", "TG-WSP")
"""The default order, in place and with decodes that move."""
ORDERS = ("XI-WSP", "TI-WSP", "XG-WSP", "TG-WSP")
IN_PLACE = ("XI-WSP", "TI-WSP")
MOVING_UP_TO = 20
"""Replicas of the largest goal panel where decodes may move: they earned the same to the fourth digit."""
WITH_BANDS = ("XI-WSP", "BI-WSP", "TI-WSP", "XG-WSP", "BG-WSP", "TG-WSP")
FIRST_INSTANCE = 500_000
"""Far from the other panels' draws."""
FLOOR_SHARE = 0.3
"""Of every class's arrivals."""
FLOOR_VALUE = FLOOR_KEPT = 0.99
"""Share of R* that shall be earned with floors, and of its floor that every class shall get."""
TWO_ROW_VALUE = 0.95
TWO_ROW_SLOTS = (16, 64)
TWO_ROW_HORIZON = 2 / 3
"""Of the horizon: many requests fit into little time there."""
TWO_ROW_FILL_UPS = 4.0
"""Its warm-ups at any scale: where all slots are to be full, a fleet that still fills up lacks most."""
TWO_ROW_ORDERS = ("XI-WSP", "BI-WSP", *DEFAULTS)
SEARCHED = 10_000
"""Draws looked at for one instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to run."""

    draw: Draw
    classes: int
    replicas: int
    instances: int
    names: tuple[str, ...]
    floor_share: float = 0.0
    horizon_share: float = 1.0
    """Of the scale's horizon."""
    fill_ups: float = 0.0
    """Mean decoding times of the slowest class that warm-ups last, if the scale asks for fewer."""
    special: str = ""

    @property
    def label(self) -> str:
        """For print."""
        return f"{self.special}{self.classes} classes, n={self.replicas}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Instances under every order: one entry per instance, the mean of its seeds."""

    label: str
    share: dict[str, Floats]
    """Value over R*, by regime."""
    worst_served: dict[str, Floats]
    """Least served share of any class."""


def orders_in_the_network(run: Runner, scale: Scale) -> tuple[Claim, ...]:
    """Every claim of this page."""
    return (*_goals(run, scale), *_floors(run, scale), *_two_rows(run, scale))


def goal_panels(scale: Scale) -> tuple[Asked, ...]:
    """Every number of classes at every fleet size."""
    return tuple(
        Asked(
            draw=random_instance,
            classes=classes,
            replicas=n,
            instances=count,
            names=ORDERS if n <= MOVING_UP_TO else IN_PLACE,
        )
        for n, count in scale.goal_instances
        for classes in scale.panel_classes
    )


def floor_panels(scale: Scale) -> tuple[Asked, ...]:
    """Floors for every class."""
    side = Asked(
        draw=guaranteed_instance,
        classes=0,
        replicas=scale.side_replicas,
        instances=scale.side_instances,
        names=WITH_BANDS,
        floor_share=FLOOR_SHARE,
    )
    return tuple(replace(side, classes=classes) for classes in scale.panel_classes)


def two_row_panels(scale: Scale) -> tuple[Asked, ...]:
    """Instances whose plan fills the prefill row and the token row."""
    return tuple(
        Asked(
            draw=two_row_instance(slots),
            classes=classes,
            replicas=scale.side_replicas,
            instances=scale.two_row_instances,
            names=TWO_ROW_ORDERS,
            horizon_share=TWO_ROW_HORIZON,
            fill_ups=TWO_ROW_FILL_UPS,
            special=f"{slots} slots, ",
        )
        for slots in TWO_ROW_SLOTS
        for classes in scale.panel_classes
    )


def _goals(run: Runner, scale: Scale) -> tuple[Claim, ...]:
    """Shares of R* at every fleet size beside the goals."""
    sizes = goal_panels(scale)
    panels = [panel(run, scale, asked) for asked in sizes]
    goals = [GOALS[asked.replicas] for asked in sizes]
    table = _share_table("Fresh random instances", panels, f"goals, mean / worst: {GOALS_SHOWN}")
    claims = []
    for name in DEFAULTS:
        had = [(entry, *goal) for entry, goal in zip(panels, goals, strict=True) if name in entry.share]
        worst = [(entry.label, float(entry.share[name].min()) - bar) for entry, _, bar in had]
        means = [(entry.label, entry.share[name], bar) for entry, bar, _ in had]
        claim = _judged(f"{name}-mean", f"{name} earns the goals' mean share of R*", means, table)
        claims += [claim, _worst(name, worst)]
    return (claims[0], *(replace(claim, tables=()) for claim in claims[1:]))


def _worst(name: str, beyond: Sequence[tuple[str, float]]) -> Claim:
    missed = [f"{label} by {-distance:.3f}" for label, distance in beyond if distance < 0.0]
    return Claim(
        name=f"{name}-worst",
        statement=f"{name} earns the goals' share of R* on the worst instance",
        verdict=verdict_of(holds=not missed),
        evidence=f"{len(beyond) - len(missed)} of {len(beyond)} reached"
        + (f"; missed: {', '.join(missed)}" if missed else ""),
    )


def _floors(run: Runner, scale: Scale) -> tuple[Claim, ...]:
    """Who keeps the floors, and at what share of R*."""
    panels = [panel(run, scale, asked) for asked in floor_panels(scale)]
    table = _share_table("Every class guaranteed 30 %", panels, "R* of the plan with floors")
    kept = Table(
        title="Every class guaranteed 30 %: kept share of the floor, worst class; mean ± 95 % / worst instance",
        columns=table.columns,
        rows=tuple(
            (entry.label, str(scale.side_instances), *(_shown(_kept(entry, name)) for name in WITH_BANDS))
            for entry in panels
        ),
        note="prefills over guaranteed requests, at most 1: what a class gets beyond its floor makes up for no lack",
    )
    claims = []
    for name in DEFAULTS:
        bars = [(f"value, {entry.label}", entry.share[name], FLOOR_VALUE) for entry in panels]
        bars += [(f"floor, {entry.label}", _kept(entry, name), FLOOR_KEPT) for entry in panels]
        statement = f"With floors {name} earns {FLOOR_VALUE:.0%} of R*, and no class is below its floor beyond noise"
        claims.append(_judged(f"{name}-floors", statement, bars, table))
    return (replace(claims[0], tables=(table, kept)), *(replace(claim, tables=()) for claim in claims[1:]))


def _kept(entry: Panel, name: str) -> Floats:
    """Share of its floor that the worst class of each instance got."""
    return np.minimum(1.0, entry.worst_served[name] / FLOOR_SHARE)


def _two_rows(run: Runner, scale: Scale) -> tuple[Claim, ...]:
    """What is earned where prefill and tokens both bind."""
    panels = [panel(run, scale, asked) for asked in two_row_panels(scale)]
    table = _share_table("Prefill row and token row both bind", panels, "")
    claims = [
        _judged(
            f"{name}-two-rows",
            f"Where prefill and tokens both bind {name} earns {TWO_ROW_VALUE:.0%} of R*",
            [(entry.label, entry.share[name], TWO_ROW_VALUE) for entry in panels],
            table,
        )
        for name in DEFAULTS
    ]
    return (claims[0], *(replace(claim, tables=()) for claim in claims[1:]))


def panel(run: Runner, scale: Scale, asked: Asked) -> Panel:
    """Run fresh instances under every regime and seed, with common random numbers."""
    names, classes, count = asked.names, asked.classes, asked.instances
    seeds, horizon = range(1, scale.goal_seeds + 1), scale.horizon_seconds * asked.horizon_share
    measured = horizon * 2 / 3
    numbers = range(FIRST_INSTANCE + 1000 * classes, FIRST_INSTANCE + 1000 * classes + count)
    instances = [asked.draw(number, classes) for number in numbers]
    fill_ups = max(scale.goal_fill_ups, asked.fill_ups)
    warmups = [max(horizon / 3, fill_ups * slowest_answer_seconds(instance)) for instance in instances]
    trials = [
        Trial(
            instance=instance,
            replicas=asked.replicas,
            regime=NETWORK[name],
            horizon_seconds=warmup + measured,
            warmup_seconds=warmup,
            seed=1000 * number + seed,
            index=instance.token_row_index(),
            floor_share=asked.floor_share,
        )
        for name in names
        for number, instance, warmup in zip(numbers, instances, warmups, strict=True)
        for seed in seeds
    ]
    results = run(trials)
    shape = (len(names), count, len(seeds))
    share = np.array([r.calm_share for r in results]).reshape(shape).mean(axis=2)
    served = np.array([r.served for r in results]).reshape(*shape, classes).mean(axis=2).min(axis=2)
    return Panel(
        label=asked.label,
        share=dict(zip(names, share, strict=True)),
        worst_served=dict(zip(names, served, strict=True)),
    )


def slowest_answer_seconds(instance: Instance) -> float:
    """Mean decoding time of the class with the longest answers, a prefill beside it all the while: the fill-up's pace.

    A fleet starts empty; as long as it fills up it earns less than it will.
    """
    return max(c.output_tokens for c in instance.classes) * instance.pool.mixed_seconds


def guaranteed_instance(number: int, classes: int) -> Instance:
    """The first draw whose floors can be kept."""

    def fits(instance: Instance) -> bool:
        entries = solved(instance, 1, floor_share=FLOOR_SHARE).classes
        return all(entry.admitted_rate > (FLOOR_SHARE - 1e-6) * entry.arrival_rate for entry in entries)

    return _first(random_instance, number, classes, fits)


def two_row_instance(slots: int) -> Draw:
    """The first draw with so many slots whose plan fills the prefill row and the token row."""

    def fits(instance: Instance) -> bool:
        entries = solved(instance, 1).classes
        prefill, mixed = sum(entry.prefill for entry in entries), sum(entry.decode_mixed for entry in entries)
        return prefill > 1.0 - 1e-6 and mixed > (slots - 1) * (1.0 - 1e-6)

    def draw(number: int, classes: int) -> Instance:
        return _first(lambda seed, count: wide_instance(seed, count, slots), number, classes, fits)

    return draw


def _first(draw: Draw, number: int, classes: int, fits: Callable[[Instance], bool]) -> Instance:
    for attempt in range(SEARCHED):
        instance = draw(number + 1_000_000 * attempt, classes)
        if fits(instance):
            return instance
    raise PlanningError(f"none of {SEARCHED} draws has the property asked for")


def _cell(entry: Panel, name: str) -> str:
    """Empty where the order was not run."""
    return _shown(entry.share[name]) if name in entry.share else ""


def _shown(sample: Floats) -> str:
    return f"{sample.mean():.4f} ± {interval_of(sample).half_width:.4f} / {sample.min():.3f}"


def _share_table(title: str, panels: Sequence[Panel], note: str) -> Table:
    names = list(dict.fromkeys(name for entry in panels for name in entry.share))
    return Table(
        title=f"{title}: mean ± 95 % / worst share of R*",
        columns=("panel", "instances", *names),
        rows=tuple(
            (entry.label, str(len(entry.share[names[0]])), *(_cell(entry, name) for name in names)) for entry in panels
        ),
        note=note,
    )


def _judged(name: str, statement: str, bars: Sequence[tuple[str, Floats, float]], table: Table) -> Claim:
    """A claim that every sample's mean reaches its bar, each by its own 95 % interval."""
    found = [(label, interval_of(sample), bar) for label, sample, bar in bars]
    below = [label for label, interval, bar in found if interval.mean + interval.half_width < bar]
    unclear = [label for label, interval, bar in found if abs(interval.mean - bar) <= interval.half_width]
    words = [f"{len(bars) - len(below) - len(unclear)} of {len(bars)} surely reached"]
    words += [f"missed: {', '.join(below)}"] if below else []
    words += [f"unclear: {', '.join(unclear)}"] if unclear else []
    return Claim(
        name=name,
        statement=statement,
        verdict=verdict_of(holds=not below, decided=bool(below) or not unclear),
        evidence="; ".join(words),
        tables=(table,),
    )
