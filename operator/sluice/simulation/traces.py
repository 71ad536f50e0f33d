"""Request traces from files: read line by line, checked, and merged on one clock.

Known shapes, told by their columns: Azure's CSV (TIMESTAMP, ContextTokens,
GeneratedTokens), Mooncake's JSON lines (timestamp in ms, input_length, output_length,
hash_ids of 512-token blocks), ServeGen-like CSV or JSON lines (timestamp in seconds,
input_tokens, output_tokens), and access logs (start_time, prompt_tokens,
completion_tokens, optionally ttft in milliseconds). Every row that cannot be used is an
error that names file, line and column; so is a file with more than memory holds
(``trace_files``). Blocks that prompts begin with are kept by name: every replica's prefix
cache finds them again, or does not, as the simulation runs (``prefix_cache``).
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.simulation.prefix_blocks import BLOCK_TOKENS, MOST_BLOCKS, Blocks, joined
from sluice.simulation.trace_files import MOST_REQUESTS, TraceError, rows_of, too_many
from sluice.simulation.workload import Workload, blank

Floats = NDArray[np.float64]
MAX_TOKENS = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Which columns hold what, and the time's unit."""

    time: str
    prompt: str
    output: str
    seconds_per_unit: float = 1.0
    """For numeric times; text times are dates."""
    blocks: str | None = None
    ttft_milliseconds: str | None = None
    unsorted: bool = False
    """Access logs are written when a request ends, so their starts are not in order."""


SHAPES = (
    Shape(time="TIMESTAMP", prompt="ContextTokens", output="GeneratedTokens"),
    Shape(time="timestamp", prompt="input_length", output="output_length", seconds_per_unit=1e-3, blocks="hash_ids"),
    Shape(time="timestamp", prompt="input_tokens", output="output_tokens"),
    Shape(
        time="start_time",
        prompt="prompt_tokens",
        output="completion_tokens",
        ttft_milliseconds="ttft",
        unsorted=True,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One file's requests; times in seconds from its first request."""

    name: str
    arrival: Floats
    prompt: Floats
    output: Floats
    blocks: Blocks | None = None
    """Full blocks that prompts begin with, where the file names any."""
    label: tuple[str, ...] = ()
    """The class column's value per row, where one was named."""
    logged_ttft: Floats | None = None
    """Seconds; nan where the log has none."""


def read_trace(path: Path, *, class_column: str | None = None, prefixes: bool = True) -> Trace:
    """Read one trace; without ``prefixes`` as if no engine had a prefix cache."""
    reader = _Reader(path, class_column, prefixes=prefixes)
    for line, row in rows_of(path):
        reader.add(line, row)
    return reader.finish()


class _Reader:
    """Collects rows into arrays."""

    def __init__(self, path: Path, class_column: str | None, *, prefixes: bool) -> None:
        self.path, self.class_column, self.prefixes = path, class_column, prefixes
        self.shape: Shape | None = None
        self.columns = {name: array("d") for name in ("arrival", "prompt", "output", "ttft")}
        self.blocks, self.counts = array("q"), array("q")
        self.labels: list[str] = []
        self.names: dict[str, str] = {}

    def add(self, line: int, row: Mapping[str, Any]) -> None:
        shape = self.shape or self._recognise(line, row)
        time = self._time(line, shape, row)
        prompt, output = self._tokens(line, row, shape.prompt), self._tokens(line, row, shape.output)
        arrivals = self.columns["arrival"]
        if arrivals and time < arrivals[-1] and not shape.unsorted:
            raise TraceError(f"{self.path}:{line}: {shape.time} goes back by {arrivals[-1] - time:g} s; sort the trace")
        arrivals.append(time)
        self.columns["prompt"].append(prompt)
        self.columns["output"].append(output)
        if self.prefixes and shape.blocks:
            self._name_blocks(line, shape.blocks, row, int(prompt) // BLOCK_TOKENS)
        ttft = row.get(shape.ttft_milliseconds) if shape.ttft_milliseconds else None
        self.columns["ttft"].append(float(ttft) / 1000 if ttft not in (None, "", "-") else math.nan)
        if self.class_column is not None:
            label = str(row.get(self.class_column) or "other")
            self.labels.append(self.names.setdefault(label, label))

    def _name_blocks(self, line: int, column: str, row: Mapping[str, Any], full: int) -> None:
        """Keep the names of a prompt's full blocks, each once."""
        raw = row.get(column) or ()
        try:
            names = json.loads(raw) if isinstance(raw, str) else raw
            mine = array("q", dict.fromkeys(names[:full]))
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise TraceError(f"{self.path}:{line}: {column} is {raw!r:.80}, not a list of whole numbers") from error
        self.blocks.extend(mine)
        self.counts.append(len(mine))
        if len(self.blocks) > MOST_BLOCKS:
            raise TraceError(f"{self.path}:{line}: more than {MOST_BLOCKS:,} blocks in {column}; simulate a part")

    def _recognise(self, line: int, row: Mapping[str, Any]) -> Shape:
        for shape in SHAPES:
            if {shape.time, shape.prompt, shape.output} <= set(row):
                if self.class_column is not None and self.class_column not in row:
                    raise TraceError(f"{self.path}:{line}: no column {self.class_column!r} for the class")
                self.shape = shape
                return shape
        known = "; ".join(f"{s.time}, {s.prompt}, {s.output}" for s in SHAPES)
        raise TraceError(f"{self.path}:{line}: unknown columns {', '.join(map(str, row))}; known are {known}")

    def _time(self, line: int, shape: Shape, row: Mapping[str, Any]) -> float:
        raw = row[shape.time]
        try:
            seconds = float(raw) * shape.seconds_per_unit
        except (TypeError, ValueError):
            seconds = self._date(line, shape, str(raw))
        if not math.isfinite(seconds) or seconds < 0:
            raise TraceError(f"{self.path}:{line}: {shape.time} is {raw!r}, must be a time of at least 0")
        return seconds

    def _date(self, line: int, shape: Shape, text: str) -> float:
        whole, _, fraction = text.strip().rstrip("Z").partition(".")
        try:
            date = datetime.fromisoformat(whole).replace(tzinfo=UTC)
            return date.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)
        except ValueError as error:
            raise TraceError(f"{self.path}:{line}: {shape.time} is {text!r}, not a time") from error

    def _tokens(self, line: int, row: Mapping[str, Any], column: str) -> float:
        try:
            tokens = float(row[column])
        except (KeyError, TypeError, ValueError) as error:
            raise TraceError(f"{self.path}:{line}: {column} is {row.get(column)!r}, not a number") from error
        if not 0 <= tokens <= MAX_TOKENS:
            raise TraceError(f"{self.path}:{line}: {column} is {tokens:g}, must be between 0 and {MAX_TOKENS}")
        return max(1.0, math.ceil(tokens))

    def finish(self) -> Trace:
        arrays = {name: np.frombuffer(values) for name, values in self.columns.items() if len(values)}
        if not arrays:
            raise TraceError(f"{self.path}: no requests")
        order = np.argsort(arrays["arrival"], kind="stable")
        arrays = {name: values[order] for name, values in arrays.items()}
        return Trace(
            name=self.path.stem,
            arrival=arrays["arrival"] - arrays["arrival"][0],
            prompt=arrays["prompt"],
            output=arrays["output"],
            blocks=self._blocks(order) if len(self.blocks) else None,
            label=tuple(self.labels[k] for k in order) if self.labels else (),
            logged_ttft=None if np.isnan(arrays["ttft"]).all() else arrays["ttft"],
        )

    def _blocks(self, order: NDArray[np.int64]) -> Blocks:
        return Blocks.of(np.frombuffer(self.counts, np.int64), np.frombuffer(self.blocks, np.int64)).ordered(order)


def merge(traces: Sequence[Trace], *, patience_seconds: Mapping[str, float | None], seed: int) -> Workload:
    """Traces on one clock; a class is a file, or a value of the class column.

    ``patience_seconds`` is each class's mean; a class it does not name waits for ever.
    """
    if sum(len(trace.arrival) for trace in traces) > MOST_REQUESTS:
        raise TraceError(f"the traces together have {too_many('more')}")
    names: list[str] = []
    parts = []
    for trace in traces:
        labels = trace.label or (trace.name,) * len(trace.arrival)
        for label in dict.fromkeys(labels):
            if label not in names:
                names.append(label)
        part = blank(len(trace.arrival))
        part["arrival"], part["prompt"], part["output"] = trace.arrival, trace.prompt, trace.output
        part["work"] = trace.prompt
        number = {name: i for i, name in enumerate(names)}
        part["klass"] = [number[label] for label in labels]
        parts.append(part)
    requests = np.concatenate(parts)
    order = np.argsort(requests["arrival"], kind="stable")
    requests = requests[order]
    blocks = joined([(len(trace.arrival), trace.blocks) for trace in traces])
    requests["coin"] = np.random.Generator(np.random.Philox(key=seed)).random(len(requests))
    horizon = float(requests["arrival"][-1]) + 1e-3
    whole = Workload(
        classes=tuple(names),
        requests=requests,
        horizon_seconds=horizon,
        blocks=None if blocks is None else blocks.ordered(order),
    )
    return whole.with_patience(patience_seconds, seed)


def clustered(trace: Trace, groups: int) -> Trace:
    """Classes by length: k-means on log prompt and log output, started at quantiles, so deterministic."""
    points = np.log(np.column_stack([trace.prompt, trace.output]))
    centres = np.quantile(points, (np.arange(groups) + 0.5) / groups, axis=0)
    nearest = np.zeros(len(points), dtype=np.int64)
    for _ in range(100):
        distances = ((points[:, None, :] - centres[None, :, :]) ** 2).sum(axis=2)
        found = distances.argmin(axis=1)
        if (found == nearest).all() and _ > 0:
            break
        nearest = found
        for k in range(groups):
            if (nearest == k).any():
                centres[k] = points[nearest == k].mean(axis=0)
    labels = tuple(f"{trace.name}-{k}" for k in nearest)
    return replace(trace, label=labels)
