"""Which attempt of its client a request is, so that retries do not look like demand.

SDKs and proxies count their retries in a header. A client that does not, but sends one
``idempotency-key`` with every attempt, is known by that: the key is what stays the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from sluice.gate.keys import bounded

RETRY_HEADERS = ("x-stainless-retry-count", "x-envoy-attempt-count")
"""What SDKs and proxies count retries with; Envoy's begins with 1."""
KEY_HEADER = "idempotency-key"
REMEMBERED_KEYS = 20_000
MOST_DIGITS = 15
"""Of a number that a client writes: Python takes thousands for an error."""


class Attempts:
    """Counts attempts by what their requests bear."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, int] = OrderedDict()

    def of(self, headers: Mapping[str, str]) -> int:
        """0 for a first attempt, else how many came before; the larger of both counts."""
        key = bounded(headers.get(KEY_HEADER, ""))
        if not key:
            return counted(headers)
        before = self._seen.pop(key, -1) + 1
        self._seen[key] = before
        if len(self._seen) > REMEMBERED_KEYS:
            self._seen.popitem(last=False)
        return max(before, counted(headers))


def counted(headers: Mapping[str, str]) -> int:
    """What the headers of SDK or proxy say; 0 where they say nothing."""
    sdk, proxy = (number(headers.get(name)) for name in RETRY_HEADERS)
    if sdk is not None:
        return sdk
    return 0 if proxy is None else max(0, proxy - 1)


def number(text: str | None) -> int | None:
    """A whole number that a client wrote; None where it is none, or longer than any that means something."""
    return int(text) if text is not None and text.isdecimal() and len(text) <= MOST_DIGITS else None
