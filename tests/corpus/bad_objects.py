"""The corpus of bad objects: one file per object, with the messages that refuse it.

The same files are checked offline (``tests/unit/api``) and sent to a real API server
(``tests/control``); both must say exactly ``refused``, in any order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent / "bad"


@dataclass(frozen=True, slots=True)
class BadObject:
    """One object that must be refused."""

    name: str
    sentence: str
    refused: tuple[str, ...]
    document: Mapping[str, Any]


def load() -> tuple[BadObject, ...]:
    """Every bad object, by file name."""
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        found.append(
            BadObject(
                name=path.stem,
                sentence=content["sentence"],
                refused=tuple(content["refused"]),
                document=content["object"],
            )
        )
    return tuple(found)


def server_words(status: Mapping[str, Any]) -> tuple[str, ...]:
    """The messages of a ``Status`` answer to a create with ``fieldValidation=Strict``.

    The words before them (``Kind.group "name" is invalid:``) are dropped; errors of
    strict decoding are taken apart.
    """
    causes = (status.get("details") or {}).get("causes") or ()
    if causes:
        return tuple(f"{cause['field']}: {cause['message']}" for cause in causes)
    return tuple(re.findall(r'unknown field "[^"]+"', status["message"])) or (status["message"],)
