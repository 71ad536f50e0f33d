"""Simulated serving replicas: the API and the metrics of vLLM, behaving by an iteration-time law in real time.

    clients -> HTTP -> Replica.submit -> engine (pure steps) -> one task turns steps into real time
                          ^                                              |
                          +---- first token, further tokens, end <-------+

There is no model and no GPU: an iteration is a pause as long as the law says. Every
answer says so (header ``x-simulated-replica``), and so do ``/``, ``/version`` and
``/metrics``. A client that goes away frees its slot from the next iteration on.

One process hosts many replicas. A stream is written to for its first token, for its
last, and in between at most every ``write_interval_seconds``: tokens that came
meanwhile share one event, which changes no client's mean time per token.

    python -m sluice.demo.replica '{"replicas": 2, ...}'   # see ReplicasSettings
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from sluice.demo import completions
from sluice.demo.completions import CompletionRequest
from sluice.demo.engine import EngineRequest, EngineSettings, EngineState, Step, cancel, step, submit
from sluice.demo.exposition import ModelCounts, render
from sluice.demo.lateness import Lateness
from sluice.model.law import IterationLaw

SIMULATED_HEADER = "x-simulated-replica"
BANNER = "A simulated serving replica of Sluice's demo: it keeps an iteration-time law, there is no model and no GPU."
VERSION = "0+simulated"
_GRACE_SECONDS = 0.1
"""How long open answers may go on when a replica stops."""


class ReplicasSettings(BaseModel):
    """What ``python -m sluice.demo.replica`` is told, as JSON in its only argument."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicas: int
    host: str = "127.0.0.1"
    models: tuple[str, ...]
    solo_seconds: float
    mixed_base_seconds: float
    per_token_seconds: float
    per_sequence_seconds: float
    slots: int
    batched_token_budget: int
    kv_token_capacity: int
    write_interval_seconds: float = 0.1

    @property
    def engine(self) -> EngineSettings:
        """The settings of each engine."""
        law = IterationLaw(
            solo_seconds=self.solo_seconds,
            mixed_base_seconds=self.mixed_base_seconds,
            per_token_seconds=self.per_token_seconds,
            per_sequence_seconds=self.per_sequence_seconds,
        )
        return EngineSettings(
            law=law,
            slots=self.slots,
            batched_token_budget=self.batched_token_budget,
            kv_token_capacity=self.kv_token_capacity,
        )


@dataclass(slots=True, kw_only=True)
class Live:
    """A request inside a replica; times are the event loop's seconds."""

    key: int
    request: CompletionRequest
    arrived: float
    started: float | None = None
    first: float | None = None
    preempted: float | None = None
    emitted: int = 0
    """Output tokens that are ready for the client."""
    finished: bool = False
    told: float = 0.0
    """When its handler was last woken."""
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Replica:
    """One engine, its clock and its counters."""

    def __init__(self, settings: EngineSettings, models: Sequence[str], write_interval_seconds: float) -> None:
        self._settings = settings
        self._write_interval = write_interval_seconds
        self._state = EngineState()
        self._keys = itertools.count()
        self._live: dict[int, Live] = {}
        self._work = asyncio.Event()
        self.models = {name: ModelCounts() for name in models}
        self._lateness = Lateness()

    def submit(self, request: CompletionRequest) -> Live:
        """Queue a request; ValueError where it can never fit."""
        key = next(self._keys)
        engine_request = EngineRequest(
            key=key, prompt_tokens=request.prompt_tokens, output_tokens=request.output_tokens
        )
        self._state = submit(self._state, self._settings, engine_request)
        live = Live(key=key, request=request, arrived=asyncio.get_running_loop().time())
        self._live[key] = live
        self._work.set()
        return live

    def leave(self, live: Live) -> None:
        """The handler is done with ``live``: forget it, and take it out of the engine if the client went away."""
        if self._live.pop(live.key, None) is not None and not live.finished:
            self._state = cancel(self._state, live.key)
            self.models[live.request.model].successes["abort"] += 1

    async def run(self) -> None:
        """Turn steps into real time, for ever.

        Ends of iterations lie on an ideal time line: a timer that fires late shortens
        the next pause. Only a lag above a second (a suspended machine) is forgiven.
        """
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if self._state.idle:
                self._work.clear()
                await self._work.wait()
                due = loop.time()
            elif loop.time() - due > 1.0:
                due = loop.time()
            decoding = [entry.request.key for entry in self._state.decoding]
            self._state, outcome = step(self._state, self._settings)
            self._begin(outcome, due)
            due += outcome.seconds
            await asyncio.sleep(max(0.0, due - loop.time()))
            self._lateness.add(loop.time() - due)
            self._end(outcome, decoding, due)

    def exposition(self) -> str:
        """The text of ``/metrics``."""
        waiting = {entry.request.key for entry in self._state.waiting}
        counts: Counter[tuple[str, bool]] = Counter(
            (live.request.model, key in waiting) for key, live in self._live.items() if not live.finished
        )
        for name, model in self.models.items():
            model.waiting, model.running = counts[name, True], counts[name, False]
        engine = render(self.models, self._state.kv_tokens / self._settings.kv_token_capacity, self._settings)
        return engine + "\n".join(self._lateness.lines()) + "\n"

    def _begin(self, outcome: Step, now: float) -> None:
        for key in outcome.preempted:
            if live := self._live.get(key):
                live.preempted = now
                self.models[live.request.model].count("num_preemptions", 1)
        for key in outcome.started:
            if (live := self._live.get(key)) and live.started is None:
                live.started = now
                self.models[live.request.model].observe("request_queue_time_seconds", max(0.0, now - live.arrived))

    def _end(self, outcome: Step, decoding: list[int], now: float) -> None:
        """Book an iteration's tokens and wake the handlers that have something to write."""
        finished = set(outcome.finished)
        gained: Counter[str] = Counter()
        for key in decoding:
            if (live := self._live.get(key)) is None or key in outcome.preempted:
                continue
            gained[live.request.model] += 1
            self._give_token(live, now, finished)
        for name, tokens in gained.items():
            self.models[name].observe("inter_token_latency_seconds", outcome.seconds, tokens)
        for key in outcome.first:
            if live := self._live.get(key):
                self._book_first_token(live, now)
                self._give_token(live, now, finished)
        for key in outcome.resumed:
            if live := self._live.get(key):
                pause = now - (live.preempted or now)
                self.models[live.request.model].observe("inter_token_latency_seconds", pause)
                self._give_token(live, now, finished)
        tokens = outcome.prompt_tokens + outcome.decode_tokens
        # Iterations belong to the engine and not to a class: its first name stands for it.
        next(iter(self.models.values())).observe("iteration_tokens_total", tokens)

    def _give_token(self, live: Live, now: float, finished: set[int]) -> None:
        live.emitted += 1
        self.models[live.request.model].count("generation_tokens", 1)
        if live.key in finished:
            live.finished = True
            self._book_end(live, now)
        if live.finished or (live.request.stream and now - live.told >= self._write_interval):
            live.told = now
            live.news.set()

    def _book_first_token(self, live: Live, now: float) -> None:
        live.first = now
        model = self.models[live.request.model]
        model.count("prompt_tokens", live.request.prompt_tokens)
        model.observe("time_to_first_token_seconds", now - live.arrived)
        model.observe("request_prefill_time_seconds", now - (live.started or live.arrived))

    def _book_end(self, live: Live, now: float) -> None:
        model, request = self.models[live.request.model], live.request
        first, started = live.first or now, live.started or live.arrived
        model.successes["length"] += 1
        model.observe("request_prompt_tokens", request.prompt_tokens)
        model.observe("request_prefill_kv_computed_tokens", request.prompt_tokens)
        model.observe("request_generation_tokens", request.output_tokens)
        model.observe("request_decode_time_seconds", now - first)
        model.observe("request_inference_time_seconds", now - started)
        model.observe("e2e_request_latency_seconds", now - live.arrived)
        if request.output_tokens > 1:
            model.observe("request_time_per_output_token_seconds", (now - first) / (request.output_tokens - 1))


def application(replica: Replica) -> web.Application:
    """The HTTP face of one replica."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=replica.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def health(_: web.Request) -> web.Response:
        return web.Response()

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"version": VERSION, "simulated": True})

    async def banner(_: web.Request) -> web.Response:
        return web.Response(text=BANNER + "\n")

    async def models(_: web.Request) -> web.Response:
        entries = [{"id": name, "object": "model", "owned_by": "simulated"} for name in replica.models]
        return web.json_response({"object": "list", "data": entries})

    async def complete(request: web.Request) -> web.StreamResponse:
        return await _complete(replica, request, chat=False)

    async def chat(request: web.Request) -> web.StreamResponse:
        return await _complete(replica, request, chat=True)

    async def mark(_: web.Request, response: web.StreamResponse) -> None:
        response.headers[SIMULATED_HEADER] = "true"

    app = web.Application(client_max_size=64 * 2**20)
    app.on_response_prepare.append(mark)
    app.router.add_get("/", banner)
    app.router.add_get("/health", health)
    app.router.add_get("/version", version)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/completions", complete)
    app.router.add_post("/v1/chat/completions", chat)
    return app


async def _complete(replica: Replica, http: web.Request, *, chat: bool) -> web.StreamResponse:
    """Answer one request, in one piece or as a stream."""
    try:
        request = completions.parse(await http.read(), chat=chat)
        if request.model not in replica.models:
            return _refusal(f"The model `{request.model}` does not exist.", "NotFoundError", 404)
        live = replica.submit(request)
    except ValueError as error:
        return _refusal(str(error), "BadRequestError", 400)
    identity = f"{'chatcmpl' if chat else 'cmpl'}-{live.key}"
    try:
        if request.stream:
            return await _stream(http, live, identity)
        await live.news.wait()
        return web.json_response(completions.answer(request, identity))
    finally:
        replica.leave(live)


async def _stream(http: web.Request, live: Live, identity: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(http)
    sent = 0
    while sent < live.request.output_tokens:
        await live.news.wait()
        live.news.clear()
        fresh, last = live.emitted - sent, live.finished
        sent += fresh
        chunk = completions.event(live.request, identity, fresh, last=last)
        if last:
            chunk += completions.ending(live.request, identity)
        await response.write(chunk)
    await response.write_eof()
    return response


def _refusal(message: str, kind: str, status: int) -> web.Response:
    return web.json_response(completions.error(message, kind, status), status=status)


@contextlib.asynccontextmanager
async def serving(settings: ReplicasSettings) -> AsyncIterator[list[int]]:
    """Serve all replicas on free ports and yield the ports; a replica whose engine fails ends the block."""
    runners: list[web.AppRunner] = []
    ports: list[int] = []
    try:
        async with asyncio.TaskGroup() as engines:
            tasks = []
            for _ in range(settings.replicas):
                replica = Replica(settings.engine, settings.models, settings.write_interval_seconds)
                runner = web.AppRunner(
                    application(replica), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
                )
                await runner.setup()
                runners.append(runner)
                await web.TCPSite(runner, settings.host, 0).start()
                ports.append(runner.addresses[0][1])
                tasks.append(engines.create_task(replica.run()))
            try:
                yield ports
            finally:
                for task in tasks:
                    task.cancel()
    finally:
        for runner in runners:
            await runner.cleanup()


async def serve(settings: ReplicasSettings) -> None:
    """Serve until SIGTERM or SIGINT; the first line on stdout is ``{"ports": [...]}``."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings) as ports:
        sys.stdout.write(json.dumps({"ports": ports, "banner": BANNER}) + "\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    """Entry point of the replicas' process."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m sluice.demo.replica SETTINGS-AS-JSON")
    asyncio.run(serve(ReplicasSettings.model_validate_json(sys.argv[1])))


if __name__ == "__main__":
    main()
