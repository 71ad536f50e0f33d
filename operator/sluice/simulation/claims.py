"""What an experiment says: a claim, a verdict, and the evidence as tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """What the evidence says of a claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows for print and JSON."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a figure."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    error: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A figure as data; ``figures.draw`` makes the picture."""

    name: str
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    logarithmic_x: bool = False
    level: float | None = None
    """A horizontal reference."""
    from_zero: bool = False
    """Whether the vertical axis begins at zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim with what was found."""

    name: str
    statement: str
    verdict: Verdict
    evidence: str
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = field(default=())


def verdict_of(*, holds: bool, decided: bool = True) -> Verdict:
    """Reproduced, not reproduced, or undecided within the noise."""
    if not decided:
        return Verdict.CANNOT_TELL
    return Verdict.REPRODUCED if holds else Verdict.NOT_REPRODUCED


def text_of(table: Table) -> str:
    """A table in plain text, columns aligned."""
    cells = [list(table.columns), *([_cell(value) for value in row] for row in table.rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(table.columns))]
    lines = ["  ".join(_pad(row[k], widths[k], first=k == 0) for k in range(len(row))).rstrip() for row in cells]
    rule = "-" * len(lines[0])
    return "\n".join([table.title, lines[0], rule, *lines[1:], *([table.note] if table.note else [])])


def markdown_of(table: Table) -> str:
    """The same as a Markdown table."""
    rows: list[Sequence[str]] = [table.columns, ["---"] * len(table.columns)]
    rows += [[_cell(value) for value in row] for row in table.rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"


def _pad(text: str, width: int, *, first: bool) -> str:
    return text.ljust(width) if first else text.rjust(width)
