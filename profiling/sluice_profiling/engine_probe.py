"""Iteration times of a live engine, seen from outside.

All sequences of a batch get their tokens at the end of an iteration, so the time between
two tokens of one stream *is* an iteration. *Carriers* are streams that decode for
long; their gaps are decode-only iterations at their number. A *probe* is a request
with ``C`` prompt tokens and one output token sent beside them: the gap that ends
when the probe's token comes is a mixed iteration with chunk ``C`` and one sequence more.

Only differences of arrival times of one stream count, so a constant delay of the
network does not matter. A token that is read late makes its gap longer and the next one
shorter, so no gap is taken by itself: decode-only iterations are means over blocks, and a
mixed one begins and ends where the tokens before and after it say, by their median.
Probes must fit into one chunk of the engine, or their prompt is spread over several iterations.
"""

from __future__ import annotations

import asyncio
import itertools
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median

from sluice_profiling.engine_client import EngineClient, EngineError, TokenEvent
from sluice_profiling.grid import Range, around_knee
from sluice_profiling.measurement import Measurement, Point
from sluice_profiling.timing import Patience, Timing, summarise

CARRIER_TOKENS = 4096
"""Output tokens that a carrier asks for; it is aborted as soon as its batch is measured."""
STREAM_CHECK_TOKENS = 16
SETTLING_GAPS = 3
BLOCK_GAPS = 8
"""Decode-only iterations whose mean counts as one measurement."""
MARGIN_GAPS = 3
"""Tokens on either side of a mixed iteration that say when it began and ended."""
PAUSE_GAPS = MARGIN_GAPS + 1
"""Decode-only iterations between two probes, so that these tokens are of decode-only iterations."""
RUNNING = ("vllm:num_requests_running", "vllm:num_requests_waiting", "sglang:num_running_reqs", "sglang:num_queue_reqs")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePlan:
    """What to measure, and when to be content."""

    limits: Range
    patience: Patience
    """``fewest``, ``most``, ``relative_half_width`` and ``seconds`` hold per point."""
    budget_seconds: float
    carrier_tokens: int = CARRIER_TOKENS


@dataclass(slots=True)
class Carrier:
    """A stream that decodes; arrivals of its tokens in order."""

    arrivals: list[float] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    problem: EngineError | None = None


async def refuse_if_busy(client: EngineClient) -> str:
    """EngineError where others use the engine; a warning in words where it does not tell, else nothing."""
    metrics = await client.metrics()
    if metrics is None:
        return "the engine shows no metrics: nothing tells whether others use it"
    present = {name: metrics[name] for name in RUNNING if name in metrics}
    if not present:
        return "the engine's metrics do not tell whether others use it"
    if sum(present.values()) > 0:
        told = ", ".join(f"{name} {value:g}" for name, value in present.items())
        raise EngineError(f"the engine is busy ({told}): profile an idle one, or give --allow-busy")
    return ""


async def check_streaming(client: EngineClient) -> None:
    """EngineError where several tokens share an event: their times would be lost."""
    async with client.stream(1, STREAM_CHECK_TOKENS) as stream:
        events = [event async for event in stream]
    tokens = sum(event.output_tokens is None for event in events)
    if tokens < STREAM_CHECK_TOKENS:
        raise EngineError(
            f"{STREAM_CHECK_TOKENS} tokens came in {tokens} events: have the engine stream every token by itself "
            "(vLLM: --stream-interval 1), and nothing buffer on the way"
        )


async def probe(client: EngineClient, plan: ProbePlan, clock: Callable[[], float]) -> AsyncIterator[Measurement]:
    """Measure batch after batch, then around the knee, until the grid is complete or the time is used up."""
    began = clock()
    measured: list[Measurement] = []

    def in_time() -> bool:
        return clock() - began <= plan.budget_seconds

    for carriers, chunks in batches(plan.limits):
        if in_time():
            async for measurement in _at_batch(client, plan, carriers, chunks, in_time):
                measured.append(measurement)
                yield measurement
    chunks = tuple(point.chunk_tokens for point in around_knee(plan.limits, measured))
    if chunks and in_time():
        async for measurement in _at_batch(client, plan, plan.limits.operating_batch - 1, chunks, in_time):
            if measurement.point.chunk_tokens > 0:
                yield measurement


def batches(limits: Range) -> list[tuple[int, tuple[int, ...]]]:
    """Numbers of carriers with the chunks to probe there, the operating batch first and densest."""
    dense, sparse, chunk = [], [], limits.smallest_chunk
    while chunk < limits.largest_chunk:
        dense.append(chunk)
        chunk *= 2
    dense.append(limits.largest_chunk)
    sparse = dense[::2] if len(dense) > 3 else dense
    operating = max(1, limits.operating_batch - 1)
    others = {1, max(1, operating // 2), max(1, limits.largest_batch - 1)} - {operating}
    return [(operating, tuple(dense)), *((carriers, tuple(sparse)) for carriers in sorted(others))]


async def _at_batch(
    client: EngineClient, plan: ProbePlan, carriers: int, chunks: Sequence[int], in_time: Callable[[], bool]
) -> AsyncIterator[Measurement]:
    """Decode-only and mixed iterations at one number of carriers."""
    async with _carrying(client, plan, max(1, carriers)) as group:
        reference = group[0]
        solo = summarise(await _decode_only(reference, plan.patience))
        yield _measurement(Point(0, len(group), _context(plan, reference)), solo)
        for chunk in chunks:
            if in_time():
                tokens, times = await _mixed(client, reference, chunk, solo.seconds, plan.patience)
                yield _measurement(Point(tokens, len(group) + 1, _context(plan, reference)), summarise(times))


def _context(plan: ProbePlan, reference: Carrier) -> int:
    """Context of the carriers now: their prompt and what they have decoded."""
    return plan.limits.context_tokens + len(reference.arrivals)


@asynccontextmanager
async def _carrying(client: EngineClient, plan: ProbePlan, carriers: int) -> AsyncIterator[list[Carrier]]:
    """Streams that decode; the context begins when all do, and ends with their abortion."""
    group = [Carrier() for _ in range(carriers)]
    running = [asyncio.create_task(_carry(client, plan, carrier)) for carrier in group]
    try:
        for carrier in group:
            await _wait_for(carrier, SETTLING_GAPS)
        yield group
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _carry(client: EngineClient, plan: ProbePlan, carrier: Carrier) -> None:
    try:
        async with client.stream(max(1, plan.limits.context_tokens), plan.carrier_tokens) as events:
            async for event in events:
                carrier.arrivals.append(event.at_seconds)
                carrier.news.set()
    except EngineError as error:
        carrier.problem = error
    finally:
        carrier.ended = True
        carrier.news.set()


async def _wait_for(carrier: Carrier, arrivals: int) -> None:
    """Until the carrier has so many tokens; EngineError where it ends before."""
    while len(carrier.arrivals) < arrivals:
        if carrier.ended:
            raise carrier.problem or EngineError("a stream ended before its batch was measured: give --carrier-tokens")
        carrier.news.clear()
        await carrier.news.wait()


async def _decode_only(reference: Carrier, patience: Patience) -> list[float]:
    """Block means of decode-only iterations."""
    start = len(reference.arrivals) - 1
    wanted = patience.fewest
    while True:
        await _wait_for(reference, start + wanted * BLOCK_GAPS + 1)
        times = block_means(reference.arrivals[start:])
        spent = reference.arrivals[-1] - reference.arrivals[start]
        if _content(times, patience) or len(times) >= patience.most or spent > patience.seconds:
            return times
        wanted = len(times) + patience.fewest


async def _mixed(
    client: EngineClient, reference: Carrier, chunk: int, solo_seconds: float, patience: Patience
) -> tuple[int, list[float]]:
    """Mixed iterations with one probe each, and the probe's length as the engine counts it."""
    times: list[float] = []
    tokens, misses = chunk, 0
    began = reference.arrivals[-1]
    while len(times) < patience.most:
        await _wait_for(reference, len(reference.arrivals) + PAUSE_GAPS)
        first, counted = await _first_token(client, chunk)
        await _wait_for(reference, len(reference.arrivals) + MARGIN_GAPS + 1)
        end = arrival_nearest(reference.arrivals, first, solo_seconds)
        if end is None or end + MARGIN_GAPS >= len(reference.arrivals):
            misses += 1
            if misses > patience.most:
                raise EngineError("tokens of probe and carriers never come together: is a stream buffered on its way?")
            continue
        times.append(mixed_seconds(reference.arrivals, end, solo_seconds))
        tokens = counted or tokens
        spent = reference.arrivals[-1] - began
        if len(times) >= patience.fewest and (_content(times, patience) or spent > patience.seconds):
            break
    return tokens, times


async def _first_token(client: EngineClient, chunk: int) -> tuple[float, int | None]:
    """When the probe's only token came, and how many prompt tokens the engine counted."""
    events: list[TokenEvent] = []
    async with client.stream(chunk, 1) as stream:
        events = [event async for event in stream]
    if not events:
        raise EngineError("a probe got no token")
    counted = next((event.prompt_tokens for event in events if event.prompt_tokens), None)
    return events[0].at_seconds, counted


def arrival_nearest(arrivals: Sequence[float], moment: float, solo_seconds: float) -> int | None:
    """Index of the arrival nearest to ``moment``; None where it is further than half an iteration.

    An iteration's tokens are written at once, so its other streams' tokens lie much closer.
    """
    position = bisect_left(arrivals, moment)
    candidates = [index for index in (position - 1, position) if MARGIN_GAPS < index < len(arrivals)]
    if not candidates:
        return None
    nearest = min(candidates, key=lambda index: abs(arrivals[index] - moment))
    return nearest if abs(arrivals[nearest] - moment) < 0.5 * solo_seconds else None


def mixed_seconds(arrivals: Sequence[float], end: int, solo_seconds: float) -> float:
    """Seconds of the iteration that ends with arrival ``end``, all others around it being decode-only.

    The arrivals at its very ends are left out: the work of starting and ending the probe makes them late.
    """
    offsets = range(1, MARGIN_GAPS + 1)
    ends = median(arrivals[end + offset] - offset * solo_seconds for offset in offsets)
    began = median(arrivals[end - 1 - offset] + offset * solo_seconds for offset in offsets)
    return ends - began


def block_means(arrivals: Sequence[float]) -> list[float]:
    """Mean gap of each whole block of gaps."""
    marks = arrivals[::BLOCK_GAPS]
    return [(later - earlier) / BLOCK_GAPS for earlier, later in itertools.pairwise(marks)]


def _content(times: Sequence[float], patience: Patience) -> bool:
    if len(times) < max(2, patience.fewest):
        return False
    timing = summarise(times)
    return timing.half_width_seconds <= patience.relative_half_width * timing.seconds


def _measurement(point: Point, timing: Timing) -> Measurement:
    return Measurement(
        point=point,
        seconds=timing.seconds,
        half_width_seconds=timing.half_width_seconds,
        samples=timing.samples,
        rejected=timing.rejected,
    )
