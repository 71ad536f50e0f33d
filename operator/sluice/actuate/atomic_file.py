"""Files that others read while they are written: replaced as a whole, by rename."""

from __future__ import annotations

import contextlib
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Put ``text`` at ``path``: a reader sees the old text or the new one. Raises OSError, and leaves no draft."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def text_at(path: Path) -> str | None:
    """The text at ``path``; None where there is none, or none that can be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
