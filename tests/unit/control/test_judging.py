"""Findings to conditions, and what keeps status still."""

from __future__ import annotations

import pytest

from sluice.api.workload_class import DemandStatus, EstimateStatus
from sluice.control import judging
from sluice.control.judging import Verdict
from sluice.control.settling import rounded, settled_demand, settled_message
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.signal import Source

EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-01T00:10:00Z"


def finding(condition: ConditionType, reason: Reason, message: str = "", *, blocking: bool = False) -> Finding:
    return Finding(condition=condition, reason=reason, message=message or reason.value, blocking=blocking)


def good(type_: ConditionType = ConditionType.SOLVED) -> Verdict:
    return Verdict(type_, "True", Reason.OPTIMAL, "fine")


@pytest.mark.parametrize(
    ("findings", "status", "reason"),
    [
        pytest.param([], "True", Reason.OPTIMAL, id="without findings the default stands"),
        pytest.param([Reason.NO_REPLICAS], "False", Reason.NO_REPLICAS, id="one bad finding decides"),
        pytest.param([Reason.OPTIMAL, Reason.NO_REPLICAS], "False", Reason.NO_REPLICAS, id="bad beats good"),
        pytest.param([Reason.PENDING, Reason.OPTIMAL], "Unknown", Reason.PENDING, id="unknown beats good"),
        pytest.param([Reason.PENDING, Reason.SOLVER_FAILED], "False", Reason.SOLVER_FAILED, id="bad beats unknown"),
    ],
)
def test_the_gravest_finding_decides(findings: list[Reason], status: str, reason: Reason) -> None:
    told = [finding(ConditionType.SOLVED, one) for one in findings]
    entry = judging.verdict(ConditionType.SOLVED, told, good())
    assert (entry.status, entry.reason) == (status, reason)


def test_many_findings_of_one_reason_are_listed_and_cut() -> None:
    told = [finding(ConditionType.RESOLVED_REFS, Reason.REPLICAS_UNKNOWN, f"pool {index}") for index in range(5)]
    entry = judging.verdict(ConditionType.RESOLVED_REFS, told, good())
    assert entry.message == "pool 0; pool 1; pool 2; and 2 more"


@pytest.mark.parametrize(
    ("bad", "enforcing", "status", "reason"),
    [
        pytest.param(None, True, "True", Reason.READY, id="all is well"),
        pytest.param((ConditionType.SOLVED, "False"), True, "False", Reason.PENDING, id="no plan"),
        pytest.param((ConditionType.METRICS_AVAILABLE, "False"), True, "True", Reason.READY, id="metrics may be away"),
        pytest.param((ConditionType.PROGRAMMED, "False"), True, "False", Reason.PENDING, id="not written"),
        pytest.param((ConditionType.PROGRAMMED, "False"), False, "True", Reason.READY, id="not written by choice"),
        pytest.param((ConditionType.EFFECTIVE, "Unknown"), True, "True", Reason.READY, id="nobody can tell"),
        pytest.param((ConditionType.EFFECTIVE, "False"), True, "False", Reason.PENDING, id="not obeyed"),
    ],
)
def test_ready_sums_up_what_applies(
    bad: tuple[ConditionType, str] | None, enforcing: bool, status: str, reason: Reason
) -> None:
    verdicts = [
        Verdict(type_, "True", Reason.OPTIMAL, "")
        if bad is None or bad[0] is not type_
        else Verdict(type_, "False" if bad[1] == "False" else "Unknown", Reason.PENDING, "")
        for type_ in judging.SUMMARY
    ]
    entry = judging.ready(verdicts, enforcing=enforcing)
    assert (entry.status, entry.reason) == (status, reason)


@pytest.mark.parametrize(
    ("reason", "holding", "shown"),
    [
        pytest.param(Reason.INVALID, "", {"Stalled"}, id="only an edit of the spec can help"),
        pytest.param(Reason.PROFILE_NOT_FOUND, "", set(), id="the world may heal"),
        pytest.param(Reason.OPTIMAL, "abc", set(), id="absence of trouble is silence"),
    ],
)
def test_negative_conditions_are_there_only_when_true(reason: Reason, holding: str, shown: set[str]) -> None:
    told = [finding(ConditionType.ACCEPTED, reason)]
    verdicts = [judging.verdict(ConditionType.ACCEPTED, told, good())]
    assert {entry.type.value for entry in judging.negatives([], verdicts, holding=holding)} == shown


def test_an_old_plan_that_stays_in_force_is_degraded() -> None:
    unsolved = Verdict(ConditionType.SOLVED, "False", Reason.NO_REPLICAS, "none")
    (entry,) = judging.negatives([], [unsolved], holding="abc")
    assert (entry.type, entry.reason) == (ConditionType.DEGRADED, Reason.HELD)
    assert "abc" in entry.message


def test_transition_times_move_only_when_status_flips() -> None:
    first = judging.conditions((), [good()], generation=1, now_rfc3339=EARLY)
    again = judging.conditions(first, [good()], generation=2, now_rfc3339=LATE)
    assert again[0].last_transition_time == EARLY
    assert again[0].observed_generation == 2
    bad = Verdict(ConditionType.SOLVED, "False", Reason.NO_REPLICAS, "")
    assert judging.conditions(again, [bad], generation=2, now_rfc3339=LATE)[0].last_transition_time == LATE


def test_a_negative_condition_goes_when_it_is_over() -> None:
    degraded = Verdict(ConditionType.DEGRADED, "True", Reason.HELD, "")
    before = judging.conditions((), [good(), degraded], generation=1, now_rfc3339=EARLY)
    after = judging.conditions(before, [good()], generation=1, now_rfc3339=LATE)
    assert [condition.type for condition in after] == ["Solved"]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param("no samples for 100 s", "no samples for 104 s", "no samples for 100 s", id="an age that ticks"),
        pytest.param("no samples for 100 s", "no samples for 150 s", "no samples for 150 s", id="an age that grew"),
        pytest.param("plan a1 stays", "plan b2 stays", "plan b2 stays", id="another name is news"),
        pytest.param("pool a: 3", "pool b: 3", "pool b: 3", id="another subject is news"),
        pytest.param("limit 12", "limit 40", "limit 40", id="another limit is news"),
        pytest.param("2e+03 of 10", "2.05e+03 of 10", "2e+03 of 10", id="exponents are figures"),
    ],
)
def test_messages_are_told_anew_only_for_news(before: str, after: str, told: str) -> None:
    assert settled_message(before, after) == told


@pytest.mark.parametrize(
    ("rate", "source", "age", "is_news"),
    [
        pytest.param(10.0, Source.ENVOY, 5.0, False, id="the age alone"),
        pytest.param(10.3, Source.ENVOY, 1.0, False, id="noise"),
        pytest.param(12.0, Source.ENVOY, 1.0, True, id="a change"),
        pytest.param(10.0, Source.PRIOR, 1.0, True, id="another source"),
    ],
)
def test_demand_is_told_anew_only_for_news(rate: float, source: Source, age: float, is_news: bool) -> None:
    def demand(value: float, origin: Source, seconds: float) -> DemandStatus:
        length = EstimateStatus(value=100, source=Source.VLLM)
        estimate = EstimateStatus(value=value, source=origin, age_seconds=seconds)
        return DemandStatus(rate=estimate, prompt_tokens=length, uncached_prompt_tokens=length, output_tokens=length)

    before, after = demand(10.0, Source.ENVOY, 1.0), demand(rate, source, age)
    assert settled_demand(before, after, 0.05) == (after if is_news else before)


@pytest.mark.parametrize(
    ("value", "text"), [(2977.16, "2977"), (4.6833, "4.68"), (0.0512, "0.0512"), (1.4e-07, "0"), (0.0, "0")]
)
def test_figures_for_people_have_no_exponent(value: float, text: str) -> None:
    assert rounded(value) == text
