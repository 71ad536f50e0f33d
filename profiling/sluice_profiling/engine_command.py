"""What ``sluice profile engine`` does: look whether the engine is idle, probe it, conclude."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sluice_profiling.engine_client import EngineClient
from sluice_profiling.engine_probe import ProbePlan, check_streaming, probe, refuse_if_busy
from sluice_profiling.grid import Range
from sluice_profiling.measurement import Measurement, Provenance, write
from sluice_profiling.report import conclude
from sluice_profiling.timing import Patience

MEANS = {
    "inter-token time": ("vllm:inter_token_latency_seconds", "sglang:inter_token_latency_seconds"),
    "time to first token": ("vllm:time_to_first_token_seconds", "sglang:time_to_first_token_seconds"),
}
PREEMPTIONS = ("vllm:num_preemptions_total",)


SMALLEST_CHUNK = 32
FEWEST, MOST, POINT_SECONDS = 8, 60, 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the command."""

    url: str
    model: str
    api_key: str
    accelerator: str
    tensor_parallel: int
    batch: int
    largest_batch: int
    largest_chunk: int
    context: int
    carrier_tokens: int
    minutes: float
    precision: float
    allow_busy: bool
    output: Path
    name: str

    @property
    def plan(self) -> ProbePlan:
        """What to measure; ValueError where the options contradict each other."""
        limits = Range(
            operating_batch=self.batch,
            largest_batch=max(self.batch, self.largest_batch),
            smallest_chunk=SMALLEST_CHUNK,
            largest_chunk=self.largest_chunk,
            context_tokens=self.context,
        )
        patience = Patience(fewest=FEWEST, most=MOST, relative_half_width=self.precision, seconds=POINT_SECONDS)
        return ProbePlan(
            limits=limits,
            patience=patience,
            budget_seconds=self.minutes * 60,
            carrier_tokens=self.carrier_tokens,
        )


def start(options: Options) -> None:
    """Measure, fit and write; EngineError or ValueError where that cannot be done."""
    asyncio.run(_run(options, options.plan, Console()))


async def _run(options: Options, plan: ProbePlan, console: Console) -> None:
    async with EngineClient(options.url, options.model, api_key=options.api_key) as client:
        if not options.allow_busy and (warning := await refuse_if_busy(client)):
            console.print(f"warning: {warning}", markup=False)
        await check_streaming(client)
        before = await client.metrics()
        measurements = await _measure(client, plan, console)
        after = await client.metrics()
        provenance = await _provenance(client, options)
    options.output.mkdir(parents=True, exist_ok=True)
    raw = options.output / f"{options.name}.csv"
    write(raw, provenance, measurements)
    conclusion = conclude(options.name, provenance, measurements, plan.limits.operating_batch, raw.with_suffix(""))
    for line in [*conclusion.lines(), *own_view(before or {}, after or {})]:
        console.print(line, markup=False, highlight=False)
    for path in (raw, conclusion.manifest, conclusion.picture):
        console.print(f"wrote {path}", markup=False, highlight=False)


def own_view(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """What the engine's own metrics say of the run, from their totals before and after it."""
    lines = []
    for label, names in MEANS.items():
        for name in names:
            count = after.get(f"{name}_count", 0.0) - before.get(f"{name}_count", 0.0)
            if count > 0:
                total = after[f"{name}_sum"] - before.get(f"{name}_sum", 0.0)
                lines.append(f"  the engine's own mean {label}: {total / count * 1e3:.3f} ms over {count:.0f}")
    preempted = sum(after.get(name, 0.0) - before.get(name, 0.0) for name in PREEMPTIONS)
    if preempted > 0:
        lines.append(
            f"warning: the engine preempted {preempted:.0f} sequences for want of KV cache, and computed them again: "
            "probe smaller batches or shorter contexts"
        )
    return lines


async def _measure(client: EngineClient, plan: ProbePlan, console: Console) -> list[Measurement]:
    measurements: list[Measurement] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        row = bar.add_task("probing")
        async for measurement in probe(client, plan, time.monotonic):
            measurements.append(measurement)
            point, seconds = measurement.point, measurement.seconds
            told = f"{len(measurements)} points; chunk {point.chunk_tokens} batch {point.batch}: {seconds * 1e3:.3f} ms"
            bar.update(row, description=told)
    return measurements


async def _provenance(client: EngineClient, options: Options) -> Provenance:
    version = await client.version()
    return Provenance(
        model=client.model,
        accelerator=options.accelerator,
        engine=f"version {version}" if version else "unknown",
        tensor_parallel=options.tensor_parallel,
        measured_time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        method="times between streamed tokens, with probes beside a constant batch",
    )
