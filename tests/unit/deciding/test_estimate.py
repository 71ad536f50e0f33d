"""Samples to demand: what is measured, what is held, what is only declared."""

from dataclasses import replace

import pytest
from tests.values import pool

from sluice.deciding.estimate import EstimateMemory, estimate, implied_by_requests_in_flight
from sluice.model.fleet import Fleet, MetricsSettings, WorkloadClass
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.signal import Gap, GapReason, Sample, Signal, Source
from sluice.model.snapshot import ClassSamples, Observation, PoolSupply, Snapshot

NOW = 1_000_000.0
POOL = pool("a100")
FLEET = Fleet(
    namespace="default", name="llama", pools=(POOL,), metrics=MetricsSettings(prometheus_url="http://prometheus")
)
CHAT = WorkloadClass(
    name="chat",
    prompt_token_price=0.1,
    output_token_price=0.2,
    prior_rate=3.0,
    prior_prompt_tokens=1000.0,
    prior_output_tokens=200.0,
)


def sample(value: float, age: float = 0.0) -> Sample:
    return Sample(value=value, at_seconds=NOW - age, source=Source.ENVOY)


def snapshot(samples: dict[Signal, Sample], *, now: float = NOW, gap: GapReason | None = None) -> Snapshot:
    gaps = {} if gap is None else {Signal.OFFERED_RATE: Gap(signal=Signal.OFFERED_RATE, tried=((Source.ENVOY, gap),))}
    problems = (
        ()
        if gap is not GapReason.UNREACHABLE
        else (
            Finding(
                condition=ConditionType.METRICS_AVAILABLE, reason=Reason.PROMETHEUS_UNREACHABLE, message="no answer"
            ),
        )
    )
    return Snapshot(
        now=now,
        fleet=FLEET,
        classes=(CHAT,),
        supplies=(PoolSupply(pool="a100", ready=4, source=Source.ENDPOINTS),),
        observation=Observation(classes={"chat": ClassSamples(samples=samples, gaps=gaps)}, problems=problems),
    )


def test_a_measured_rate_beats_the_prior() -> None:
    demand, _ = estimate(snapshot({Signal.OFFERED_RATE: sample(7.0)}), EstimateMemory())
    assert (demand.of("chat").rate.value, demand.of("chat").rate.source) == (7.0, Source.ENVOY)


def test_a_true_zero_is_a_measurement() -> None:
    demand, _ = estimate(snapshot({Signal.OFFERED_RATE: sample(0.0)}), EstimateMemory())
    assert (demand.of("chat").rate.value, demand.of("chat").rate.source) == (0.0, Source.ENVOY)


@pytest.mark.parametrize("gap", list(GapReason))
def test_a_missing_sample_is_never_zero(gap: GapReason) -> None:
    demand, _ = estimate(snapshot({}, gap=gap), EstimateMemory())
    assert (demand.of("chat").rate.value, demand.of("chat").rate.source) == (3.0, Source.PRIOR)


def test_the_last_good_sample_is_held_and_its_age_told() -> None:
    _, memory = estimate(snapshot({Signal.OFFERED_RATE: sample(7.0)}), EstimateMemory())
    demand, _ = estimate(snapshot({}, now=NOW + 100, gap=GapReason.STALE), memory)
    assert (demand.of("chat").rate.value, demand.of("chat").rate.age_seconds) == (7.0, 100.0)


def test_beyond_the_blind_horizon_the_prior_returns() -> None:
    _, memory = estimate(snapshot({Signal.OFFERED_RATE: sample(7.0)}), EstimateMemory())
    later = NOW + FLEET.control.blind_after_seconds + 1
    demand, _ = estimate(snapshot({}, now=later, gap=GapReason.STALE), memory)
    assert demand.of("chat").rate.source is Source.PRIOR


def test_uncached_prompt_tokens_follow_all_prompt_tokens_where_the_engine_does_not_tell() -> None:
    demand, _ = estimate(snapshot({Signal.PROMPT_TOKENS: sample(1500.0)}), EstimateMemory())
    assert demand.of("chat").uncached_prompt_tokens.value == 1500.0


class TestBlindness:
    def test_a_fleet_before_its_first_write_is_not_blind(self) -> None:
        demand, _ = estimate(snapshot({}, gap=GapReason.NO_SERIES), EstimateMemory())
        assert demand.blind_since is None

    def test_a_series_that_vanished_is_blindness(self) -> None:
        _, memory = estimate(snapshot({Signal.OFFERED_RATE: sample(7.0)}), EstimateMemory())
        demand, _ = estimate(snapshot({}, now=NOW + 10, gap=GapReason.NO_SERIES), memory)
        assert demand.blind_since == NOW + 10

    def test_blindness_counts_from_its_first_pass(self) -> None:
        _, memory = estimate(snapshot({}, gap=GapReason.UNREACHABLE), EstimateMemory())
        demand, memory = estimate(snapshot({}, now=NOW + 60, gap=GapReason.UNREACHABLE), memory)
        assert demand.blind_since == NOW
        demand, _ = estimate(snapshot({Signal.OFFERED_RATE: sample(1.0)}, now=NOW + 70), memory)
        assert demand.blind_since is None

    def test_a_fleet_without_prometheus_is_declared_not_blind(self) -> None:
        view = snapshot({}, gap=GapReason.NOT_CONFIGURED)
        view = replace(view, fleet=replace(FLEET, metrics=MetricsSettings()))
        demand, _ = estimate(view, EstimateMemory())
        assert demand.blind_since is None


class TestOutputLengthBias:
    """After a change the short answers complete first; requests in flight know better."""

    @staticmethod
    def samples(in_flight: float, output: float) -> dict[Signal, Sample]:
        return {
            Signal.OUTPUT_TOKENS: sample(output),
            Signal.IN_FLIGHT: sample(in_flight),
            Signal.ADMITTED_RATE: sample(2.0),
            Signal.TTFT: sample(1.0),
            Signal.TPOT: sample(0.02),
        }

    def test_littles_law_recovers_the_length(self) -> None:
        # 2 requests/s that take 1 s + 199 * 0.02 s each are 9.96 in flight
        implied = implied_by_requests_in_flight(self.samples(in_flight=9.96, output=200))
        assert implied == pytest.approx(200.0)

    def test_long_answers_still_running_lengthen_the_estimate(self) -> None:
        demand, _ = estimate(snapshot(self.samples(in_flight=9.96, output=100)), EstimateMemory())
        assert demand.of("chat").output_tokens.value == pytest.approx(200.0)

    def test_agreement_within_noise_changes_nothing(self) -> None:
        demand, _ = estimate(snapshot(self.samples(in_flight=9.96, output=190)), EstimateMemory())
        assert demand.of("chat").output_tokens.value == 190.0

    def test_the_correction_is_bounded(self) -> None:
        demand, _ = estimate(snapshot(self.samples(in_flight=500, output=100)), EstimateMemory())
        assert demand.of("chat").output_tokens.value == 400.0

    def test_a_backlog_is_not_taken_for_long_answers(self) -> None:
        """Ten seconds of waiting for half a second of decode: the limit must not follow the queue."""
        samples = {**self.samples(in_flight=40.0, output=22), Signal.TTFT: sample(10.0)}
        demand, _ = estimate(snapshot(samples), EstimateMemory())
        assert demand.of("chat").output_tokens.value == 22.0

    def filling_up(self, completed: float, **changed: float) -> dict[Signal, Sample]:
        """A minute after the first request: 2/s arrived, 60 decode on the mean, few have completed, and briefly."""
        samples = self.samples(in_flight=changed.get("in_flight", 62.0), output=440)
        return {
            **samples,
            Signal.COMPLETED_RATE: sample(completed),
            Signal.TTFT: sample(changed.get("ttft", 1.0)),
            Signal.TPOT: sample(0.02),
        }

    @pytest.mark.parametrize(
        ("completed", "changed", "tokens"),
        [
            pytest.param(3.0, {}, (10 * 440 + 180 * 1001) / 190, id="60 decoding over 3/s is 20 s, at 20 ms a token"),
            pytest.param(0.5, {}, 1760.0, id="the correction is bounded"),
            pytest.param(0.05, {"in_flight": 5.0}, (10 * 440 + 3 * 3001) / 13, id="three answers weigh little"),
            pytest.param(60.0, {}, 110.0, id="so is a shorter length"),
            pytest.param(10.0, {}, (10 * 440 + 600 * 301) / 610, id="after a tightening the completed are too long"),
            pytest.param(3.0, {"ttft": 20.0}, 440.0, id="most of what is in flight waits: it speaks of a queue"),
            pytest.param(3.0, {"in_flight": 1.9}, 440.0, id="too few in flight to judge"),
            pytest.param(0.0, {}, 440.0, id="nothing completed, nothing told"),
        ],
    )
    def test_completions_tell_the_length_while_a_fleet_fills_up(
        self, completed: float, changed: dict[str, float], tokens: float
    ) -> None:
        demand, _ = estimate(snapshot(self.filling_up(completed, **changed)), EstimateMemory())
        assert demand.of("chat").output_tokens.value == pytest.approx(tokens)

    def test_an_estimate_is_never_shortened(self) -> None:
        demand, _ = estimate(snapshot(self.samples(in_flight=3.0, output=400)), EstimateMemory())
        assert demand.of("chat").output_tokens.value == 400.0


def test_memory_of_a_deleted_class_is_dropped() -> None:
    _, memory = estimate(snapshot({Signal.OFFERED_RATE: sample(7.0)}), EstimateMemory())
    _, memory = estimate(replace(snapshot({}), classes=()), memory)
    assert memory.last == {}


def test_traffic_of_no_class_is_held_while_it_cannot_be_measured() -> None:
    seen = replace(snapshot({}), observation=Observation(unmatched_rate=sample(3.0)))
    _, memory = estimate(seen, EstimateMemory())
    demand, memory = estimate(snapshot({}, now=NOW + 60), memory)
    assert demand.unmatched_rate == 3.0
    demand, _ = estimate(snapshot({}, now=NOW + FLEET.control.blind_after_seconds + 1), memory)
    assert demand.unmatched_rate == 0.0
