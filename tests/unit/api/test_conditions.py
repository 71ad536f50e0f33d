"""Conditions keep honest books: the time moves only when the status does."""

from __future__ import annotations

import pytest

from sluice.api.conditions import MESSAGE_MAX_LENGTH, Condition, Status, clear_condition, set_condition
from sluice.model.reasons import ConditionType, Reason

THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
BEFORE, _ = set_condition((), ConditionType.READY, "True", Reason.READY, "fine", generation=1, now_rfc3339=THEN)


@pytest.mark.parametrize(
    ("status", "reason", "message", "time", "changed"),
    [
        pytest.param("True", Reason.READY, "fine", THEN, False, id="the same again changes nothing"),
        pytest.param("True", Reason.READY, "still fine", THEN, True, id="other words keep the time"),
        pytest.param("True", Reason.HELD, "fine", THEN, True, id="another reason keeps the time"),
        pytest.param("False", Reason.HELD, "fine", NOW, True, id="another status moves the time"),
        pytest.param("Unknown", Reason.PENDING, "fine", NOW, True, id="unknown is a status of its own"),
    ],
)
def test_one_condition_set_again(status: Status, reason: Reason, message: str, time: str, changed: bool) -> None:
    (after,), did = set_condition(BEFORE, ConditionType.READY, status, reason, message, generation=2, now_rfc3339=NOW)
    assert did is changed
    assert after == Condition(
        type="Ready",
        status=status,
        reason=reason.value,
        message=message,
        last_transition_time=time,
        observed_generation=2,
    )


def test_a_new_condition_goes_to_the_end_and_others_stay() -> None:
    after, changed = set_condition(
        BEFORE, ConditionType.STALLED, "True", Reason.INVALID, "x", generation=1, now_rfc3339=NOW
    )
    assert changed
    assert [condition.type for condition in after] == ["Ready", "Stalled"]
    assert after[0] == BEFORE[0]
    assert clear_condition(after, ConditionType.STALLED) == (BEFORE, True)
    assert clear_condition(BEFORE, ConditionType.STALLED) == (BEFORE, False)


def test_a_long_message_is_cut_and_says_so() -> None:
    (after,), _ = set_condition(
        (), ConditionType.READY, "False", Reason.INVALID, "x" * 5000, generation=1, now_rfc3339=NOW
    )
    assert len(after.message) == MESSAGE_MAX_LENGTH
    assert after.message.endswith("…")
