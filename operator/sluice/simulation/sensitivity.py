"""The paper's experiments on promises (its section 6.4) and on sensitivity, by its programs alone.

v1 shows them as pictures and words without numbers: what is judged is the shape that the
words claim, and the two percentages that model page section 4.4 computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from sluice.planning.promises import Promise, PromiseKind
from sluice.simulation.claims import Chart, Claim, Line, Table, verdict_of
from sluice.simulation.instances import PAPER_8B, Instance
from sluice.simulation.network import solved

DECODE_BOUNDS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.5)
DECODE_COST = 0.135
"""Share of value that decode fairness costs at a bound of zero, model page section 4.4; prefill fairness costs .55."""
TPOT_MARGINS = (1e-5, 1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 7e-4, 1e-3, 1.5e-3, 2e-3, 2.5e-3, 3e-3)
"""Bounds on time per output token above the solo iteration, seconds."""
SLOTS = (8, 16, 32)
SWEEPS: tuple[tuple[str, str, str, bool, float, tuple[float, ...]], ...] = (
    ("alpha", "mixed_base_seconds", "alpha, ms", False, 1e3, (0.015, 0.016, 0.0174, 0.019, 0.02)),
    ("beta", "per_token_seconds", "beta, µs per token", False, 1e6, (2e-5, 6.2e-5, 1.2e-4, 2.5e-4, 5e-4, 1e-3)),
    ("gamma", "solo_seconds", "gamma, tokens per s", True, 1.0, (30.0, 36.0, 1 / 0.022, 50.0)),
)
"""Name, the instance's field, label, whether the axis is the field's inverse, the label's units in one of the field's,
and values (section 6.3's ranges)."""
DECADE = 10.0
"""An axis that spans more is logarithmic."""
PRICE_TOTALS, PROMPT_SHARES = (0.15, 0.3, 0.6), (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def promises_and_sensitivity() -> tuple[Claim, ...]:
    """Every claim of this page."""
    return (_decode_fairness(), _token_time(), *(_sweep(*sweep) for sweep in SWEEPS), _batch_and_slope(), _prices())


def _value(instance: Instance, *promises: Promise) -> float:
    """R* per replica."""
    return solved(instance, 1, promises=promises).value_per_second


def _decode_fairness() -> Claim:
    best = _value(PAPER_8B)
    values = [
        _value(PAPER_8B, Promise(kind=PromiseKind.DECODE_FAIRNESS, target=bound)) / best for bound in DECODE_BOUNDS
    ]
    cost = 1.0 - values[0]
    chart = _chart(
        "decode-fairness", "What decode fairness costs", "largest allowed y_s,i - y_s,j", DECODE_BOUNDS, values
    )
    return Claim(
        name="Fig8-decode",
        statement="Decode fairness costs far less than prefill fairness: at a bound of zero 13.5 % against 55 %",
        verdict=verdict_of(holds=abs(cost - DECODE_COST) < 0.001),
        evidence=f"{cost:.1%} at a bound of zero",
        tables=(_table("Share of R* over the bound eta2 on decode unfairness", "eta2", DECODE_BOUNDS, values),),
        charts=(chart,),
    )


def _token_time() -> Claim:
    best, solo = _value(PAPER_8B), PAPER_8B.solo_seconds
    values = [
        _value(PAPER_8B, Promise(kind=PromiseKind.SLOT_TPOT, target=solo + margin)) / best for margin in TPOT_MARGINS
    ]
    slopes = [(b - a) / (y - x) for (x, a), (y, b) in pairwise(zip(TPOT_MARGINS, values, strict=True))]
    axis = tuple(1e3 * (solo + margin) for margin in TPOT_MARGINS)
    chart = _chart("tpot", "What a bound on time per output token costs", "bound eta3, ms", axis, values)
    return Claim(
        name="Fig8-TPOT",
        statement="A bound on time per output token is dear near the solo iteration of 22 ms, and free a few ms above",
        verdict=verdict_of(holds=values[0] < 0.05 and abs(values[-1] - 1.0) < 1e-6 and slopes[0] >= slopes[-1]),
        evidence=f"{values[0]:.1%} of R* at 22.01 ms, {values[-1]:.1%} at {axis[-1]:.0f} ms",
        tables=(_table("Share of R* over the bound eta3 on time per output token, ms", "eta3", axis, values),),
        charts=(chart,),
    )


def _sweep(name: str, field: str, label: str, inverse: bool, units: float, axis: Sequence[float]) -> Claim:
    instances = [replace(PAPER_8B, **{field: 1.0 / x if inverse else x}) for x in axis]  # type: ignore[arg-type]  # one float field by name
    values = [_value(instance) for instance in instances]
    rising = inverse
    holds = all((b >= a - 1e-9) if rising else (b <= a + 1e-9) for a, b in pairwise(values)) and values[0] != values[-1]
    shown = [x * units for x in axis]
    chart = _chart(f"sensitivity-{name}", f"Value over {name}", label, shown, values, "value per second and replica")
    return Claim(
        name=f"sens-{name}",
        statement=f"Value {'rises' if rising else 'falls'} with {name}",
        verdict=verdict_of(holds=holds),
        evidence=f"R* {values[0]:.1f} at {shown[0]:g} to {values[-1]:.1f} at {shown[-1]:g} ({label})",
        tables=(_table(f"R* over {label}", name, shown, values),),
        charts=(replace(chart, logarithmic_x=axis[-1] > DECADE * axis[0], from_zero=True),),
    )


def _batch_and_slope() -> Claim:
    _, _, label, _, units, axis = SWEEPS[1]
    shown = tuple(x * units for x in axis)
    values = {b: [_value(replace(PAPER_8B, slots=b, per_token_seconds=x)) for x in axis] for b in SLOTS}
    rising = all(values[a][k] <= values[b][k] + 1e-9 for a, b in pairwise(SLOTS) for k in range(len(axis)))
    table = Table(
        title="R* over B and beta",
        columns=("B", *(f"beta={x:g} µs" for x in shown)),
        rows=tuple((str(b), *values[b]) for b in SLOTS),
    )
    chart = Chart(
        name="batch-and-slope",
        title="Value over beta by batch size",
        x_label=label,
        y_label="value per second and replica",
        lines=tuple(Line(label=f"B={b}", x=shown, y=tuple(values[b])) for b in SLOTS),
        logarithmic_x=True,
        from_zero=True,
    )
    return Claim(
        name="sens-B-beta",
        statement="More slots never cost value, whatever the slope of prefill",
        verdict=verdict_of(holds=rising),
        evidence=f"{len(SLOTS)} batch sizes at {len(axis)} slopes",
        tables=(table,),
        charts=(chart,),
    )


def _prices() -> Claim:
    """R* is a maximum of linear functions of the prices: homogeneous, so the best ratio is the same for every total."""
    values = {
        total: [
            _value(replace(PAPER_8B, prompt_price=total * share, output_price=total * (1.0 - share))) / total
            for share in PROMPT_SHARES
        ]
        for total in PRICE_TOTALS
    }
    best = {PROMPT_SHARES[sample.index(max(sample))] for sample in values.values()}
    table = Table(
        title="R* per unit of c_p + c_d, over the share of c_p",
        columns=("c_p + c_d", *(f"{share:g}" for share in PROMPT_SHARES)),
        rows=tuple((f"{total:g}", *sample) for total, sample in values.items()),
    )
    return Claim(
        name="sens-prices",
        statement="The best ratio of c_p to c_d is the same for every sum of prices",
        verdict=verdict_of(holds=len(best) == 1),
        evidence=f"c_p share {', '.join(f'{share:g}' for share in sorted(best))} for sums {PRICE_TOTALS}; "
        "it must be: R* scales with the prices, and over a fixed sum it peaks at an end",
        tables=(table,),
    )


def _table(title: str, column: str, axis: Sequence[float], values: Sequence[float]) -> Table:
    return Table(title=title, columns=(column, "value"), rows=tuple(zip((f"{x:g}" for x in axis), values, strict=True)))


def _chart(
    name: str, title: str, x_label: str, axis: Sequence[float], values: Sequence[float], y_label: str = "share of R*"
) -> Chart:
    line = Line(label="program", x=tuple(axis), y=tuple(values))
    return Chart(name=name, title=title, x_label=x_label, y_label=y_label, lines=(line,))
