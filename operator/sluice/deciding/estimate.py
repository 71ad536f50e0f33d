"""Samples to demand: what every class asks for, and how well we know it.

The order of trust for every number: a fresh sample; the last good sample while it is
younger than ``blind_after_seconds``; the class's declared prior. A missing sample is
never zero. The rate is the *offered* rate, refusals included: a plan fed with admitted
traffic would follow its own limits down.

Mean output lengths come from completed requests. After a change the short answers
complete first, so the mean is biased low while the long ones are still running: a fleet
that fills up with 2,500-token answers sees 450 tokens at first. The time spent decoding over
the answers completed counts what still runs, but is noise while few have completed; so it
weighs as many answers as it counts, beside the completed ones' own mean, which weighs ten
(``_weighed``). Where no engine counts completions, Little's law is the check, which is late
by a stay (``_lengthened``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeGuard

from sluice.model.demand import ClassDemand, Demand, Estimate
from sluice.model.fleet import WorkloadClass
from sluice.model.residence import implied_output_tokens, output_tokens_by_exposure, residence_seconds
from sluice.model.signal import GapReason, Sample, Signal, Source
from sluice.model.snapshot import ClassSamples, Snapshot

LARGEST_LENGTH_CORRECTION = 4.0
"""The mean of the completed may be lengthened or shortened by at most this factor."""
WEIGHT_OF_COMPLETED = 10.0
"""The completed requests' mean length counts for so many answers beside the count that decoding time comes with.

On simulated answers of 2,500 tokens the one is 10 to 15 % short even in a steady state, the
other right within 2 %, and off by up to 80 % in a fleet's first minute. To take the longer of
the two instead reads noise as length: 2 to 3 % too long, and near load 1 that rations.
"""
LENGTH_DISAGREEMENT = 1.25
"""Without a count of completions: below this ratio the two views of the output length agree (sampling noise)."""
LARGEST_WAIT_SHARE = 0.25
"""Where TTFT is a larger share of a request's stay, requests in flight are mostly a queue, with
clients in it that leave before their first token: they speak of a backlog, not of lengths. A
correction there would loosen the very limit that the backlog calls for."""
LARGEST_QUEUE_SHARE = 0.5
"""The same for the check by completions, as a share of the requests in flight: it takes the queue out
first, and what it cannot see (how long those waited who left) is small up to here."""
FEWEST_IN_FLIGHT_TO_JUDGE = 2.0
"""With fewer requests in flight the ratio is noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateMemory:
    """The last good sample of every (class, signal), and since when nothing is fresh."""

    last: Mapping[tuple[str, Signal], Sample] = field(default_factory=lambda: MappingProxyType({}))
    unmatched: Sample | None = None
    """The last good sample of traffic that belongs to no class."""
    blind_since: float | None = None


def estimate(snapshot: Snapshot, memory: EstimateMemory) -> tuple[Demand, EstimateMemory]:
    """The demand at ``snapshot.now``, and the memory for the next pass."""
    names = {workload.name for workload in snapshot.classes}
    last = {key: sample for key, sample in memory.last.items() if key[0] in names}
    for name in names:
        for signal, sample in _samples(snapshot, name).samples.items():
            last[(name, signal)] = sample
    unmatched = snapshot.observation.unmatched_rate or memory.unmatched
    blind_since = _blind_since(snapshot, memory)
    demand = Demand(
        classes=tuple(_class_demand(snapshot, workload, last) for workload in snapshot.classes),
        unmatched_rate=unmatched.value if _is_held(unmatched, snapshot) else 0.0,
        blind_since=blind_since,
    )
    return demand, EstimateMemory(last=MappingProxyType(last), unmatched=unmatched, blind_since=blind_since)


def _is_held(sample: Sample | None, snapshot: Snapshot) -> TypeGuard[Sample]:
    """Whether a sample, fresh or old, still counts."""
    return sample is not None and sample.age_seconds(snapshot.now) <= snapshot.fleet.control.blind_after_seconds


def _samples(snapshot: Snapshot, name: str) -> ClassSamples:
    return snapshot.observation.classes.get(name, ClassSamples())


def _blind_since(snapshot: Snapshot, memory: EstimateMemory) -> float | None:
    """Blind: metrics are configured, and no class has a fresh offered rate."""
    if snapshot.fleet.metrics.prometheus_url is None or not snapshot.classes:
        return None
    if any(Signal.OFFERED_RATE in _samples(snapshot, workload.name).samples for workload in snapshot.classes):
        return None
    if _never_measured(snapshot, memory):
        return None
    return snapshot.now if memory.blind_since is None else memory.blind_since


def _never_measured(snapshot: Snapshot, memory: EstimateMemory) -> bool:
    """Whether rates lack only because their series do not exist yet.

    A proxy creates a cluster's counters with its route, so a fleet before its first write
    has none. That is a start, not blindness; once measured, a vanished series is.
    """
    if snapshot.observation.problems or any(signal is Signal.OFFERED_RATE for _, signal in memory.last):
        return False
    gaps = (_samples(snapshot, workload.name).gaps.get(Signal.OFFERED_RATE) for workload in snapshot.classes)
    reasons = {reason for gap in gaps if gap is not None for _, reason in gap.tried}
    return reasons <= {GapReason.NO_SERIES, GapReason.TOO_YOUNG, GapReason.NOT_CONFIGURED}


def _class_demand(
    snapshot: Snapshot, workload: WorkloadClass, last: Mapping[tuple[str, Signal], Sample]
) -> ClassDemand:
    def best(signal: Signal, prior: float) -> Estimate:
        sample = last.get((workload.name, signal))
        if not _is_held(sample, snapshot):
            return Estimate(value=prior, source=Source.PRIOR)
        return Estimate(value=sample.value, source=sample.source, age_seconds=sample.age_seconds(snapshot.now))

    prompt = best(Signal.PROMPT_TOKENS, workload.prior_prompt_tokens)
    uncached = best(Signal.UNCACHED_PROMPT_TOKENS, prompt.value)
    if uncached.source is Source.PRIOR:
        uncached = prompt
    output = best(Signal.OUTPUT_TOKENS, workload.prior_output_tokens)
    return ClassDemand(
        name=workload.name,
        rate=best(Signal.OFFERED_RATE, workload.prior_rate),
        prompt_tokens=prompt,
        uncached_prompt_tokens=uncached,
        output_tokens=_unbiased_output(
            output, _samples(snapshot, workload.name).samples, snapshot.fleet.metrics.window_seconds
        ),
        patience_seconds=workload.patience_seconds,
    )


def _unbiased_output(output: Estimate, samples: Mapping[Signal, Sample], window_seconds: float) -> Estimate:
    """The output length with what still runs taken into account, as far as the samples allow."""
    if output.source is Source.PRIOR:
        return output
    completed = samples.get(Signal.COMPLETED_RATE)
    if completed is None:
        tokens = _lengthened(output.value, implied_by_requests_in_flight(samples))
    else:
        tokens = _weighed(output.value, implied_by_completions(samples), completed.value * window_seconds)
    least, most = output.value / LARGEST_LENGTH_CORRECTION, output.value * LARGEST_LENGTH_CORRECTION
    return Estimate(value=min(max(tokens, least), most), source=output.source, age_seconds=output.age_seconds)


def _weighed(mean_of_completed: float, implied: float | None, answers: float) -> float:
    """Both views, in tokens, by the answers that each stands for."""
    if implied is None:
        return mean_of_completed
    return (WEIGHT_OF_COMPLETED * mean_of_completed + answers * implied) / (WEIGHT_OF_COMPLETED + answers)


def _lengthened(mean_of_completed: float, implied: float | None) -> float:
    """The length that Little's law tells where it is clearly the longer one.

    Only lengthened: it is late by a stay, so after a tightening it would shorten, and a plan that
    believes in answers too long refuses a little early instead of drowning.
    """
    if implied is None or implied < LENGTH_DISAGREEMENT * mean_of_completed:
        return mean_of_completed
    return implied


def implied_by_completions(samples: Mapping[Signal, Sample]) -> float | None:
    """Mean output tokens that decoding time and completions speak for.

    None where one of the five signals is missing, nothing was completed, too few requests are in
    flight to judge, or most of them wait.
    """
    wanted = (Signal.IN_FLIGHT, Signal.ADMITTED_RATE, Signal.COMPLETED_RATE, Signal.TTFT, Signal.TPOT)
    values = [samples[signal].value for signal in wanted if signal in samples]
    if len(values) < len(wanted):
        return None
    in_flight, admitted, completed, ttft, tpot = values
    if in_flight < FEWEST_IN_FLIGHT_TO_JUDGE or admitted * ttft > LARGEST_QUEUE_SHARE * in_flight:
        return None
    return output_tokens_by_exposure(in_flight, admitted, completed, ttft, tpot)


def implied_by_requests_in_flight(samples: Mapping[Signal, Sample]) -> float | None:
    """Mean output tokens that the requests in flight speak for.

    None where one of the four signals is missing, too few requests are in flight to judge, or most of them wait.
    """
    in_flight, admitted = samples.get(Signal.IN_FLIGHT), samples.get(Signal.ADMITTED_RATE)
    ttft, tpot = samples.get(Signal.TTFT), samples.get(Signal.TPOT)
    if in_flight is None or admitted is None or ttft is None or tpot is None:
        return None
    stay = residence_seconds(in_flight.value, admitted.value)
    if stay is None or in_flight.value < FEWEST_IN_FLIGHT_TO_JUDGE or ttft.value > LARGEST_WAIT_SHARE * stay:
        return None
    return implied_output_tokens(in_flight.value, admitted.value, ttft.value, tpot.value)
