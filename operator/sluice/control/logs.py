"""Log lines: a constant message and the fields it is about, one line each."""

from __future__ import annotations

import logging

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
QUIET = ("kopf", "aiohttp", "urllib3", "kubernetes")
"""Libraries whose routine is not our user's news."""


class FieldFormatter(logging.Formatter):
    """``time level logger: message key=value ...``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with the extra fields after the message."""
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD and key[:1] != "_"}
        told = "".join(
            f" {key}={value}" for key, value in sorted(fields.items()) if isinstance(value, str | int | float)
        )
        first, *rest = super().format(record).split("\n", 1)
        return "\n".join((first + told, *rest))


def configure(level: str) -> None:
    """Log to standard error from ``level`` (debug, info, warning, error) up."""
    handler = logging.StreamHandler()
    handler.setFormatter(FieldFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if level != "debug":
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
