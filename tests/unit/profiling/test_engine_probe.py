"""From arrival times to iteration times: pure arithmetic, with lateness as networks have it."""

from __future__ import annotations

import itertools
import random
from statistics import median

import pytest

from sluice_profiling.engine_command import own_view
from sluice_profiling.engine_probe import BLOCK_GAPS, arrival_nearest, batches, block_means, mixed_seconds
from sluice_profiling.grid import Range

SOLO, MIXED = 0.020, 0.050
LIMITS = Range(operating_batch=16, largest_batch=64, smallest_chunk=32, largest_chunk=512, context_tokens=128)


def arrivals(count: int, mixed_at: int, lateness: float = 0.0, seed: int = 0) -> list[float]:
    """Arrival times of a stream with one mixed iteration, each late by up to ``lateness``."""
    generator = random.Random(seed)
    gaps = [MIXED if index == mixed_at else SOLO for index in range(count)]
    return [moment + generator.uniform(0, lateness) for moment in itertools.accumulate(gaps)]


def test_a_mixed_iteration_is_exact_without_lateness() -> None:
    assert mixed_seconds(arrivals(20, 10), 10, SOLO) == pytest.approx(MIXED)


def test_lateness_widens_and_does_not_shift() -> None:
    seen = [mixed_seconds(arrivals(20, 10, lateness=0.005, seed=seed), 10, SOLO) for seed in range(200)]
    assert median(seen) == pytest.approx(MIXED, rel=0.01)


def test_one_late_token_does_not_count() -> None:
    times = arrivals(20, 10)
    times[12] += 0.015
    assert mixed_seconds(times, 10, SOLO) == pytest.approx(MIXED)


def test_decode_only_iterations_are_means_over_whole_blocks() -> None:
    times = arrivals(3 * BLOCK_GAPS + 2, mixed_at=-1)
    assert block_means(times) == pytest.approx([SOLO] * 3)


@pytest.mark.parametrize(
    ("offset", "found"),
    [
        pytest.param(0.0, 10, id="the same moment"),
        pytest.param(0.004, 10, id="a little later"),
        pytest.param(-0.004, 10, id="a little earlier"),
        pytest.param(-0.025, None, id="in the middle of a long iteration"),
    ],
)
def test_the_probes_token_names_its_iteration(offset: float, found: int | None) -> None:
    times = arrivals(20, 10)
    assert arrival_nearest(times, times[10] + offset, SOLO) == found


def test_too_few_tokens_before_the_probe_name_no_iteration() -> None:
    times = arrivals(20, 1)
    assert arrival_nearest(times, times[1], SOLO) is None


def test_the_operating_batch_is_probed_first_and_densest() -> None:
    plan = batches(LIMITS)
    assert plan[0] == (15, (32, 64, 128, 256, 512))
    assert [carriers for carriers, _ in plan[1:]] == [1, 7, 63]
    assert all(len(chunks) < 5 for _, chunks in plan[1:])


def test_the_engines_own_view_and_its_preemptions_are_told() -> None:
    before = {"vllm:inter_token_latency_seconds_count": 10.0, "vllm:inter_token_latency_seconds_sum": 1.0}
    after = {
        "vllm:inter_token_latency_seconds_count": 110.0,
        "vllm:inter_token_latency_seconds_sum": 3.0,
        "vllm:num_preemptions_total": 2.0,
    }
    mean, warning = own_view(before, after)
    assert "20.000 ms over 100" in mean
    assert "preempted 2 sequences" in warning
    assert own_view({}, {}) == []
