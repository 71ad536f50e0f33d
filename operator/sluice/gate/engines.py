"""What the gate believes of each engine.

Unfinished prefill tokens, exactly; slots, KV memory and queue, as last reported and as counted since.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sluice.gate.residents import Residents

PREEMPTION_HOLD_SECONDS = 1.0
"""An engine that preempted is left alone for two readings."""
READING_AGE_SECONDS = 5.0
"""An older reading says nothing: the guard it feeds is then open."""
KV_SHARE = 0.9
"""Of the engine's KV cache that may be resident or promised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One replica's gauges, as the engine exposes them."""

    running: float
    waiting: float
    kv_usage: float
    """Share of the KV cache in use, 0..1."""
    preemptions: float
    """Since the engine started."""
    kv_token_capacity: float | None = None
    prompt_tokens: float | None = None
    """Prompt tokens finished since the engine started."""
    prefix_queried_tokens: float | None = None
    """Prompt tokens looked up in the prefix cache since the engine started."""
    prefix_hit_tokens: float | None = None
    """Of these, found there."""

    def finished_since(self, before: Reading) -> float | None:
        """Prompt tokens finished since an earlier reading; None where the engine does not say, or is a new one."""
        if before.prompt_tokens is None or self.prompt_tokens is None or self.prompt_tokens < before.prompt_tokens:
            return None
        return self.prompt_tokens - before.prompt_tokens

    def looked_up_since(self, before: Reading) -> tuple[float, float] | None:
        """(looked up, found) in the prefix cache since an earlier reading, as ``finished_since``."""
        queried, was_queried = self.prefix_queried_tokens, before.prefix_queried_tokens
        hit, was_hit = self.prefix_hit_tokens, before.prefix_hit_tokens
        if queried is None or was_queried is None or hit is None or was_hit is None:
            return None
        return None if queried < was_queried or hit < was_hit else (queried - was_queried, hit - was_hit)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTerms:
    """One replica: where it is and how much unfinished prefill it may hold."""

    name: str
    """``address:port``, as the proxy knows it."""
    pool: str
    budget_tokens: float
    """One more prefill may start while fewer unfinished tokens than this are there."""
    least_requests: int = 2
    """So many unfinished prefills are always allowed."""
    prefill_tokens_per_second: float = math.inf
    """The law's prefill rate at the full batch."""
    kv_token_capacity: float | None = None
    slots: int | None = None
    """Requests that it may run at once; None: nobody knows, or requests decode elsewhere."""
    ready: bool = True
    ramp_seconds: float = 0.0
    """A replica that is new is given little at first, and all after so long."""


@dataclass(slots=True, eq=False)
class Engine:
    """The account of one replica."""

    terms: EngineTerms
    unfinished_requests: int = 0
    unfinished_tokens: float = 0.0
    kv_promised: float = 0.0
    """Tokens started since the last reading, less those of answers that ended: it does not count them yet."""
    reading: Reading | None = None
    read_at: float = -math.inf
    unfinished_when_read: int = 0
    preempted_at: float = -math.inf
    last_start: float = -math.inf
    finished_tokens: dict[str, float] = field(default_factory=dict)
    """Estimated prompt tokens, by class, whose first token came back since the last reading."""
    residents: Residents = field(default_factory=Residents)
    ends_reported: bool = False
    """Whether the proxy reports the ends of answers."""
    most_running: float = 0.0
    seen_at: float = -math.inf
    """Time as of the last event or tick."""
    since: float = -math.inf
    """When the replica was first seen; -inf: it was there before the gate."""

    def free_slots(self) -> int | None:
        """Slots that one more request would find free, never below 0; None where nobody knows.

        As of the last tick. Rounded up, and with ends expected: it errs on the side of a short
        queue at the engine, never of an idle slot. An engine that ran more requests than its
        pool declares has more slots than declared.
        """
        slots = self.terms.slots
        if slots is None or self.reading is None or self.seen_at - self.read_at > READING_AGE_SECONDS:
            return None
        taken = self.residents.taken(self.seen_at, reported=self.ends_reported)
        return None if taken is None else max(0, math.ceil(max(slots, self.most_running) - taken))

    def room(self) -> float:
        """Share of its slots that one more request leaves free; 0 where nobody knows, or only gauges tell.

        Gauges are twice a second: by what they say of room the order would lose more than it gains.
        """
        slots, free = self.terms.slots, self.free_slots() if self.ends_reported else None
        return max(0, free - 1) / slots if slots and free else 0.0

    def has_budget(self) -> bool:
        """Whether one more prefill may start, by unfinished prefills alone."""
        terms = self.terms
        return self.unfinished_requests < terms.least_requests or self.unfinished_tokens < terms.budget_tokens

    def is_open(self, now: float) -> bool:
        """Whether one more prefill may start: ready, budget left, KV headroom, no queue that is not ours."""
        if not self.terms.ready or not self.has_budget():
            return False
        reading = self.reading
        if reading is None or now - self.read_at > READING_AGE_SECONDS:
            return True
        if now - self.preempted_at < PREEMPTION_HOLD_SECONDS:
            return False
        # Prompts that we let go may lie in the engine's queue for an iteration: that is the
        # packing the budget is for. Anything beyond them waits for a slot or for memory.
        if reading.waiting > max(self.unfinished_requests, self.unfinished_when_read):
            return False
        return self.free_slots() != 0 and self.has_memory(reading)

    def has_memory(self, reading: Reading) -> bool:
        """Whether resident and promised tokens leave headroom."""
        capacity = reading.kv_token_capacity or self.terms.kv_token_capacity
        if not capacity or (reading.running == 0 and self.unfinished_requests == 0):
            return True
        return reading.kv_usage * capacity + self.kv_promised < KV_SHARE * capacity

    def is_remembered(self, now: float) -> bool:
        """Whether anything is known of it that would be wrong to forget: prefills, or a reading that still counts."""
        return self.unfinished_requests > 0 or now - self.read_at <= READING_AGE_SECONDS

    def start(self, tokens: float, now: float) -> None:
        """One more prefill of ``tokens``."""
        self.last_start = self.seen_at = now
        self.residents.started += 1
        self.unfinished_requests += 1
        self.unfinished_tokens += tokens
        self.kv_promised += tokens

    def finish(self, tokens: float, *, leaves: bool = False) -> None:
        """A prefill of ``tokens`` is over, one way or another; ``leaves``: and its request with it."""
        self.residents.ended += leaves
        self.unfinished_requests -= 1
        # Sums of floats drift; an engine without prefills holds exactly none.
        self.unfinished_tokens = self.unfinished_tokens - tokens if self.unfinished_requests else 0.0

    def count_finished(self, lane: str, tokens: float) -> None:
        """A prompt of a class was prefilled."""
        self.finished_tokens[lane] = self.finished_tokens.get(lane, 0.0) + tokens

    def leave(self, tokens: float) -> None:
        """An answer is over; its request held about so many tokens."""
        self.residents.ended += 1
        self.kv_promised -= tokens

    def read(self, reading: Reading, now: float) -> None:
        """Take what the engine reports."""
        self.finished_tokens = {}
        if self.reading is not None and reading.preemptions > self.reading.preemptions:
            self.preempted_at = now
        self.reading, self.read_at, self.seen_at = reading, now, now
        self.residents.read(reading.running + reading.waiting, now)
        self.most_running = max(self.most_running, reading.running)
        self.unfinished_when_read = self.unfinished_requests
        # What is still unfinished may not be resident yet.
        self.kv_promised = self.unfinished_tokens
