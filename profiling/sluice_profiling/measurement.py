"""Measured working points and where they come from; the raw CSV file.

A row is one working point: a chunk of prompt tokens beside a batch of decoding
sequences with some context, and the time of one iteration. The file begins with
``# key: value`` lines that tell what was measured and with what; most tools skip them
when told that ``#`` opens a comment.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """What an iteration holds."""

    chunk_tokens: int
    """Prompt tokens; 0: decode only."""
    batch: int
    """Sequences in the batch."""
    context_tokens: int
    """Tokens of context per decoding sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One working point with its time."""

    point: Point
    seconds: float
    """Median of one iteration."""
    half_width_seconds: float = 0.0
    """Half the width of the median's 95 % interval; 0: not known (composed tables)."""
    samples: int = 1
    """Iterations behind the median."""
    rejected: int = 0
    """Iterations left out as outliers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What was measured, and with what."""

    model: str
    accelerator: str
    engine: str
    tensor_parallel: int = 1
    measured_time: str = ""
    """RFC 3339, UTC."""
    method: str = ""
    """How the times were obtained, in a phrase."""
    driver: str = ""
    libraries: str = ""
    """Names with versions."""
    source: str = ""
    """Publication or data set, where we did not measure it."""
    licence: str = ""

    @classmethod
    def of(cls, header: Mapping[str, str]) -> Self:
        """From the header of a CSV file; ValueError where something unknown or nothing needed is there."""
        known = {entry.name for entry in fields(cls)}
        if unknown := set(header) - known:
            raise ValueError(f"unknown header lines: {', '.join(sorted(unknown))}")
        if absent := {"model", "accelerator", "engine"} - set(header):
            raise ValueError(f"missing header lines: {', '.join(sorted(absent))}")
        texts = {key: value for key, value in header.items() if key != "tensor_parallel"}
        return cls(**texts, tensor_parallel=int(header.get("tensor_parallel", "1")))


COLUMNS = ("chunk_tokens", "batch", "context_tokens", "seconds", "half_width_seconds", "samples", "rejected")


def row(measurement: Measurement) -> str:
    """One line of the file."""
    point = measurement.point
    numbers = (point.chunk_tokens, point.batch, point.context_tokens)
    times = (measurement.seconds, measurement.half_width_seconds)
    counts = (measurement.samples, measurement.rejected)
    return ",".join([*map(str, numbers), *(f"{time:.9f}" for time in times), *map(str, counts)]) + "\n"


def head(provenance: Provenance) -> str:
    """The lines above the rows."""
    told = {entry.name: getattr(provenance, entry.name) for entry in fields(provenance)}
    comments = "".join(f"# {key}: {value}\n" for key, value in told.items() if value != "")
    return comments + ",".join(COLUMNS) + "\n"


def write(path: Path, provenance: Provenance, measurements: Iterable[Measurement]) -> None:
    """Write the whole file."""
    path.write_text(head(provenance) + "".join(map(row, measurements)), encoding="utf-8")


def read(path: Path) -> tuple[Provenance, tuple[Measurement, ...]]:
    """Read a file; a last line that was cut off by a crash is left out. ValueError names what is wrong."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: no text: {error}") from error
    header = dict(_pair(line) for line in lines if line.startswith("#"))
    body = [line for line in lines if not line.startswith("#") and line.endswith("\n")]
    table = csv.DictReader(body)
    if tuple(table.fieldnames or ()) != COLUMNS:
        raise ValueError(f"{path.name}: expected the columns {','.join(COLUMNS)}")
    return Provenance.of(header), tuple(_measurement(entry) for entry in table)


def _pair(line: str) -> tuple[str, str]:
    key, _, value = line.removeprefix("#").partition(":")
    return key.strip(), value.strip()


def _measurement(entry: Mapping[str, str]) -> Measurement:
    return Measurement(
        point=Point(int(entry["chunk_tokens"]), int(entry["batch"]), int(entry["context_tokens"])),
        seconds=float(entry["seconds"]),
        half_width_seconds=float(entry["half_width_seconds"]),
        samples=int(entry["samples"]),
        rejected=int(entry["rejected"]),
    )
