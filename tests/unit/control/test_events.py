"""Events are the difference between what was said and what is said."""

from __future__ import annotations

import pytest

from sluice.api.conditions import Condition, Status
from sluice.control.events import MESSAGE_LIMIT, Event, EventType, Subject, movements, transitions
from sluice.model.decision import ClassTarget, Targets

SUBJECT = Subject("InferenceFleet", "default", "fleet", "u1")
ALL = frozenset({"Solved", "Degraded", "Programmed"})


def condition(type_: str, status: Status, reason: str, message: str = "because") -> Condition:
    return Condition(type=type_, status=status, reason=reason, message=message, last_transition_time="")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param(None, ("Solved", "True", "Optimal"), [], id="a good start is no news"),
        pytest.param(None, ("Solved", "False", "NoReplicas"), [("Warning", "NoReplicas")], id="a bad start is"),
        pytest.param(
            ("Solved", "True", "Optimal"),
            ("Solved", "False", "NoReplicas"),
            [("Warning", "NoReplicas")],
            id="a turn for the worse",
        ),
        pytest.param(
            ("Solved", "False", "NoReplicas"),
            ("Solved", "True", "Optimal"),
            [("Normal", "Optimal")],
            id="a turn for the better",
        ),
        pytest.param(
            ("Solved", "False", "NoReplicas"), ("Solved", "False", "NoReplicas"), [], id="the same again is no news"
        ),
        pytest.param(
            ("Solved", "False", "NoReplicas"),
            ("Solved", "False", "SolverFailed"),
            [("Warning", "SolverFailed")],
            id="another reason is news",
        ),
        pytest.param(("Solved", "True", "Optimal"), ("Solved", "Unknown", "Pending"), [], id="doubt is not told"),
        pytest.param(None, ("Degraded", "True", "Held"), [("Warning", "Held")], id="negative ones are bad when true"),
        pytest.param(None, ("Programmed", "False", "NotEnforcing"), [], id="what the user chose is no news"),
        pytest.param(None, ("Ready", "False", "NoReplicas"), [], id="the summary would repeat"),
    ],
)
def test_transitions(
    before: tuple[str, Status, str] | None, after: tuple[str, Status, str], told: list[tuple[str, str]]
) -> None:
    known = [condition(*before)] if before else []
    events = transitions(SUBJECT, known, [condition(*after)], ALL)
    assert [(event.type.value, event.reason) for event in events] == told


def test_messages_are_bounded() -> None:
    events = transitions(SUBJECT, [], [condition("Solved", "False", "NoReplicas", "x" * 1000)], ALL)
    assert len(events[0].message) == MESSAGE_LIMIT


def test_equal_events_have_equal_digests_and_others_do_not() -> None:
    one = Event(SUBJECT, EventType.NORMAL, "Optimal", "plan a")
    assert one.digest == Event(SUBJECT, EventType.NORMAL, "Optimal", "plan a").digest
    assert one.digest != Event(SUBJECT, EventType.NORMAL, "Optimal", "plan b").digest


def target(name: str, rate: float | None, weight: int = 1000) -> ClassTarget:
    weights = (("a", weight), ("b", 1000 - weight))
    return ClassTarget(name=name, rate_limit=rate, in_flight_limit=None, fence=None, weights=weights)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param([], [target("chat", None)], [], id="an unlimited class appears"),
        pytest.param([], [target("chat", 5)], ["LimitsChanged: chat open -> 5/s"], id="a first limit"),
        pytest.param([target("chat", 5)], [target("chat", 5)], [], id="nothing moves"),
        pytest.param([target("chat", 5)], [target("chat", None)], ["LimitsChanged: chat 5/s -> open"], id="released"),
        pytest.param(
            [target("chat", 5, 700)],
            [target("chat", 5, 600)],
            ["WeightsChanged: chat: a 700->600, b 300->400"],
            id="weights move",
        ),
    ],
)
def test_movements(before: list[ClassTarget], after: list[ClassTarget], told: list[str]) -> None:
    events = movements(SUBJECT, Targets(plan_id="x", classes=tuple(before)), Targets(plan_id="y", classes=tuple(after)))
    assert [f"{event.reason}: {event.message}" for event in events] == told


def test_a_class_that_is_gone_is_told_with_what_that_means() -> None:
    events = movements(SUBJECT, Targets(plan_id="x", classes=(target("chat", 5),)), Targets(plan_id="y", classes=()))
    assert [event.reason for event in events] == ["ClassRemoved"]
    assert "chat" in events[0].message


@pytest.mark.parametrize(
    ("rates", "told"),
    [
        pytest.param((None, 12), ["chat open -> 12/s, on its way to 4/s"], id="it sets out"),
        pytest.param((12, 9.6), [], id="it is on its way"),
        pytest.param((4.8, 4.2), ["chat 4.8/s -> 4.2/s"], id="it has arrived, within the dead band"),
        pytest.param((5, 4), ["chat 5/s -> 4/s"], id="it has arrived"),
        pytest.param((4, 6), ["chat 4/s -> 6/s"], id="it loosens"),
        pytest.param((4, None), ["chat 4/s -> open"], id="it goes"),
    ],
)
def test_a_limit_that_tightens_step_by_step_is_told_at_both_ends(
    rates: tuple[float | None, float | None], told: list[str]
) -> None:
    before, after = (Targets(plan_id="x", classes=(target("chat", rate),)) for rate in rates)
    assert [event.message for event in movements(SUBJECT, before, after, {"chat": 4.0})] == told


def test_a_limit_on_its_way_to_next_to_nothing_says_so_without_an_exponent() -> None:
    after = Targets(plan_id="y", classes=(target("chat", 3.0),))
    (event,) = movements(SUBJECT, Targets(plan_id="x", classes=(target("chat", None),)), after, {"chat": 1.4e-7})
    assert event.message == "chat open -> 3/s, on its way to 0.001/s"
