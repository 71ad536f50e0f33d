"""Fits iteration-time laws to measured working points.

Two forms. The *paper's law* (arXiv 2602.02987, section 2.2) holds at one batch size: a
constant ``c`` for decode-only iterations and a line ``alpha + beta*C`` for mixed ones.
The *four-parameter law* ``c0 + c1*B + a*max(0, C - b0)`` spans batch sizes too. Both
minimise relative errors, since a plan is off by the share the time is off by, and since
times span two orders of magnitude. ``robust=True`` bounds the pull of any one
point (Huber), which suits measurements; published tables are fitted by plain squares.

The knee ``b0`` enters nonlinearly: for a given knee the rest is linear least squares, so
one search over the knee alone finds the optimum, whatever the start.

Half widths hold *together* with 95 %: each is for 1 - 0.05/p of p parameters (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sluice.model.law import IterationLaw
from sluice_profiling.measurement import Measurement
from sluice_profiling.student import quantile

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
HUBER = 1.345
"""Residuals beyond this many standard deviations count linearly (95 % efficiency under normal errors)."""
MAD_TO_SIGMA = 1.4826
REWEIGHTINGS = 20
SETTLED = 1e-3
"""Change of every weight below which reweighting stops."""
LACK_OF_FIT = 0.02
"""Relative error that a law has even where the measurements have none: no point is trusted beyond it."""
KNEE_SCAN = 200
GOLDEN = (5**0.5 - 1) / 2


class Form(StrEnum):
    """Which law."""

    PAPER = "paper"
    FOUR = "four-parameter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One fitted number with its uncertainty, in seconds per unit as the name says."""

    name: str
    value: float
    half_width: float
    """Half the width of its interval; together with the other parameters' it holds with 95 %."""

    def holds(self, truth: float) -> bool:
        """Whether ``truth`` lies in the interval."""
        return abs(truth - self.value) <= self.half_width


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """The range of working points behind a fit."""

    minimum_batch: int
    maximum_batch: int
    minimum_chunk_tokens: int
    maximum_chunk_tokens: int
    context_tokens: int
    """Mean context of the decoding sequences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LawFit:
    """A fitted law, how well it fits, and where it may be used."""

    form: Form
    law: IterationLaw
    parameters: tuple[Parameter, ...]
    points: int
    mean_error: float
    """Mean absolute relative error over the points, 0..1."""
    worst_error: float
    """Largest absolute relative error, 0..1."""
    r_squared: float
    """Share of the variance of the times that the law explains, never below 0."""
    validity: Validity

    def of(self, name: str) -> Parameter:
        """The parameter ``name``; KeyError where the form has none of that name."""
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class _Table:
    chunk: Floats
    batch: Floats
    seconds: Floats
    noise: Floats
    """Relative standard error of each time, 0 where it is not known."""

    @property
    def trust(self) -> Floats:
        """Weight of each point by its own noise, one on average: all equal where no noise is known."""
        weights = 1 / (LACK_OF_FIT**2 + self.noise**2)
        return np.asarray(weights / weights.mean(), dtype=np.float64)


def fit_four(measurements: Sequence[Measurement], *, robust: bool = True) -> LawFit:
    """The four-parameter law; ValueError where the points cannot tell its parameters apart."""
    table = _table(measurements)
    if len(measurements) < 5 or len(set(table.batch)) < 2 or len(set(table.chunk)) < 3:
        raise ValueError("the four-parameter law needs five points, two batches and three chunks")

    def squares(knee: float, weights: Floats) -> tuple[float, Floats]:
        design = _four_design(table, knee)
        cost, found = _least_squares(design, table.seconds, weights)
        if found[PER_SEQUENCE] >= 0:
            return cost, found
        # A larger batch is never quicker: where noise says so it is free, and the other two are fitted anew.
        cost, rest = _least_squares(np.delete(design, PER_SEQUENCE, axis=1), table.seconds, weights)
        return cost, np.insert(rest, PER_SEQUENCE, 0.0)

    weights = trust = table.trust
    for _ in range(REWEIGHTINGS if robust else 1):
        knee = _best_knee(lambda candidate, w=weights: squares(candidate, w)[0], float(table.chunk.max()))  # type: ignore[misc]  # mypy cannot infer a lambda's default
        _, (base, per_sequence, slope) = squares(knee, weights)
        errors = _four_design(table, knee) @ np.array([base, per_sequence, slope]) / table.seconds - 1
        previous, weights = weights, trust * _huber(errors * np.sqrt(trust)) if robust else weights
        if np.allclose(previous, weights, atol=SETTLED):
            break
    past = (table.chunk > knee).astype(np.float64)
    jacobian = np.column_stack([_four_design(table, knee), -slope * past])
    half = _half_widths(jacobian / table.seconds[:, None], errors, table.noise, weights, family=4)
    law = IterationLaw(
        solo_seconds=float(base),
        mixed_base_seconds=float(base - slope * knee),
        per_token_seconds=float(slope),
        per_sequence_seconds=float(per_sequence),
    )
    names = ("solo_seconds", "per_sequence_seconds", "per_token_seconds", "knee_tokens")
    values = (base, per_sequence, slope, knee)
    return _finish(Form.FOUR, law, zip(names, values, half, strict=True), measurements)


def fit_paper(measurements: Sequence[Measurement], batch: int, *, robust: bool = True) -> LawFit:
    """The paper's law at one batch size; ValueError where the points at that batch do not suffice."""
    chosen = [entry for entry in measurements if entry.point.batch == batch]
    solo = [entry for entry in chosen if entry.point.chunk_tokens == 0]
    mixed = [entry for entry in chosen if entry.point.chunk_tokens > 0]
    if not solo or len({entry.point.chunk_tokens for entry in mixed}) < 3:
        raise ValueError(f"the paper's law at batch {batch} needs a decode-only point and three chunks there")
    flat, line = _table(solo), _table(mixed)
    (constant,), (constant_half,) = _linear(np.ones((len(solo), 1)), flat, robust=robust)
    design = np.column_stack([np.ones_like(line.chunk), line.chunk])
    (alpha, beta), (alpha_half, beta_half) = _linear(design, line, robust=robust)
    law = IterationLaw(solo_seconds=constant, mixed_base_seconds=alpha, per_token_seconds=beta)
    rows = (
        ("solo_seconds", constant, constant_half),
        ("mixed_base_seconds", alpha, alpha_half),
        ("per_token_seconds", beta, beta_half),
    )
    return _finish(Form.PAPER, law, rows, chosen)


def predicted_seconds(law: IterationLaw, measurement: Measurement) -> float:
    """What the law says of a measured point."""
    point = measurement.point
    if point.chunk_tokens == 0:
        return law.solo(point.batch)
    return law.mixed(point.chunk_tokens, point.batch)


def relative_errors(law: IterationLaw, measurements: Iterable[Measurement]) -> Floats:
    """Signed relative errors of the law, one a point."""
    return np.array([predicted_seconds(law, entry) / entry.seconds - 1 for entry in measurements])


def _finish(
    form: Form,
    law: IterationLaw,
    rows: Iterable[tuple[str, float, float]],
    measurements: Sequence[Measurement],
) -> LawFit:
    errors = np.abs(relative_errors(law, measurements))
    seconds = np.array([entry.seconds for entry in measurements])
    residual = np.array([predicted_seconds(law, entry) for entry in measurements]) - seconds
    variation = float(((seconds - seconds.mean()) ** 2).sum())
    batches = [entry.point.batch for entry in measurements]
    chunks = [entry.point.chunk_tokens for entry in measurements]
    contexts = [entry.point.context_tokens for entry in measurements]
    return LawFit(
        form=form,
        law=law,
        parameters=tuple(
            Parameter(name=name, value=float(value), half_width=float(half)) for name, value, half in rows
        ),
        points=len(measurements),
        mean_error=float(errors.mean()),
        worst_error=float(errors.max()),
        r_squared=max(0.0, 1 - float((residual**2).sum()) / variation) if variation > 0 else 1.0,
        validity=Validity(
            minimum_batch=min(batches),
            maximum_batch=max(batches),
            minimum_chunk_tokens=min(chunks),
            maximum_chunk_tokens=max(chunks),
            context_tokens=round(sum(contexts) / len(contexts)),
        ),
    )


def _table(measurements: Sequence[Measurement]) -> _Table:
    seconds = np.array([entry.seconds for entry in measurements], dtype=np.float64)
    if not bool(np.all(np.isfinite(seconds) & (seconds > 0))):
        raise ValueError("every measured time must be positive")
    half = np.array([entry.half_width_seconds for entry in measurements], dtype=np.float64)
    return _Table(
        chunk=np.array([entry.point.chunk_tokens for entry in measurements], dtype=np.float64),
        batch=np.array([entry.point.batch for entry in measurements], dtype=np.float64),
        seconds=seconds,
        noise=half / seconds / quantile(0.5 + CONFIDENCE / 2, 1000),
    )


PER_SEQUENCE = 1
"""Column of the time per sequence in the four-parameter law's design."""


def _four_design(table: _Table, knee: float) -> Floats:
    return np.column_stack([np.ones_like(table.chunk), table.batch, np.maximum(0.0, table.chunk - knee)])


def _least_squares(design: Floats, seconds: Floats, weights: Floats) -> tuple[float, Floats]:
    """Weighted sum of squared relative errors at the optimum, and the coefficients."""
    scale = np.sqrt(weights) / seconds
    solution = np.linalg.lstsq(design * scale[:, None], np.sqrt(weights), rcond=None)[0]
    coefficients = np.asarray(solution, dtype=np.float64)
    errors = (design @ coefficients / seconds - 1) * np.sqrt(weights)
    return float((errors**2).sum()), coefficients


def _linear(design: Floats, table: _Table, *, robust: bool) -> tuple[list[float], list[float]]:
    """Coefficients and half widths of a law without a knee."""
    weights = trust = table.trust
    for _ in range(REWEIGHTINGS if robust else 1):
        _, coefficients = _least_squares(design, table.seconds, weights)
        errors = design @ coefficients / table.seconds - 1
        previous, weights = weights, trust * _huber(errors * np.sqrt(trust)) if robust else weights
        if np.allclose(previous, weights, atol=SETTLED):
            break
    half = _half_widths(design / table.seconds[:, None], errors, table.noise, weights, family=3)
    return coefficients.tolist(), half.tolist()


def _huber(errors: Floats) -> Floats:
    """Weight of each relative error: 1 for the usual ones, falling for those that stand out."""
    spread = MAD_TO_SIGMA * float(np.median(np.abs(errors)))
    if spread == 0:
        return np.ones_like(errors)
    return np.minimum(1.0, HUBER * spread / np.maximum(np.abs(errors), 1e-300))


def _half_widths(jacobian: Floats, errors: Floats, noise: Floats, weights: Floats, *, family: int) -> Floats:
    """Half widths from the fit's scatter, or from the measurements' own noise where that is larger.

    ``family``: parameters of the whole law, which shall lie in their intervals together.
    """
    count, parameters = jacobian.shape
    freedom = count - parameters
    scatter = float((weights * errors**2).sum() / freedom) if freedom > 0 else 0.0
    variance = max(scatter, float((weights * noise**2).mean()))
    # Columns differ by nine powers of ten: without scaling the inverse would drop the small ones.
    lengths = np.maximum(np.linalg.norm(jacobian, axis=0), 1e-300)
    scaled = jacobian / lengths
    covariance = variance * np.linalg.pinv(scaled.T @ (scaled * weights[:, None])) / np.outer(lengths, lengths)
    probability = 1 - (1 - CONFIDENCE) / (2 * family)
    # Without a degree of freedom the scatter says nothing; the noise is of many iterations a point.
    width = quantile(probability, freedom if scatter >= variance and freedom > 0 else 1000)
    return width * np.sqrt(np.maximum(0.0, np.diag(covariance)))


def _best_knee(cost: Callable[[float], float], largest_chunk: float) -> float:
    """Minimise over the knee: a scan for the right valley, then golden section inside it."""
    candidates = np.linspace(0.0, largest_chunk * 0.999, KNEE_SCAN)
    best = int(np.argmin([cost(float(candidate)) for candidate in candidates]))
    low = float(candidates[max(0, best - 1)])
    high = float(candidates[min(KNEE_SCAN - 1, best + 1)])
    while high - low > 1e-3:
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if cost(left) <= cost(right):
            high = right
        else:
            low = left
    return (low + high) / 2
