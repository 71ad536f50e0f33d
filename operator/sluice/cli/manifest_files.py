"""Reads manifests from files and directories, as ``kubectl apply -f`` would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from sluice.api.manifests import Manifests, parse

SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def read(paths: Iterable[Path]) -> Manifests:
    """Everything the files declare; a directory stands for all manifests below it, in name order."""
    result = Manifests()
    for path in paths:
        for file in _files(path):
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                result = result.merge(Manifests(errors=(f"{file}: cannot be read: {error}",)))
                continue
            result = result.merge(parse(text, str(file)))
    return result


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    else:
        yield path
