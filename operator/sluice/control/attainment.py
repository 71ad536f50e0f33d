"""Indicators beside what was measured of them: of one class, and of the fleet as a whole. Pure.

Absent is Unknown, never missed. A figure of the fleet is known only where it is measured of every
class that has traffic: over the others alone it could hold while the fleet misses it.
"""

from __future__ import annotations

from collections.abc import Iterable

from sluice.api.indicators import AttainmentStatus
from sluice.control.settling import significant
from sluice.model.fleet import Fleet, Sli, SliSignal, SliStatistic, WorkloadClass
from sluice.model.signal import Signal
from sluice.model.snapshot import ClassSamples, Observation


def of_class(workload: WorkloadClass | None, samples: ClassSamples | None) -> tuple[AttainmentStatus, ...]:
    """Each indicator of a class beside what was measured of it; none of a class that could not be resolved."""
    if workload is None:
        return ()
    found = samples or ClassSamples()
    return tuple(_told(sli, _of_class(sli, found)) for sli in workload.slis)


def of_fleet(
    fleet: Fleet | None, workloads: Iterable[WorkloadClass], observation: Observation
) -> tuple[AttainmentStatus, ...]:
    """Each objective of a fleet beside what was measured over all of its classes."""
    if fleet is None:
        return ()
    samples = tuple(observation.classes.get(entry.name, ClassSamples()) for entry in workloads)
    return tuple(_told(sli, _of_fleet(sli, samples)) for sli in fleet.objectives)


def _told(sli: Sli, measured: float | None) -> AttainmentStatus:
    is_share = sli.signal is SliSignal.SERVED_FRACTION or sli.statistic is SliStatistic.WITHIN_FRACTION
    target = sli.fraction if is_share or sli.target_seconds is None else sli.target_seconds
    if measured is None or target is None:
        held = "Unknown"
    else:
        held = "Held" if (measured >= target if is_share else measured <= target) else "Missed"
    return AttainmentStatus.model_validate(
        {
            "signal": sli.signal,
            "statistic": sli.statistic,
            "target": 0.0 if target is None else target,
            "measured": None if measured is None else significant(measured),
            "held": held,
        }
    )


def _of_class(sli: Sli, samples: ClassSamples) -> float | None:
    match sli.signal, sli.statistic:
        case SliSignal.SERVED_FRACTION, _:
            return _served_share(samples)
        case SliSignal.TTFT, SliStatistic.MEAN:
            return _value(samples, Signal.TTFT)
        case SliSignal.TTFT, _:
            return _value(samples, Signal.TTFT_WITHIN)
        case SliSignal.TPOT, SliStatistic.MEAN:
            return _value(samples, Signal.TPOT)
        case _:
            return None


def _of_fleet(sli: Sli, samples: tuple[ClassSamples, ...]) -> float | None:
    """Nothing measures the paper's fairness and slot time, nor the share of all tokens within a time."""
    match sli.signal, sli.statistic:
        case SliSignal.SERVED_FRACTION, _:
            return _served_of_all(samples)
        case SliSignal.SERVED_FRACTION_FAIRNESS, _:
            return _largest_difference(samples)
        case SliSignal.TPOT, SliStatistic.MEAN:
            return _token_time_of_all(samples)
        case _:
            return None


def _served_share(samples: ClassSamples) -> float | None:
    """Admitted over offered requests, where both are measured and there is traffic."""
    rates = _rates(samples)
    return rates[0] / rates[1] if rates is not None and rates[1] > 0 else None


def _served_of_all(samples: tuple[ClassSamples, ...]) -> float | None:
    """The same of all classes together."""
    rates = [_rates(entry) for entry in samples]
    known = [pair for pair in rates if pair is not None]
    offered = sum(pair[1] for pair in known)
    if len(known) < len(rates) or offered <= 0:
        return None
    return sum(pair[0] for pair in known) / offered


def _largest_difference(samples: tuple[ClassSamples, ...]) -> float | None:
    """Between the served shares of two classes; a class without traffic is treated neither well nor badly."""
    if any(_rates(entry) is None for entry in samples):
        return None
    shares = [share for entry in samples if (share := _served_share(entry)) is not None]
    return max(shares) - min(shares) if shares else None


def _token_time_of_all(samples: tuple[ClassSamples, ...]) -> float | None:
    """Mean time per output token over all tokens: each class counts by the tokens per second that it is sent."""
    seconds = tokens = 0.0
    for entry in samples:
        rate = _value(entry, Signal.COMPLETED_RATE)
        if rate is None:
            rate = _value(entry, Signal.ADMITTED_RATE)
        if rate == 0:
            continue
        output, own = _value(entry, Signal.OUTPUT_TOKENS), _value(entry, Signal.TPOT)
        if rate is None or output is None or own is None:
            return None
        tokens += rate * output
        seconds += rate * output * own
    return seconds / tokens if tokens > 0 else None


def _rates(samples: ClassSamples) -> tuple[float, float] | None:
    """Requests per second admitted and offered; no more are admitted than came, whatever two windows say."""
    admitted, offered = _value(samples, Signal.ADMITTED_RATE), _value(samples, Signal.OFFERED_RATE)
    return None if admitted is None or offered is None else (min(admitted, offered), offered)


def _value(samples: ClassSamples, signal: Signal) -> float | None:
    sample = samples.samples.get(signal)
    return None if sample is None else sample.value
