"""A plan that stays is confirmed now and then, so that who reads it can tell it from one that nobody holds. Pure.

A plan that agrees with the standing one is not written again, for hours where load is steady.
The gate trusts a plan for an hour: without a sign in between it would take a steady fleet for
one whose operator is gone.
"""

from __future__ import annotations

CONFIRM_SECONDS = 600.0
"""How often at most: well within the hour, and far from every pass."""


def is_due(told_at: float | None, confirmed_at: float | None) -> bool:
    """Whether the plan that stood at ``confirmed_at`` is to be confirmed again; both in epoch seconds.

    None: never told, and not confirmed now. A clock that was set back does not put it off.
    """
    if confirmed_at is None:
        return False
    return told_at is None or abs(confirmed_at - told_at) >= CONFIRM_SECONDS
