"""Traffic through a real Envoy, a real gate and simulated replicas, recorded; and the simulator's word on the same.

Bodies are four bytes per prompt token, which is what the gate takes them for. The simulator's gate
sees prompts as long as they are, so what estimates miss would be counted as a difference of budget, order
or iterations: where they are off by a fifth at random, the machine in virtual time, which else replays
to the digit, waits up to 4 % otherwise for that alone.
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from tests.contract.gate_world import World, replica_settings

from sluice.demo.replica import ReplicasSettings
from sluice.gate.assembly import BUDGETS, LEAST_REQUESTS, Choices, terms_of
from sluice.gate.feed import read_world
from sluice.model.fleet import Pool
from sluice.model.gate import WAITED_HEADER
from sluice.policy.admission import Budget
from sluice.simulation.catalogue import gated
from sluice.simulation.regime import Fidelity, Guidance
from sluice.simulation.replay import Passage, passages_of, workload_of
from sluice.simulation.run import Replicas, Setup, simulate
from sluice.simulation.workload import ClassLoad, Exponential, generate

BYTES_PER_TOKEN = 4
LEAST_PROMPT_TOKENS = 50
"""Below this the JSON around the prompt is longer than four bytes per token."""
REPLICAS = 2
MOST_WAITING = 40
ENGINE = {
    "solo_seconds": 0.05,
    "mixed_base_seconds": 0.05,
    "per_token_seconds": 1e-4,
    "slots": 128,
    "batched_token_budget": 512,
    "write_interval_seconds": 0.5,
}
"""Slow on purpose: what two cores add to an iteration has to be small beside it."""
GATE_OPTIONS = ("--placement", "--max-waiting", str(MOST_WAITING))
CLASSES: dict[str, dict[str, Any]] = {
    "chat": {"tier": "Protected"},
    "code": {"tier": "Standard"},
    "batch": {"tier": "BestEffort"},
}
NAMES = tuple(sorted(CLASSES))
SHAPES = {"chat": (0.25, 200, 25), "code": (0.35, 500, 15), "batch": (0.4, 800, 20)}
"""Share of the prompt tokens, mean prompt tokens, mean output tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What was seen of a run."""

    passages: tuple[Passage, ...]
    """On the gate's clock: what lies between clients and gate is none of either's doing."""
    round_trip_seconds: float
    """Gate to engine and back, mean: from start to first token as the gate counts it, less what the engines count."""
    outside_seconds: float
    """Client to gate and back, mean: what clients saw to the first token, less what the gate counts."""
    lag_seconds: float
    """99th percentile of how late the load generator's loop was."""


def settings() -> ReplicasSettings:
    return ReplicasSettings.model_validate(replica_settings(REPLICAS, **ENGINE))


def offered(load: float, seconds: float, seed: int) -> list[Passage]:
    """Poisson arrivals and exponential lengths; ``load`` is relative to what full iterations prefill."""
    engine = settings().engine
    tokens = engine.batched_token_budget
    capacity = REPLICAS * tokens / engine.law.mixed(tokens, 1)
    loads = tuple(
        ClassLoad(name=name, rate=load * capacity * share / prompt, prompt=Exponential(prompt), output=Exponential(out))
        for name, (share, prompt, out) in SHAPES.items()
    )
    drawn = generate(loads, horizon_seconds=seconds, seed=seed, whole_tokens=True).requests
    return [
        Passage(
            klass=NAMES[int(row["klass"])],
            prompt_tokens=max(LEAST_PROMPT_TOKENS, int(row["prompt"])),
            output_tokens=int(row["output"]),
            arrival=float(row["arrival"]),
        )
        for row in drawn
    ]


async def record(one: World, plan: Sequence[Passage]) -> Recording:
    """Send ``plan`` in real time and wait for every answer."""
    loop = asyncio.get_running_loop()
    before = await counted(one)
    began = loop.time() + 0.1
    lags: list[float] = []
    tasks = []
    for passage in plan:
        due = began + passage.arrival
        await asyncio.sleep(max(0.0, due - loop.time()))
        lags.append(loop.time() - due)
        tasks.append(asyncio.create_task(_pass(one, passage, began)))
    passages = await asyncio.gather(*tasks)
    after = await counted(one)
    started = [passage for passage in passages if not math.isnan(passage.started)]
    seen = after - before
    assert seen.firsts == seen.prefills == len(started)
    clients = sum(passage.first - passage.arrival for passage in started)
    outside = (clients - seen.gate_ttft) / len(started)
    return Recording(
        passages=tuple(sorted((_later(passage, outside) for passage in passages), key=lambda one: one.arrival)),
        round_trip_seconds=(seen.gate_hold - seen.engine_ttft) / len(started),
        outside_seconds=outside,
        lag_seconds=statistics.quantiles(lags, n=100)[-1],
    )


def _later(passage: Passage, seconds: float) -> Passage:
    """A passage that comes to the gate so long after its client sent it, and is let go so much later."""
    refused = math.isnan(passage.started)
    return replace(
        passage,
        arrival=passage.arrival + seconds,
        started=passage.started + seconds,
        ended=passage.ended + seconds if refused else passage.ended,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What gate and engines have counted so far: sums over requests, seconds."""

    gate_ttft: float
    gate_hold: float
    """From start to first token."""
    firsts: float
    """First tokens that the gate saw."""
    engine_ttft: float
    prefills: float
    """First tokens that engines gave."""

    def __sub__(self, other: Counted) -> Counted:
        return Counted(**{field.name: getattr(self, field.name) - getattr(other, field.name) for field in fields(self)})


async def counted(one: World) -> Counted:
    """The counters of now."""
    gate = await one.gate_metrics()
    engines = {"sum": 0.0, "count": 0.0}
    for port in one.replica_ports:
        async with one.session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            for line in (await answer.text()).splitlines():
                if line.startswith("vllm:time_to_first_token_seconds_"):
                    what = line.partition("{")[0].rpartition("_")[2]
                    engines[what] = engines.get(what, 0.0) + float(line.rsplit(" ", 1)[1])

    def of_gate(name: str) -> float:
        return sum(value for key, value in gate.items() if key.startswith(f"sluice_gate_{name}{{"))

    return Counted(
        gate_ttft=of_gate("ttft_seconds_sum"),
        gate_hold=of_gate("hold_seconds_sum"),
        firsts=of_gate("ttft_seconds_count"),
        engine_ttft=engines["sum"],
        prefills=engines["count"],
    )


async def _pass(one: World, passage: Passage, began: float) -> Passage:
    """Send one request and note when its pieces come."""
    document = {
        "model": "model",
        "prompt": "",
        "max_tokens": passage.output_tokens,
        "stream": True,
        "simulated_prompt_tokens": passage.prompt_tokens,
    }
    document["prompt"] = "w" * (BYTES_PER_TOKEN * passage.prompt_tokens - len(json.dumps(document)))
    headers = {"x-class": passage.klass, "content-type": "application/json"}
    clock = asyncio.get_running_loop().time
    arrival = clock() - began
    url = f"http://127.0.0.1:{one.listener}/v1/completions"
    async with one.session.post(url, data=json.dumps(document), headers=headers) as answer:
        if answer.status == 429:
            await answer.read()
            return replace(passage, arrival=arrival, ended=arrival)
        assert answer.status == 200, answer.status
        waited = int(answer.headers[WAITED_HEADER]) / 1000.0
        await answer.content.readany()
        first = clock() - began
        await answer.content.read()
        return replace(passage, arrival=arrival, started=arrival + waited, first=first, ended=clock() - began)


def simulated(one: World, recording: Recording) -> tuple[Passage, ...]:
    """The same arrivals and lengths in the simulator, with the gate's own terms."""
    declared = read_world(one.folder / "manifests", None)
    terms = terms_of(declared.fleet, declared.classes, None, {}, Choices())
    engine = settings().engine
    pool = Pool(
        name="pool",
        law=engine.law,
        slots=engine.slots,
        chunk_tokens=engine.batched_token_budget,  # the engine's chunk is what decodes leave of its budget
        batched_token_budget=engine.batched_token_budget,
        kv_token_capacity=engine.kv_token_capacity,
    )
    setup = Setup(
        workload=workload_of(recording.passages, NAMES),
        replicas=(Replicas(pool=pool, count=REPLICAS),),
        fidelity=Fidelity.ITERATION,
        warmup_seconds=0.0,
        round_trip_seconds=recording.round_trip_seconds,
    )
    budget = Budget(least_requests=LEAST_REQUESTS, tokens=BUDGETS * engine.batched_token_budget)
    regime = replace(gated(terms.policy, budget=budget), whole_prompts=True, queue_limit=MOST_WAITING)
    passages = passages_of(simulate(setup, regime, Guidance(lanes=terms.lanes)))
    return tuple(_heard(passage, recording.round_trip_seconds / 2) for passage in passages)


def _heard(passage: Passage, seconds: float) -> Passage:
    """A simulated passage as a gate saw it that hears of first tokens so much later than the simulator's.

    What waited was let go on such news. The round trip until it is at its engine is the same: the simulator
    has all of it after the start.
    """
    if math.isnan(passage.started) or passage.started <= passage.arrival:
        return passage
    return replace(
        passage, started=passage.started + seconds, first=passage.first + seconds, ended=passage.ended + seconds
    )


def refused(passages: Sequence[Passage]) -> int:
    return sum(math.isnan(passage.started) for passage in passages)
