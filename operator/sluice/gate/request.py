"""One request inside the gate, and what the gate may do with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sluice.gate.engines import Engine


class Phase(StrEnum):
    """Where a request stands; it only ever moves down this list."""

    NEW = "New"
    WAITING = "Waiting"
    PREFILL = "Prefill"
    """Let go; its first token has not come back."""
    RELEASED = "Released"
    """Its budget was freed by estimate or at the hard deadline; the first token is still to come."""
    OVER = "Over"


class Refused(StrEnum):
    """Why a request is answered with 429."""

    QUEUE_FULL = "QueueFull"
    """The class's queue holds as many requests as it may. Add replicas, or raise the bound."""
    WAIT_TOO_LONG = "WaitTooLong"
    """The wait predicted on arrival exceeds the class's bound."""
    WAITED_TOO_LONG = "WaitedTooLong"
    """It waited as long as the class allows."""
    KEY_SHARE = "KeyShare"
    """Its fairness key fills its share of the class's queue."""
    PROMISE_LOST = "PromiseLost"
    """It can no longer keep its promise, and the class asked to be told at once."""
    CLASS_CLOSED = "ClassClosed"
    """The plan closed a class that its owner declared closable."""


class Freed(StrEnum):
    """What freed a request's budget."""

    FIRST_CHUNK = "FirstChunk"
    ENDED = "Ended"
    """The stream ended without a body: an empty or failed answer, a client that went away."""
    ESTIMATE = "Estimate"
    """By the law's estimate of the prefill's end: the answer does not stream."""
    HARD_DEADLINE = "HardDeadline"


@dataclass(slots=True, eq=False)
class Request:
    """A request from its headers to its first token. Times are seconds on the gate's monotonic clock."""

    request_id: str
    lane: str
    arrival: float
    prompt_tokens: float
    """Estimated from the body's length."""
    key: str = ""
    """Fairness key inside the class; empty: none."""
    affinity: str = ""
    """What requests that share a prefix or a session have in common; empty: nothing."""
    attempt: int = 0
    """0 for a first attempt, else the client's retry count."""
    gated: bool = True
    """False: shadow, or outside the enforced share; it is accounted for and never held."""
    phase: Phase = Phase.NEW
    late: bool = False
    """Whether its promise was lost while it waited."""
    started: float = 0.0
    release_at: float = 0.0
    """When its budget is freed by estimate, should no first token have come."""
    would_wait: bool = False
    """Not gated, and it would have been held."""
    trace: str = ""
    """The request's ``traceparent``, where waits are traced."""
    placed: bool = False
    """Whether the gate names its replica; else the proxy chooses one."""
    engine: Engine | None = None
    ticket: object = None
    """The shell's handle; the machine never looks at it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Answer ``request`` with 429."""

    request: Request
    reason: Refused
    retry_after_seconds: float
    predicted_wait_seconds: float


@dataclass(slots=True)
class Effects:
    """What the shell has to carry out after an event."""

    starts: list[Request]
    refusals: list[Refusal]
