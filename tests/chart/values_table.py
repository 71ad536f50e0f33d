"""Writes the table of values in the chart's README from the comments in its values.yaml.

python tests/chart/values_table.py           # rewrite the table
python tests/chart/values_table.py --check   # fail where it is out of date
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

CHART = Path(__file__).resolve().parents[2] / "charts" / "sluice"
BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"
DESCRIPTION = "# -- "


def rows(values: str) -> Iterator[tuple[str, str, str]]:
    """Key, default and description of every described value, in the order of the file."""
    document = yaml.safe_load(values)
    path: list[str] = []
    description = ""
    for line in values.splitlines():
        text = line.strip()
        if text.startswith(DESCRIPTION):
            description = text.removeprefix(DESCRIPTION)
            continue
        if text.startswith(("#", "- ")) or ":" not in text:
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        path = [*path[:depth], text.partition(":")[0]]
        if description:
            yield ".".join(path), _default(document, path), description
            description = ""


def described(values: str) -> set[str]:
    """The keys that have a description."""
    return {key for key, _, _ in rows(values)}


def leaves(values: object, prefix: str = "") -> Iterator[str]:
    """Every key that holds no further keys."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix


def table(values: str) -> str:
    """The Markdown table."""
    head = "| value | default | meaning |\n|---|---|---|\n"
    return head + "".join(f"| `{key}` | `{default}` | {text} |\n" for key, default, text in rows(values))


def updated(readme: str, values: str) -> str:
    """The README with the table of today; ValueError where its marks are missing."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md lacks {BEGIN.strip()} or {END.strip()}")
    return f"{before}{BEGIN}{table(values)}{END}{after}"


def _default(document: object, path: list[str]) -> str:
    for key in path:
        assert isinstance(document, dict), f"{'.'.join(path)} lies below a value"
        document = document[key]
    return json.dumps(document)


def main() -> int:
    """Rewrite, or check, and say what is wrong."""
    parser = argparse.ArgumentParser(description="Keep the chart's table of values up to date.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the table is out of date")
    arguments = parser.parse_args()
    values = (CHART / "values.yaml").read_text(encoding="utf-8")
    readme = CHART / "README.md"
    known = described(values)
    bare = [key for key in leaves(yaml.safe_load(values)) if not any(f"{key}.".startswith(f"{k}.") for k in known)]
    if bare:
        sys.stderr.write(f"values without a description: {', '.join(bare)}\n")
        return 1
    old = readme.read_text(encoding="utf-8")
    new = updated(old, values)
    if arguments.check:
        if new != old:
            sys.stderr.write("charts/sluice/README.md is out of date: run python tests/chart/values_table.py\n")
        return int(new != old)
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
