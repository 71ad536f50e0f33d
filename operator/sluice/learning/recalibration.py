"""Keeps the iteration-time law true while contexts, batches and engines drift.

The declared law is taken as right in shape and wrong by two factors: one on decoding
(the constant and the growth per sequence), one on prefill (the growth per prompt token).
Each period gives up to two observations, both linear in the factors ``u`` and ``v``:

    (1) inter-token time  =  u (c0 + c1 B) + v a x
    (2) prefill time      =  k [ u (c0 + c1 B) + v a (P/k - b0)+ ]

with the mean batch ``B``, the prompt tokens beyond the knee per iteration ``x``, and the mean
prompt ``P`` in ``k`` chunks. A Kalman filter over a random walk
follows them, at a steady pace and hardly beyond the mark. Means over a window hide how
prompts and decodes met in single iterations: against simulated engines whose law holds, the
observed law is within 4 % under mixed loads, and up to 10 % too slow where prompts of several
chunks alone fill the engine. The threshold of drift lies above that.

A sample moves the law only if it is fresh, newer than the last one, and consistent with
itself: by Little's law output tokens per second times the inter-token time are the
decoding sequences. What does not fit the law at all is refused, what fits badly is clipped,
no step exceeds ``largest_step``, and the factors stay within ``largest_factor``.

Everything here is a value; the state is passed in and handed back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from sluice.model.engine_sample import EngineSample
from sluice.model.law import IterationLaw


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalibrationSettings:
    """How fast and how far the law may be corrected."""

    walk: float = 0.02
    """Standard deviation of a factor's change from one period to the next."""
    together: float = 0.9
    """Correlation of the two factors' changes: contexts, clocks and versions slow down both."""
    noise: float = 0.05
    """Relative standard deviation of an inter-token time about the law."""
    prefill_noise: float = 0.20
    """The same of a prefill time: how a prompt shares iterations with others is known roughly only."""
    largest_innovation: float = 0.30
    """Relative deviation from the present law beyond which an observation is clipped."""
    implausible_ratio: float = 4.0
    """Observations this many times above or below the present law are refused: something else is wrong."""
    largest_step: float = 0.10
    """Largest relative change of a factor in one period."""
    largest_factor: float = 2.0
    """Factors stay between one over this and this."""
    maximum_age_seconds: float = 60.0
    least_running: float = 2.0
    """Mean batch below which an engine is too idle: what few tokens meet is no mean over the window."""
    least_updates: int = 5
    """Accepted samples before the observed law is trusted."""
    drift_threshold: float = 0.15
    """Drift at which it is reported. Chosen in the demo, whose law is exact: bursts read up to 0.18 there
    before prompts of clients that left were counted, and 0.055 in the one run since."""
    drift_periods: int = 3
    """Periods in a row that it takes."""
    drift_cleared: float = 0.10
    """Drift below which the report ends."""


class Refusal(StrEnum):
    """Why a sample did not move the law."""

    MISSING = "Missing"
    """No sample, or a number in it is not finite or not positive."""
    STALE = "Stale"
    """Older than the maximum age."""
    REPEATED = "Repeated"
    """Not newer than the last one."""
    IDLE = "Idle"
    """The engines were nearly idle."""
    INCONSISTENT = "Inconsistent"
    """Tokens per second times inter-token time are not the running sequences."""
    IMPLAUSIBLE = "Implausible"
    """Far from any law this could be."""


LITTLE_LOW, LITTLE_HIGH = 0.4, 1.4
"""Decoding sequences over running ones: prefilling sequences run too, and two means over a window differ."""
INITIAL_DEVIATION = 0.05
"""How far the declared law is believed to be off before anything is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """The state for one pool."""

    declared: IterationLaw
    """The law that the factors refer to; another one starts anew."""
    decode_factor: float = 1.0
    prefill_factor: float = 1.0
    variances: tuple[float, float, float] = (INITIAL_DEVIATION**2, 0.9 * INITIAL_DEVIATION**2, INITIAL_DEVIATION**2)
    """Of the decode factor, common, of the prefill factor."""
    at_seconds: float = -math.inf
    """End of the window of the last sample that was accepted."""
    updates: int = 0
    refusals: int = 0
    """Samples refused since the last accepted one."""
    refusal: Refusal | None = None
    """Why the last sample was refused; None: it was accepted."""
    beyond: int = 0
    """Accepted samples in a row with a drift beyond the threshold."""
    drifted: bool = False
    """Whether drift is being reported."""

    @property
    def law(self) -> IterationLaw:
        """The observed law."""
        declared = self.declared
        slope = declared.per_token_seconds * self.prefill_factor
        solo = declared.solo_seconds * self.decode_factor
        return IterationLaw(
            solo_seconds=solo,
            mixed_base_seconds=solo - slope * declared.knee_tokens,
            per_token_seconds=slope,
            per_sequence_seconds=declared.per_sequence_seconds * self.decode_factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingPoint:
    """Where a pool works: what drift is measured at and how prompts are cut into chunks."""

    chunk_tokens: int
    slots: int


def recalibrate(
    state: Recalibration,
    sample: EngineSample | None,
    point: WorkingPoint,
    now: float,
    settings: RecalibrationSettings,
) -> Recalibration:
    """The state after one period with or without a sample."""
    if sample is None:
        return _refused(state, Refusal.MISSING)
    if refusal := _refusal(state, sample, now, settings):
        return _refused(state, refusal)
    observations = _observations(state.declared, sample, point, settings)
    if any(not _plausible(state, observation, settings) for observation in observations):
        return _refused(state, Refusal.IMPLAUSIBLE)
    moved = _walked(state, settings)
    for observation in observations:
        moved = _updated(moved, observation, settings)
    moved = replace(
        moved,
        decode_factor=_bounded(state.decode_factor, moved.decode_factor, settings),
        prefill_factor=_bounded(state.prefill_factor, moved.prefill_factor, settings),
        at_seconds=sample.at_seconds,
        updates=state.updates + 1,
        refusals=0,
        refusal=None,
    )
    return _judged(moved, point, settings)


def drift(state: Recalibration, point: WorkingPoint) -> float:
    """Largest relative change of solo and mixed iterations at the working point, signed; 0.3: 30 % slower."""
    observed, declared = state.law, state.declared
    changes = (
        observed.solo(point.slots) / declared.solo(point.slots) - 1,
        observed.mixed(point.chunk_tokens, point.slots) / declared.mixed(point.chunk_tokens, point.slots) - 1,
    )
    return max(changes, key=abs)


def law_to_plan_with(state: Recalibration, *, allowed: bool, settings: RecalibrationSettings) -> IterationLaw:
    """The observed law where that is allowed and enough samples stand behind it, else the declared one."""
    trusted = allowed and state.updates >= settings.least_updates
    return state.law if trusted else state.declared


@dataclass(frozen=True, slots=True)
class _Observation:
    """``seconds = decode * u + prefill * v``, about."""

    seconds: float
    decode: float
    prefill: float
    noise: float

    def predicted(self, state: Recalibration) -> float:
        return self.decode * state.decode_factor + self.prefill * state.prefill_factor


def _refused(state: Recalibration, refusal: Refusal) -> Recalibration:
    return replace(state, refusal=refusal, refusals=state.refusals + 1)


def _refusal(state: Recalibration, sample: EngineSample, now: float, settings: RecalibrationSettings) -> Refusal | None:
    if not _complete(sample):
        return Refusal.MISSING
    if now - sample.at_seconds > settings.maximum_age_seconds:
        return Refusal.STALE
    if sample.at_seconds <= state.at_seconds:
        return Refusal.REPEATED
    if sample.running < settings.least_running:
        return Refusal.IDLE
    decoding = sample.generation_rate * sample.inter_token_seconds
    if not LITTLE_LOW <= decoding / sample.running <= LITTLE_HIGH:
        return Refusal.INCONSISTENT
    return None


def _complete(sample: EngineSample) -> bool:
    positive = (sample.inter_token_seconds, sample.running, sample.generation_rate)
    others = (sample.prompt_rate, sample.prompt_tokens, sample.at_seconds)
    optional = [value for value in (sample.iteration_rate, sample.prefill_seconds) if value is not None]
    return all(math.isfinite(value) and value > 0 for value in (*positive, *optional)) and all(
        math.isfinite(value) and value >= 0 for value in others
    )


def _observations(
    declared: IterationLaw, sample: EngineSample, point: WorkingPoint, settings: RecalibrationSettings
) -> tuple[_Observation, ...]:
    """Equations (1) and (2), the latter where the engine tells prefill times.

    Prompts share iterations: with ``n`` chunks per iteration on average and arrivals that are
    about Poisson, a share 1 - exp(-n) of the iterations is mixed, and a chunk meets n others.
    """
    decode = declared.solo(sample.running)
    knee, slope = declared.knee_tokens, declared.per_token_seconds
    chunks = max(1.0, sample.prompt_tokens / point.chunk_tokens)  # a rest shares an iteration with the next prompt
    chunk = sample.prompt_tokens / chunks
    iterations = sample.iteration_rate or sample.generation_rate / sample.running
    tokens = sample.prompt_rate / iterations
    chunks_per_iteration = tokens / chunk if chunk > 0 else 0.0
    mixed = -math.expm1(-chunks_per_iteration)
    beyond = slope * max(0.0, tokens - mixed * knee)
    told = [_Observation(sample.inter_token_seconds, decode, beyond, settings.noise)]
    if sample.prefill_seconds is not None and chunk > 0:
        together = min(point.chunk_tokens, chunk * (1 + chunks_per_iteration))
        beyond = chunks * slope * max(0.0, together - knee)
        told.append(_Observation(sample.prefill_seconds, chunks * decode, beyond, settings.prefill_noise))
    return tuple(told)


def _plausible(state: Recalibration, observation: _Observation, settings: RecalibrationSettings) -> bool:
    ratio = observation.seconds / observation.predicted(state)
    return 1 / settings.implausible_ratio <= ratio <= settings.implausible_ratio


def _walked(state: Recalibration, settings: RecalibrationSettings) -> Recalibration:
    """One step of the random walk; uncertainty about what is never observed stays bounded."""
    decode, common, prefill = state.variances
    step = settings.walk**2
    if max(decode, prefill) > (settings.largest_factor - 1) ** 2:
        return state
    return replace(state, variances=(decode + step, common + settings.together * step, prefill + step))


def _updated(state: Recalibration, observation: _Observation, settings: RecalibrationSettings) -> Recalibration:
    """The Kalman update with one observation, relative to what is predicted."""
    predicted = observation.predicted(state)
    h_decode, h_prefill = observation.decode / predicted, observation.prefill / predicted
    limit = settings.largest_innovation
    innovation = min(limit, max(-limit, observation.seconds / predicted - 1))
    decode, common, prefill = state.variances
    along_decode = decode * h_decode + common * h_prefill
    along_prefill = common * h_decode + prefill * h_prefill
    total = h_decode * along_decode + h_prefill * along_prefill + observation.noise**2
    gain_decode, gain_prefill = along_decode / total, along_prefill / total
    return replace(
        state,
        decode_factor=state.decode_factor + gain_decode * innovation,
        prefill_factor=state.prefill_factor + gain_prefill * innovation,
        variances=(
            decode - gain_decode * along_decode,
            common - gain_decode * along_prefill,
            prefill - gain_prefill * along_prefill,
        ),
    )


def _bounded(before: float, after: float, settings: RecalibrationSettings) -> float:
    """``after``, within one step of ``before`` and within the range of factors."""
    low, high = before * (1 - settings.largest_step), before * (1 + settings.largest_step)
    stepped = min(high, max(low, after))
    return min(settings.largest_factor, max(1 / settings.largest_factor, stepped))


def _judged(state: Recalibration, point: WorkingPoint, settings: RecalibrationSettings) -> Recalibration:
    """Whether drift is to be reported, with persistence and hysteresis."""
    size = abs(drift(state, point))
    beyond = state.beyond + 1 if size > settings.drift_threshold else 0
    begins = beyond >= settings.drift_periods and state.updates >= settings.least_updates
    goes_on = state.drifted and size > settings.drift_cleared
    return replace(state, beyond=beyond, drifted=begins or goes_on)
