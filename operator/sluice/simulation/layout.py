"""The engine's state: records in arrays, so that one event touches few cache lines.

A record array keeps the fields of one replica (or request) side by side: an event reads
most of one record and nothing of its neighbours. The same code runs compiled and plain.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

Array = Any
"""A numpy array, or record array, as kernels take it."""

NONE = -1


class State(IntEnum):
    """Where a request is."""

    FUTURE = 0
    WAITING = 1
    """At the gate."""
    SENT = 2
    """Started by the gate, on its way to or queued in a replica."""
    PREFILL = 3
    """In a batch, prompt unfinished."""
    BUFFERED = 4
    """Prompt finished, waiting for a decode slot."""
    DECODE = 5
    DONE = 6
    ABANDONED = 7
    """The client left while waiting for its prefill."""
    ABANDONED_DECODE = 8
    """The client left while waiting for a decode slot."""
    REFUSED = 9


class Role(IntEnum):
    """What a replica may do."""

    ANY = 0
    """Prefill and decode; no slot is reserved."""
    MIXED = 1
    """One slot is kept for a prefill, the others decode (the paper's G_mix)."""
    SOLO = 2
    """Decodes only (G_solo)."""
    PREFILL = 3
    """Prefills only (disaggregated serving)."""


class Batching(IntEnum):
    """How an engine mixes prompts and decodes in one iteration."""

    CHUNKED = 0
    """Decodes and up to one budget of prompt tokens side by side (vLLM, Sarathi)."""
    PREFILL_FIRST = 1
    """Prompts alone while there are any; decodes stall meanwhile."""
    DECODE_FIRST = 2
    """No prompt before the running batch has drained."""


class Sight(IntEnum):
    """How a gate knows free slots and KV memory."""

    NONE = 0
    """Not at all."""
    ENDS = 1
    """Exactly: it hears of every end of an answer."""
    GAUGES = 2
    """By the engines' gauges, twice a second, and by its own starts since; ends in between are expected."""


class Decode(IntEnum):
    """Where a request decodes."""

    IN_PLACE = 0
    """Where it was prefilled, in the same slot."""
    SOLO_FIRST = 1
    """A random solo replica with a free slot, else a mixed one, else one buffer (section 3.2)."""
    SPLIT = 2
    """Solo with the class's planned probability, one buffer per pool (section 3.4)."""
    SPLIT_BY_CLASS = 3
    """The same with a buffer per pool and class, drawn by planned shares (section 3.5)."""


class Placement(IntEnum):
    """Which eligible replica takes a prefill."""

    RANDOM = 0
    FEWEST_REQUESTS = 1
    """Join the shortest queue: requests inside the replica."""
    FEWEST_TOKENS = 2
    """Least unfinished prompt tokens, then fewest requests."""
    PREFIX_AWARE = 3
    """The longest cached prefix, unless more unfinished prompt tokens are before it than that saves."""
    ROUND_ROBIN = 4
    BY_WEIGHT = 5
    """A pool drawn by the class's weights, and there the fewest requests: a proxy with weighted pools."""


REQUEST = np.dtype(
    [
        ("arrival", "f8"),
        ("work", "f8"),  # prompt tokens to compute: all of them, until the engine has looked into its prefix cache
        ("prompt", "f8"),  # prompt tokens: paid, and resident
        ("output", "f8"),  # output tokens
        ("patience", "f8"),  # seconds it waits for its prefill
        ("decode_patience", "f8"),  # seconds it waits for a decode slot
        ("coin", "f8"),  # uniform draw for routers
        ("left", "f8"),  # prompt tokens still to compute
        ("todo", "f8"),  # output tokens still to decode
        ("started", "f8"),  # the gate let it go
        ("begun", "f8"),  # entered a batch
        ("prefilled", "f8"),
        ("first", "f8"),  # first output token
        ("ended", "f8"),
        ("mixed", "f8"),  # seconds of decode beside a prefill
        ("klass", "i8"),
        ("state", "i8"),
        ("replica", "i8"),
        ("next", "i8"),  # in whatever list it is
        ("preempted", "i8"),
        ("promised", "i8"),  # 1: could keep its promise when it started
    ],
    align=True,
)

REPLICA = np.dtype(
    [
        ("since", "f8"),  # start of the present span
        ("clock", "f8"),  # decode steps since the beginning, at ``since``
        ("tau", "f8"),  # seconds of the span's first iteration
        ("slope", "f8"),  # growth per iteration (context), seconds
        ("steps", "f8"),  # iterations in the span
        ("chunk", "f8"),  # prompt tokens per iteration of the span
        ("kv", "f8"),  # resident tokens at ``since``
        ("owed", "f8"),  # unfinished prompt tokens, as the gate counts them
        ("busy", "f8"),  # seconds with anything in the batch
        ("mixed", "f8"),  # seconds with a prefill in the batch
        ("limit", "i8"),  # decodes at most
        ("decodes", "i8"),
        ("prefills", "i8"),  # in the batch
        ("listed", "i8"),  # unfinished prompts here, in the batch or queued
        ("reserved", "i8"),  # slots promised to decodes on their way
        ("head", "i8"),  # unfinished prompts, first come first served
        ("tail", "i8"),
        ("joining", "i8"),  # decodes that enter at the next boundary
        ("pool", "i8"),
        ("role", "i8"),
        ("idle_slots", "f8"),  # share of its slots that is free for want of prefill budget
        ("shut", "i8"),  # why the gate starts nothing here, see ``placing.shut``
        ("seen", "f8"),  # requests here at the last reading
        ("sent", "f8"),  # started since
        ("leaving", "f8"),  # ends expected between two readings
        ("stepping", "i8"),  # whether decodes advance in this span
        ("draining", "i8"),  # DECODE_FIRST: the batch must drain first
        ("dirty", "i8"),
        ("next", "i8"),  # in the list of dirty replicas
        ("kept", "i8"),  # cached blocks that nothing in the batch runs with
        ("oldest", "i8"),  # of these the first to be evicted
        ("newest", "i8"),
    ],
    align=True,
)

POOL = np.dtype(
    [
        ("solo", "f8"),  # seconds of a decode-only iteration at batch 0
        ("mixed", "f8"),  # mixed line at a chunk of 0
        ("per_token", "f8"),
        ("per_sequence", "f8"),
        ("per_context", "f8"),  # seconds per resident token and iteration
        ("chunk", "f8"),  # prompt tokens per iteration
        ("budget", "f8"),  # tokens per iteration, prompt and decode
        ("slots", "i8"),
        ("kv", "f8"),  # tokens
        ("kept", "f8"),  # tokens of cached blocks that stay beside the batch at most
        ("transfer", "f8"),  # seconds to move a decode, plus
        ("transfer_token", "f8"),  # seconds per token moved
        ("table", "i8"),  # where its measured table begins; -1: the law
    ],
    align=True,
)

CORE = np.dtype(
    [
        # What is simulated, constant through a run.
        ("fluid", "i8"),  # 1: the paper's network; 0: whole iterations
        ("batching", "i8"),
        ("packing", "i8"),  # 1: several prompts share an iteration's chunk
        ("decode", "i8"),
        ("placement", "i8"),
        ("eager", "i8"),  # 1: a freed slot takes a prefill before a buffered decode
        ("guard", "i8"),  # 1: no prefill starts while a decode is buffered
        ("sees_slots", "i8"),  # how the gate knows free slots, see ``Sight``
        ("whole_prompts", "i8"),  # 1: a prompt counts in full until its first token
        ("least_requests", "i8"),  # unfinished prompts per replica, always allowed
        ("budget", "f8"),  # unfinished prompt tokens per replica below which more may start
        ("kv_share", "f8"),  # of the KV memory that a gate with sight fills
        ("trip", "f8"),  # seconds from the gate to the replica
        ("queue_limit", "f8"),  # waiting requests per lane beyond which arrivals are refused
        ("block_tokens", "f8"),  # of a prefix cache's block; 0: no prefix caches
        # Where the run stands.
        ("now", "f8"),
        ("arrivals", "i8"),  # requests that have arrived
        ("timers", "i8"),
        ("timers_set", "i8"),  # since the beginning
        ("spare", "i8"),  # first unused entry of the prefix caches
        ("dirty", "i8"),  # first replica that must plan its next span; the others follow by ``next``
        ("prefilled", "i8"),  # first of the prompts that just finished
        ("buffered", "i8"),
        ("turn", "i8"),  # of round robin
        ("read_at", "f8"),  # next reading of the gauges, seconds; inf: none
        ("short_prefill", "f8"),  # slots that stand free on replicas without prefill budget, in replicas
        ("short_slots", "i8"),  # replicas with prefill budget and without a free slot, as the gate sees it
        ("short_memory", "i8"),  # replicas whose slots would do, but not their memory
        ("seed", "i8"),
        ("second_seed", "i8"),
        ("events", "i8"),
        ("iterations", "f8"),
        ("preemptions", "i8"),
    ],
    align=True,
)

CLASS = np.dtype(
    [
        ("live_head", "i8"),  # requests at the gate that can keep their promise
        ("live_tail", "i8"),
        ("late_head", "i8"),
        ("late_tail", "i8"),
        ("split", "f8"),  # planned probability of decoding solo
        ("pull_solo", "f8"),  # planned share by which a freed slot chooses the class's buffer
        ("pull_mixed", "f8"),
        ("limit_tokens", "f8"),  # token bucket of a static limit
        ("limit_rate", "f8"),  # requests per second; inf: no limit
        ("limit_depth", "f8"),
        ("limit_at", "f8"),
        ("limit_inside", "f8"),  # requests in flight; inf: no limit
        ("inside", "i8"),  # requests that were let in and have not ended
    ],
    align=True,
)

BUFFER = np.dtype([("head", "i8"), ("tail", "i8"), ("size", "i8")], align=True)
SLOT = np.dtype([("end", "f8"), ("request", "i8")], align=True)
TIMER = np.dtype([("time", "f8"), ("turn", "i8"), ("what", "i8")], align=True)
CACHED = np.dtype(
    [
        ("block", "i4"),
        ("replica", "i4"),
        ("holders", "i4"),  # requests in the batch that run with it
        ("older", "i4"),  # of the replica's kept blocks
        ("newer", "i4"),
        ("following", "i4"),  # in the same bucket, or of the unused entries
        ("bucket", "i4"),  # first entry of the bucket with this row's number
    ],
    align=True,
)

ELIGIBLE, SOLO_FREE, MIXED_FREE = 0, 1, 2
ENDS, LOADS = 0, 1


class Sim(NamedTuple):
    """Everything the event loop reads and writes: few arrays, because each is passed with every call."""

    core: Array
    rule: Array
    lanes: Array
    classes: Array
    pools: Array
    replicas: Array
    requests: Array
    slots: Array
    """(n, slots): when each decode ends, on its replica's clock, and whose it is."""
    buffers: Array
    """(2, I): decode buffers by (solo or mixed, class); (0, 0) is the common one."""
    trees: Array
    """(2, 2 leaves): ends of spans, and loads for placement."""
    sets: Array
    """(3, 1 + 2n): index sets of replicas: size, members, places."""
    timers: Array
    weights: Array
    """(I, pools): shares by which ``Placement.BY_WEIGHT`` draws a pool."""
    table: Array
    """Measured iteration times, see ``tables.flatten``."""
    cache: Array
    """``CACHED``: all replicas' prefix caches; one row where no prompt has blocks."""
    blocks: Array
    """``Blocks.flat``; empty where no prompt has blocks."""
