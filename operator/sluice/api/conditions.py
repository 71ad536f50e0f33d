"""Conditions in status: the Kubernetes condition document and the one way to change a list of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from sluice.api.base import Reported
from sluice.model.reasons import ConditionType, Reason

Status = Literal["True", "False", "Unknown"]

MESSAGE_MAX_LENGTH = 1024
"""Longer messages are cut: one runaway list of names must not fill etcd."""


class Condition(Reported):
    """One observation about the object, in the shape of metav1.Condition."""

    type: str = Field(max_length=64, description="What is observed; positive words are good when True.")
    status: Status = Field(description="True, False or Unknown.")
    reason: str = Field(min_length=1, max_length=64, description="Why, in one CamelCase word; see crds/README.md.")
    message: str = Field(
        default="", max_length=MESSAGE_MAX_LENGTH, description="The same for people, with names and figures."
    )
    last_transition_time: str = Field(max_length=32, description="When status last changed, RFC 3339, UTC.")
    observed_generation: int = Field(default=0, ge=0, description="Generation of the spec that was judged.")


def set_condition(
    conditions: Sequence[Condition],
    type: ConditionType,  # noqa: A002 - the field's name in every Kubernetes API
    status: Status,
    reason: Reason,
    message: str,
    *,
    generation: int,
    now_rfc3339: str,
) -> tuple[tuple[Condition, ...], bool]:
    """Put one condition into a list; say whether anything but the generation changed.

    ``lastTransitionTime`` moves only when ``status`` flips, so that "for how long" can be
    trusted. The order of the list stays; a new type goes to its end.
    """
    previous = next((condition for condition in conditions if condition.type == type), None)
    cut = message if len(message) <= MESSAGE_MAX_LENGTH else message[: MESSAGE_MAX_LENGTH - 1] + "…"
    flipped = previous is None or previous.status != status
    entry = Condition(
        type=type.value,
        status=status,
        reason=reason.value,
        message=cut,
        last_transition_time=now_rfc3339 if previous is None or flipped else previous.last_transition_time,
        observed_generation=generation,
    )
    if previous is None:
        return (*conditions, entry), True
    changed = flipped or (previous.reason, previous.message) != (entry.reason, entry.message)
    return tuple(entry if condition.type == type else condition for condition in conditions), changed


def clear_condition(conditions: Sequence[Condition], type: ConditionType) -> tuple[tuple[Condition, ...], bool]:  # noqa: A002 - as above
    """Take a condition out: negative ones (Stalled, Degraded) are present only when true."""
    kept = tuple(condition for condition in conditions if condition.type != type)
    return kept, len(kept) != len(conditions)
