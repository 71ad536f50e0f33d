"""One simulated engine, iteration by iteration: a pure step function without clock or I/O.

The scheduler is the one of today's engines (vLLM V1 is the model): every iteration
first gives one token of the batched-token budget to each sequence that decodes, then
fills the rest with chunks of prompts, unfinished ones first, then waiting requests in
order of arrival while a batch slot and KV memory are free. Several prompts may share an
iteration and a prompt may span several. An iteration lasts as long as the iteration-time
law says for that many prompt tokens and sequences. When the KV cache overflows, the
youngest sequence gives its memory back and waits at the head of the line; its tokens are
computed again, as vLLM does by default. There is no prefix cache.

A request's first token appears at the end of the iteration that finishes its prompt.

Decoding costs nothing per token here: a sequence knows the iteration in which it will
end, so a step is linear in what changes and not in the batch. That keeps a fleet of
replicas cheap enough to run in real time beside the loop that steers it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sluice.model.law import IterationLaw


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What a replica is: its law and its limits."""

    law: IterationLaw
    slots: int
    """Sequences in the running batch, prefilling ones included (vLLM ``max_num_seqs``)."""
    batched_token_budget: int
    """Prompt and decode tokens of one iteration (vLLM ``max_num_batched_tokens``)."""
    kv_token_capacity: int
    """Tokens the KV cache holds."""

    def __post_init__(self) -> None:
        if self.slots < 1 or self.kv_token_capacity < 1:
            raise ValueError("an engine needs at least one slot and one token of KV cache")
        if self.batched_token_budget <= self.slots:
            raise ValueError("the batched-token budget must exceed the slots, or a full batch starves every prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """What the engine knows of a request."""

    key: int
    prompt_tokens: int
    output_tokens: int

    @property
    def total_tokens(self) -> int:
        """KV tokens at the end."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilling:
    """A sequence whose prompt is not finished."""

    request: EngineRequest
    remaining: int
    """Tokens still to compute, those of an interrupted answer included."""
    emitted: int = 0
    """Output tokens that were sent before an interruption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """A sequence that gains one token per iteration."""

    request: EngineRequest
    since: int
    """Iteration in which it decodes for the first time."""
    emitted: int
    """Output tokens sent before ``since``."""

    @property
    def last(self) -> int:
        """The iteration that ends it."""
        return self.since + self.request.output_tokens - self.emitted - 1

    def emitted_before(self, iteration: int) -> int:
        """Output tokens sent before ``iteration``."""
        return self.emitted + iteration - self.since


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """The whole state of an engine between two iterations."""

    iteration: int = 0
    """Number of the next iteration."""
    waiting: tuple[Prefilling, ...] = ()
    prefilling: tuple[Prefilling, ...] = ()
    decoding: tuple[Decoding, ...] = ()
    kv_tokens: int = 0
    """KV tokens that sequences hold or that their prompts have reserved."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.waiting or self.prefilling or self.decoding)

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self.prefilling) + len(self.decoding)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one iteration did. Keys are those of the requests."""

    seconds: float
    """How long it lasts."""
    prompt_tokens: int
    decode_tokens: int
    started: tuple[int, ...] = ()
    """Left the queue at its beginning."""
    first: tuple[int, ...] = ()
    """Got their first token at its end."""
    resumed: tuple[int, ...] = ()
    """Got their next token at its end after they had been preempted."""
    finished: tuple[int, ...] = ()
    """Got their last token at its end."""
    preempted: tuple[int, ...] = ()
    """Lost their KV memory before it began, and wait again."""


def submit(state: EngineState, settings: EngineSettings, request: EngineRequest) -> EngineState:
    """Append a request to the queue; ValueError where it can never fit into the KV cache."""
    if request.prompt_tokens < 1 or request.output_tokens < 1:
        raise ValueError("a request has at least one prompt token and one output token")
    if request.total_tokens > settings.kv_token_capacity:
        raise ValueError(f"{request.total_tokens} tokens exceed the KV cache of {settings.kv_token_capacity} tokens")
    waiting = Prefilling(request=request, remaining=request.prompt_tokens)
    return replace(state, waiting=(*state.waiting, waiting))


def cancel(state: EngineState, key: int) -> EngineState:
    """Take a request out, wherever it is: its slot and memory are free from the next iteration on."""
    freed = sum(_reserved(entry) for entry in state.prefilling if entry.request.key == key) + sum(
        entry.request.prompt_tokens + entry.emitted_before(state.iteration)
        for entry in state.decoding
        if entry.request.key == key
    )
    return replace(
        state,
        waiting=tuple(entry for entry in state.waiting if entry.request.key != key),
        prefilling=tuple(entry for entry in state.prefilling if entry.request.key != key),
        decoding=tuple(entry for entry in state.decoding if entry.request.key != key),
        kv_tokens=state.kv_tokens - freed,
    )


def step(state: EngineState, settings: EngineSettings) -> tuple[EngineState, Step]:
    """Run one iteration; ValueError on an idle engine, which has none to run."""
    if state.idle:
        raise ValueError("an idle engine has no iteration to run")
    state, preempted = _make_room(state, settings)
    admitted, kv_tokens = _admit(state, settings)
    batch = (*state.prefilling, *admitted)
    chunks = _chunks(batch, settings.batched_token_budget - len(state.decoding))
    prompt_tokens = sum(chunks)
    sequences = len(batch) + len(state.decoding)
    law = settings.law
    seconds = law.mixed(prompt_tokens, sequences) if prompt_tokens else law.solo(sequences)

    advanced = [replace(entry, remaining=entry.remaining - chunk) for entry, chunk in zip(batch, chunks, strict=True)]
    through = [entry for entry in advanced if entry.remaining == 0]
    finished = [entry.request for entry in state.decoding if entry.last <= state.iteration]
    finished += [entry.request for entry in through if entry.emitted + 1 == entry.request.output_tokens]
    joined = tuple(
        Decoding(request=entry.request, since=state.iteration + 1, emitted=entry.emitted + 1)
        for entry in through
        if entry.emitted + 1 < entry.request.output_tokens
    )
    remaining = state.decoding
    if finished:
        remaining = tuple(entry for entry in state.decoding if entry.last > state.iteration)
    freed = sum(request.total_tokens for request in finished)
    after = EngineState(
        iteration=state.iteration + 1,
        waiting=state.waiting[len(admitted) :],
        prefilling=tuple(entry for entry in advanced if entry.remaining > 0),
        decoding=remaining + joined,
        kv_tokens=kv_tokens + len(state.decoding) + len(through) - freed,
    )
    outcome = Step(
        seconds=seconds,
        prompt_tokens=prompt_tokens,
        decode_tokens=len(state.decoding),
        started=tuple(entry.request.key for entry in admitted),
        first=tuple(entry.request.key for entry in through if entry.emitted == 0),
        resumed=tuple(entry.request.key for entry in through if entry.emitted > 0),
        finished=tuple(request.key for request in finished),
        preempted=preempted,
    )
    return after, outcome


def _reserved(entry: Prefilling) -> int:
    """KV tokens a prompt reserves when it starts: all of it, and what was already answered."""
    return entry.request.prompt_tokens + entry.emitted


def _admit(state: EngineState, settings: EngineSettings) -> tuple[tuple[Prefilling, ...], int]:
    """Waiting requests, first come first served, that start now; and the KV tokens held then."""
    budget = settings.batched_token_budget - len(state.decoding) - sum(e.remaining for e in state.prefilling)
    free_slots = settings.slots - state.running
    kv_tokens = state.kv_tokens
    admitted: list[Prefilling] = []
    for entry in state.waiting:
        # One token of growth is kept free for every sequence, or the newcomer is thrown out at once.
        growth = state.running + len(admitted) + 1
        if budget <= 0 or free_slots <= 0 or kv_tokens + _reserved(entry) + growth > settings.kv_token_capacity:
            break
        admitted.append(entry)
        budget -= entry.remaining
        free_slots -= 1
        kv_tokens += _reserved(entry)
    return tuple(admitted), kv_tokens


def _chunks(batch: tuple[Prefilling, ...], budget: int) -> list[int]:
    """Prompt tokens of each prefilling sequence in this iteration, in order, within the budget."""
    chunks = []
    for entry in batch:
        chunk = min(entry.remaining, budget)
        chunks.append(chunk)
        budget -= chunk
    return chunks


def _make_room(state: EngineState, settings: EngineSettings) -> tuple[EngineState, tuple[int, ...]]:
    """Send the youngest sequences back to the queue until this iteration's tokens fit the KV cache."""
    preempted: list[int] = []
    while state.running > 1 and state.kv_tokens + state.running > settings.kv_token_capacity:
        if state.prefilling:
            prompt = state.prefilling[-1]
            back = replace(prompt, remaining=_reserved(prompt))
            state = replace(
                state,
                prefilling=state.prefilling[:-1],
                waiting=(back, *state.waiting),
                kv_tokens=state.kv_tokens - _reserved(prompt),
            )
        else:
            youngest = state.decoding[-1]
            emitted = youngest.emitted_before(state.iteration)
            held = youngest.request.prompt_tokens + emitted
            back = Prefilling(request=youngest.request, remaining=held, emitted=emitted)
            state = replace(
                state,
                decoding=state.decoding[:-1],
                waiting=(back, *state.waiting),
                kv_tokens=state.kv_tokens - held,
            )
        preempted.append(back.request.key)
    return state, tuple(preempted)
