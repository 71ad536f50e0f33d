"""What of an object would change, as lines of a unified diff: for the preview in Advise. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import yaml

from sluice.actuate.objects import CONTENT


def difference(label: str, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """From ``before`` (None: there is none) to ``after``, by their content alone."""
    return list(difflib.unified_diff(_lines(before), _lines(after), label, label, lineterm=""))


def _lines(document: Mapping[str, Any] | None) -> list[str]:
    parts = {key: document[key] for key in CONTENT if key in document} if document else {}
    return yaml.safe_dump(parts, sort_keys=True, width=120).splitlines() if parts else []
