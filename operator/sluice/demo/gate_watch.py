"""What the gate says of itself, and how long it takes to obey a plan.

The plan's file is looked at every ten milliseconds. From the moment written in its file
system record until the gate's metrics name the plan is the time that the gate took, and at
most one look and one answer more.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from sluice.model.plan import Plan

LOOK_SECONDS = 0.01
READ_SECONDS = 1.0
OBEYS_WITHIN_SECONDS = 5.0
"""After so long without its name in the metrics a plan is given up: another one has taken its place."""
_PREFIX = "sluice_gate_"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReading:
    """The gate's metrics at one moment."""

    waiting: Mapping[str, int] = field(default_factory=dict)
    """Class -> requests held."""
    idle_while_waiting_seconds: float = 0.0
    """Of doing harm: something waited while an engine idled."""
    holding: bool = True
    plan_id: str = ""
    freed: Mapping[str, int] = field(default_factory=dict)
    """What freed budgets -> how many."""
    bypassed: Mapping[str, int] = field(default_factory=dict)
    """Why requests passed without a decision -> how many."""
    gone: Mapping[str, int] = field(default_factory=dict)
    """Class -> clients that left while they were held."""


def parse(exposition: str) -> GateReading:
    """The gate's ``/metrics``."""
    values: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            label = next((sample.labels[key] for key in ("plan_id", "class", "how", "why") if key in sample.labels), "")
            values.setdefault(sample.name.removeprefix(_PREFIX), {})[label] = sample.value

    def counts(name: str) -> dict[str, int]:
        return {label: int(value) for label, value in values.get(name, {}).items()}

    return GateReading(
        waiting=counts("waiting_requests"),
        idle_while_waiting_seconds=values.get("idle_while_waiting_seconds_total", {}).get("", 0.0),
        holding=values.get("holding", {}).get("", 1.0) > 0,
        plan_id=next(iter(values.get("plan_info", {})), ""),
        freed=counts("freed_total"),
        bypassed=counts("bypassed_total"),
        gone=counts("gone_total"),
    )


class GateWatch:
    """Looks at the gate for as long as a run goes on."""

    def __init__(self, url: str, plan_file: Path) -> None:
        self._url = url
        self._plan_file = plan_file
        self.reading = GateReading()
        """As of the last look, at most about a second old."""
        self.obeyed_seconds: list[float] = []
        """From writing to obeying, one for each plan that was new."""

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[GateWatch]:
        """Look for the length of the block."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as session:
            await self._read(session)
            task = asyncio.create_task(self._look(session))
            try:
                yield self
                await self._read(session)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _look(self, session: aiohttp.ClientSession) -> None:
        clock = asyncio.get_running_loop().time
        written, read_at = self._written(), clock()
        known = self._plan_id()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._written()
            if now is not None and now != written:
                written = now
                if (fresh := self._plan_id()) and fresh != known:
                    known = fresh
                    await self._until_obeyed(session, fresh, now / 1e9)
            elif clock() - read_at >= READ_SECONDS:
                read_at = clock()
                await self._read(session)

    async def _until_obeyed(self, session: aiohttp.ClientSession, plan_id: str, written_at: float) -> None:
        while (elapsed := time.time() - written_at) < OBEYS_WITHIN_SECONDS:
            await self._read(session)
            if self.reading.plan_id == plan_id:
                self.obeyed_seconds.append(elapsed)
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _read(self, session: aiohttp.ClientSession) -> None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(f"{self._url}/metrics") as answer:
                self.reading = parse(await answer.text())

    def _written(self) -> int | None:
        try:
            return self._plan_file.stat().st_mtime_ns
        except OSError:
            return None

    def _plan_id(self) -> str:
        try:
            return Plan.model_validate_json(self._plan_file.read_text(encoding="utf-8")).plan_id
        except (OSError, ValidationError):
            return ""
