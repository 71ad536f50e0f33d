"""The order of the gate as compiled kernels: which class may start its next prefill.

A *lane* is the queue of one class as the gate sees it. The simulator keeps the lanes up
to date event by event and calls ``choose``; the live gate builds or keeps the same
records and calls the same function. Every rule looks at the heads of lanes only: inside
a class it is first come first served.

A lane has two queues: *live* requests, which can still keep their promise, and *late*
ones, which cannot (their latest start has passed). A rule that ignores promises leaves
all requests live.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from sluice.policy.compiled import compiled, inner
from sluice.policy.timely import choose_timely, cost_of_late


class Order(IntEnum):
    """Which waiting class goes first."""

    ARRIVAL = 0
    """First come, first served over all classes."""
    OCCUPANCY = 1
    """Furthest below the planned prefill occupancy (paper section 4.1)."""
    INDEX = 2
    """Highest static index: value per token (section 4.2.1 with D/P; token row; prefill row)."""
    QUEUE = 3
    """Longest queue above the planned queue (the paper's section 6.3 calls its gate queue-length based)."""
    BANDS = 4
    """Fully planned classes, then rationed ones that hold credit, then the rest."""
    DEADLINE = 5
    """Earliest promise first."""
    TIMELY = 6
    """By value for what is scarce, and by promise as far as value allows it (``sluice.policy.timely``)."""


class Late(IntEnum):
    """What becomes of a request that can no longer keep its promise."""

    IGNORE = 0
    """Nothing: promises play no part."""
    LAST = 1
    """It waits in a lower band and takes what would stand idle."""
    REFUSE = 2
    """It is refused at once."""


BAND_FULL, BAND_RATIONED, BAND_IDLE = 0, 1, 2

LANE = np.dtype(
    [
        # What the gate sees.
        ("waiting", "i8"),  # live requests
        ("late", "i8"),  # late requests
        ("head_arrival", "f8"),  # of the first live request, seconds
        ("head_latest", "f8"),  # its latest start that keeps the promise, seconds
        ("late_arrival", "f8"),  # of the first late request
        ("late_prompt", "f8"),  # its tokens to compute
        ("in_prefill", "i8"),  # started, first token not yet seen
        # What the plan says.
        ("target", "f8"),  # prefills in service, x* of the fleet
        ("queue_target", "f8"),  # requests waiting, q_p* of the fleet
        ("rate", "f8"),  # admitted requests per second, z* of the fleet
        ("arrivals", "f8"),  # requests per second that come, at least the admitted ones
        ("index", "f8"),  # value per unit of the binding resource
        ("band", "i8"),
        # What the class is promised, and what the law says of its prompts.
        ("promise", "f8"),  # TTFT target, seconds; inf: none
        ("mean_prompt", "f8"),  # tokens to compute
        ("value", "f8"),  # money per request
        ("busy", "f8"),  # engine-seconds that a request adds to iterations
        ("hold", "f8"),  # engine-seconds that it takes of all slots
        ("memory", "f8"),  # engine-seconds that it takes of the KV memory
        ("floor", "f8"),  # requests per second that are guaranteed
        ("tier", "i8"),  # a lower one goes first
        # What the rule remembers.
        ("credit", "f8"),  # requests that a rationed or guaranteed class may start now
        # What one choice works out.
        ("worth", "f8"),  # value per engine-second of what is scarce
        ("turn", "f8"),  # seconds by which a start puts off the next one
        ("demand", "f8"),  # seconds of turns due before the newest request's last moment
        ("kept", "i8"),  # 1: everything in the lane can be started in time
    ],
    align=True,
)

RULE = np.dtype(
    [
        ("order", "i8"),
        ("late", "i8"),
        ("cap", "i8"),  # 1: no class above its planned occupancy
        ("own_prompt", "i8"),  # 1: the request's own prompt tells its latest start, 0: the class mean
        ("prefill_seconds", "f8"),  # seconds per prompt token, for the latest start
        ("margin", "f8"),  # seconds kept in hand before a promise counts as lost
        ("credit_seconds", "f8"),  # depth of the credit bucket
        ("accrued", "f8"),  # when credit was last added, seconds
        ("late_share", "f8"),  # share of replicas that must have budget before a late request starts
        ("late_tokens", "f8"),  # unfinished prompt tokens that its replica may hold
        # TIMELY.
        ("engines", "f8"),
        ("spoken", "f8"),  # share of the time to a promise that may be spoken for
        ("guard", "f8"),  # slack below which a promise is in danger, seconds
        ("horizon", "f8"),  # seconds that a request without a promise counts as able to wait
        ("price_seconds", "f8"),  # time in which prices move by a factor e; inf: they stay
        ("prefill_price", "f8"),
        ("slot_price", "f8"),
        ("memory_price", "f8"),
        ("watched", "f8"),  # when prices last moved, seconds
        ("tilt", "f8"),  # by how many factors e the slot price falls on an engine that is all free
        ("room", "f8"),  # share of slots that the next start leaves free on its engine; 0 where nobody knows
    ],
    align=True,
)

NOBODY = -1
Lanes = Any
"""Record array of ``LANE``; numpy's types cannot say so."""
Rule = Any
"""One record of ``RULE``."""


@compiled
def latest_start(rule: Rule, lane: Rule, arrival: float, prompt: float) -> float:
    """Latest start of a prefill that keeps the promise, seconds."""
    tokens = prompt if rule.own_prompt else lane.mean_prompt
    return float(arrival + lane.promise - rule.margin - tokens * rule.prefill_seconds)


@inner
def may_start(rule: Rule, lane: Rule) -> bool:
    """Whether the cap (model page section 3.6) lets the class start one more prefill."""
    return not rule.cap or lane.in_prefill < np.ceil(lane.target - 1e-9)


@inner
def occupancy_deviation(lane: Rule) -> float:
    """The paper's xi = (X - n x*)/x*, relative to the fleet; a class without a target comes last."""
    if lane.target <= 1e-9:
        return np.inf
    return float((lane.in_prefill - lane.target) / lane.target)


@inner
def _score(rule: Rule, lane: Rule) -> float:
    """Rank of a live head: the highest goes first."""
    if rule.order == 0:  # ARRIVAL
        return float(-lane.head_arrival)
    if rule.order == 1:  # OCCUPANCY
        return -occupancy_deviation(lane)
    if rule.order == 2:  # INDEX
        return float(lane.index)
    if rule.order == 3:  # QUEUE
        return float(lane.waiting - lane.queue_target)
    return float(-(lane.head_arrival + lane.promise))  # DEADLINE


@inner
def _band(lane: Rule) -> int:
    """The band in force: a rationed class without credit falls to the lowest."""
    if lane.band == 1 and lane.credit < 1.0:
        return 2
    return int(lane.band)


@inner
def _band_score(lane: Rule, band: int) -> float:
    """Inside a band: most overdue first where credit counts, else by index."""
    if band == 1:
        return float(lane.credit / max(lane.rate, 1e-12))
    return float(lane.index)


@inner
def _choose_by_band(rule: Rule, lanes: Lanes) -> int:
    best, best_band, best_score = -1, 3, -np.inf
    for i in range(len(lanes)):
        lane = lanes[i]
        if lane.waiting <= 0 or not may_start(rule, lane):
            continue
        band = _band(lane)
        score = _band_score(lane, band)
        if band < best_band or (band == best_band and score > best_score):
            best, best_band, best_score = i, band, score
    return best


@inner
def _choose_by_score(rule: Rule, lanes: Lanes) -> int:
    best, best_score, best_tie = -1, -np.inf, -np.inf
    for i in range(len(lanes)):
        lane = lanes[i]
        if lane.waiting <= 0 or not may_start(rule, lane):
            continue
        score = _score(rule, lane)
        tie = lane.waiting - lane.queue_target if rule.order == 1 else -lane.head_arrival
        if best < 0 or score > best_score or (score == best_score and tie > best_tie):
            best, best_score, best_tie = i, score, tie
    return best


@inner
def _choose_late(rule: Rule, lanes: Lanes) -> int:
    """Among late heads: the class of highest index; in the timely order the one that is least in the way."""
    best, best_score = -1, -np.inf
    for i in range(len(lanes)):
        if lanes[i].late <= 0:
            continue
        score = -cost_of_late(rule, lanes[i]) if rule.order == 6 else lanes[i].index
        if score > best_score:
            best, best_score = i, score
    return best


@compiled
def choose(rule: Rule, lanes: Lanes, now: float) -> int:
    """The lane whose live head starts next; ``len(lanes) + lane`` for a late head; -1: nobody."""
    if rule.order == 6:
        best = choose_timely(rule, lanes, now)
    elif rule.order == 4:
        best = _choose_by_band(rule, lanes)
    else:
        best = _choose_by_score(rule, lanes)
    if best >= 0:
        return best
    late = _choose_late(rule, lanes)
    return -1 if late < 0 else len(lanes) + late


@compiled
def late_may_start(rule: Rule, eligible: int, replicas: int, unfinished_tokens: float) -> bool:
    """Whether a late request may start: a reserve stays ready for requests that can still keep their promise.

    A prefill cannot be taken back, and the late are often the longest prompts: one that
    starts while a single replica is free blocks it for whoever arrives next.
    """
    return bool(eligible >= rule.late_share * replicas and unfinished_tokens <= rule.late_tokens)


@inner
def _has_credit(rule: Rule) -> bool:
    return bool(4 <= rule.order <= 6 and rule.order != 5)  # BANDS, TIMELY


@compiled
def accrue(rule: Rule, lanes: Lanes, now: float) -> None:
    """Add credit since the last call, up to the bucket's depth: at the planned rate, or at the guaranteed one."""
    elapsed = now - rule.accrued
    if not _has_credit(rule) or elapsed <= 0.0:
        return
    rule.accrued = now
    for i in range(len(lanes)):
        lane = lanes[i]
        rate = lane.rate if rule.order == 4 else lane.floor
        depth = max(1.0, rate * rule.credit_seconds)
        lane.credit = min(depth, lane.credit + rate * elapsed)


@compiled
def record_start(rule: Rule, lane: Rule) -> None:
    """Account for one started prefill."""
    lane.in_prefill += 1
    if _has_credit(rule):
        lane.credit = max(-1.0, lane.credit - 1.0)
