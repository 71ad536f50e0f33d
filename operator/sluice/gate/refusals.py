"""Why a request may not wait, and when its client shall come back."""

from __future__ import annotations

import math
import zlib

from sluice.gate.lanes import Lane
from sluice.gate.request import Phase, Refusal, Refused, Request

LONGEST_RETRY_SECONDS = 60.0


def over_bounds(lane: Lane, request: Request, wait_seconds: float) -> Refused | None:
    """Why a request that cannot start now may not wait either; it stands in its lane's queue."""
    terms = lane.terms
    if lane.waiting > terms.max_waiting:
        return Refused.QUEUE_FULL
    if request.key and lane.of_key(request.key) > max(1.0, terms.key_share * terms.max_waiting):
        return Refused.KEY_SHARE
    return Refused.WAIT_TOO_LONG if wait_seconds > terms.max_wait_seconds else None


def refuse(lane: Lane, request: Request, reason: Refused, wait_seconds: float = 0.0) -> Refusal:
    """A refusal with a time to come back, by the wait predicted now, that differs from request to request."""
    request.phase = Phase.OVER
    over = max(1.0, min(LONGEST_RETRY_SECONDS / 2, wait_seconds - _bearable_seconds(lane, reason)))
    jitter = zlib.crc32(request.request_id.encode()) / 0xFFFFFFFF
    return Refusal(request, reason, over * (1.0 + jitter), wait_seconds)


def _bearable_seconds(lane: Lane, reason: Refused) -> float:
    """Wait with which a request that comes back is of use: who waited in vain finds the prediction too short."""
    if reason is Refused.WAITED_TOO_LONG:
        return 0.0
    if reason is Refused.PROMISE_LOST and math.isfinite(lane.terms.promise_seconds):
        return lane.terms.promise_seconds
    return lane.terms.max_wait_seconds


def aged(lane: Lane, now: float) -> list[Request]:
    """What waited as long as its class allows."""
    moment = now - lane.terms.max_wait_seconds
    return lane.live.older_than(moment) + lane.late.older_than(moment)
