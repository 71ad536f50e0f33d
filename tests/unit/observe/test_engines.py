"""What each engine did, from one query's answer; absent, still or misnamed series give no sample."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sluice.model.engine_sample import EngineSample
from sluice.observe.engines import TERMS, engine_samples
from sluice.observe.prometheus import Failure, QueryError
from sluice.observe.promql import KEY_LABEL, NEWEST_SUFFIX, TERM_LABEL, Series

NOW = 1000.0
ADDRESS = "10.0.0.1:8000"
COMPLETE = {
    "generated": 2000.0,
    "generated" + NEWEST_SUFFIX: 995.0,
    "running": 20.0,
    "iterations": 100.0,
    "gap_sum": 20.0,
    "gap_count": 2000.0,
    "prompted": 10000.0,
    "prompt_sum": 10000.0,
    "prompt_count": 8.0,
    "computed_sum": 8000.0,
    "computed_count": 8.0,
    "prefill_sum": 0.4,
    "prefill_count": 8.0,
}
SAMPLE = EngineSample(
    at_seconds=995.0,
    inter_token_seconds=0.01,
    running=20.0,
    generation_rate=2000.0,
    prompt_rate=8000.0,
    prompt_tokens=1000.0,
    iteration_rate=100.0,
    prefill_seconds=0.05,
)


class Prometheus:
    """Answers with given series, or fails."""

    def __init__(self, answers: Mapping[str, Mapping[str, float]] | None) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def query(self, promql: str, at_seconds: float) -> tuple[Series, ...]:
        assert at_seconds == NOW
        self.asked.append(promql)
        if self.answers is None:
            raise QueryError(Failure.UNREACHABLE, "away")
        return tuple(
            Series(labels={KEY_LABEL: address, TERM_LABEL: term}, value=value)
            for address, terms in self.answers.items()
            for term, value in terms.items()
        )

    async def close(self) -> None:
        pass


async def samples(prometheus: Prometheus, *addresses: str) -> Mapping[str, EngineSample]:
    return await engine_samples(prometheus, addresses, NOW, window_seconds=60.0, maximum_age_seconds=60.0)


async def test_a_complete_answer_is_a_sample() -> None:
    prometheus = Prometheus({ADDRESS: COMPLETE})
    assert await samples(prometheus, ADDRESS) == {ADDRESS: SAMPLE}
    (asked,) = prometheus.asked
    assert all(term.metric in asked for term in TERMS)
    assert r"10\\.0\\.0\\.1:8000" in asked


@pytest.mark.parametrize("absent", ["generated", "generated" + NEWEST_SUFFIX, "running", "gap_sum", "gap_count"])
async def test_without_a_needed_series_there_is_no_sample(absent: str) -> None:
    rest = {term: value for term, value in COMPLETE.items() if term != absent}
    assert await samples(Prometheus({ADDRESS: rest}), ADDRESS) == {}


async def test_an_engine_that_stood_still_has_no_sample() -> None:
    still = COMPLETE | {"gap_sum": 0.0, "gap_count": 0.0, "generated": 0.0}
    assert await samples(Prometheus({ADDRESS: still}), ADDRESS) == {}


async def test_what_not_every_engine_tells_is_left_open() -> None:
    bare = {term: value for term, value in COMPLETE.items() if not term.startswith(("iterations", "prefill"))}
    sample = (await samples(Prometheus({ADDRESS: bare}), ADDRESS))[ADDRESS]
    assert (sample.iteration_rate, sample.prefill_seconds) == (None, None)


@pytest.mark.parametrize(
    ("change", "rate"),
    [
        pytest.param({"prompted": 20000.0}, 16000.0, id="what clients that went away had cost is counted"),
        pytest.param({"prompt_sum": 0.0, "computed_sum": 0.0}, 10000.0, id="nobody finished yet"),
    ],
)
async def test_prompt_tokens_are_those_that_were_computed(change: dict[str, float], rate: float) -> None:
    sample = (await samples(Prometheus({ADDRESS: COMPLETE | change}), ADDRESS))[ADDRESS]
    assert sample.prompt_rate == rate


async def test_other_peoples_engines_are_left_out() -> None:
    assert await samples(Prometheus({"10.9.9.9:8000": COMPLETE}), ADDRESS) == {}


async def test_no_answer_is_no_sample_and_no_replica_is_no_question() -> None:
    assert await samples(Prometheus(None), ADDRESS) == {}
    prometheus = Prometheus({})
    assert await samples(prometheus) == {}
    assert prometheus.asked == []
