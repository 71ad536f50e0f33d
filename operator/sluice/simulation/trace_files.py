"""Rows of a trace file, read line by line, and a word to who brings more than memory holds.

A simulation keeps every request (168 bytes, once for each policy that is compared), so a
trace of gigabytes is refused: at once where its size tells, else at the row too many. A line
is read up to a bound, so that neither is a file without line ends a way to fill the memory.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MOST_REQUESTS = 2_000_000
"""Six or seven hours of the busiest public service; about .4 GB for each policy."""
LONGEST_LINE = 1_000_000
"""Characters."""
SAMPLE_BYTES = 1 << 20
SURELY = 2.0
"""A file is refused by its size where its first lines speak for so many times the bound."""


class TraceError(ValueError):
    """A trace that cannot be used: file, line, and what is wrong."""


def rows_of(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line, columns) of every row; JSON lines by the file's ending, else CSV with a header."""
    _refuse_by_size(path)
    rows = _json_rows(path) if path.suffix in {".jsonl", ".json", ".log"} else _csv_rows(path)
    try:
        for count, (line, row) in enumerate(rows):
            if count >= MOST_REQUESTS:
                raise TraceError(f"{path}:{line}: {too_many('more')}")
            yield line, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: not a text file of CSV or JSON lines: {error}") from error


def too_many(count: str) -> str:
    """What to do about ``count`` requests, in words."""
    return (
        f"{count} than {MOST_REQUESTS:,} requests, and every policy holds them all in memory; "
        "simulate a part of the trace, such as its busiest hour"
    )


def _refuse_by_size(path: Path) -> None:
    """Tell at once what reading for minutes would tell too."""
    size = path.stat().st_size
    if size <= SAMPLE_BYTES:
        return
    with path.open("rb") as file:
        lines = file.read(SAMPLE_BYTES).count(b"\n")
    requests = size / SAMPLE_BYTES * lines
    if requests > SURELY * MOST_REQUESTS:
        raise TraceError(f"{path}: {size / 1e9:.1f} GB, about {requests:,.0f} requests: {too_many('more')}")


def _lines(path: Path, encoding: str) -> Iterator[str]:
    with path.open(newline="", encoding=encoding) as file:
        number = 0
        while text := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(text) > LONGEST_LINE:
                raise TraceError(f"{path}:{number}: a line of more than {LONGEST_LINE:,} characters")
            yield text


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(_lines(path, "utf-8-sig"))
    for row in reader:
        yield reader.line_num, row


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, text in enumerate(_lines(path, "utf-8"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise TraceError(f"{path}:{line}: not JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise TraceError(f"{path}:{line}: expected an object")
        yield line, row
