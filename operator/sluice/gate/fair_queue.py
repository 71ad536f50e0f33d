"""The queue of one class: first come first served, or fair across the class's tenants.

Start-time fair queueing on prompt tokens (Goyal, Vin, Cheng 1996): the next request is the
oldest of the key that has had least. With one key, or none, this is first come first served.
Every operation costs the logarithm of the number of keys; a request that goes away is
taken out at once.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator

from sluice.gate.request import Request


class FairQueue:
    """Waiting requests of one class."""

    def __init__(self) -> None:
        self._keys: dict[str, OrderedDict[Request, None]] = {}
        self._tag: dict[str, float] = {}
        """Virtual start of the key's next request; kept for a key while it lies ahead of the virtual time."""
        self._heap: list[tuple[float, int, str]] = []
        self._clock = 0.0
        self._entries = 0
        self._length = 0
        self.tokens = 0.0
        """Prompt tokens of all that wait."""

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Request]:
        for waiting in self._keys.values():
            yield from waiting

    def of_key(self, key: str) -> int:
        """How many of ``key`` wait."""
        waiting = self._keys.get(key)
        return len(waiting) if waiting else 0

    def push(self, request: Request) -> None:
        """Put ``request`` behind those of its key."""
        waiting = self._keys.get(request.key)
        if waiting is None:
            waiting = self._keys[request.key] = OrderedDict()
            self._enter(request.key)
        waiting[request] = None
        self._length += 1
        self.tokens += request.prompt_tokens

    def head(self) -> Request | None:
        """Who is next, without taking it."""
        while self._heap:
            tag, _, key = self._heap[0]
            waiting = self._keys.get(key)
            if waiting and tag == self._tag[key]:
                return next(iter(waiting))
            heapq.heappop(self._heap)
        return None

    def pop(self) -> Request:
        """Take the head."""
        request = self.head()
        if request is None:
            raise IndexError("nothing waits")
        tag, _, key = heapq.heappop(self._heap)
        self._clock = tag
        self._tag[key] = tag + max(1.0, request.prompt_tokens)
        self._take(request)
        if key in self._keys:
            self._enter(key)
        return request

    def remove(self, request: Request) -> bool:
        """Take ``request`` out wherever it stands; False where it does not wait here."""
        if request not in self._keys.get(request.key, ()):
            return False
        self._take(request)
        return True

    def older_than(self, moment: float) -> list[Request]:
        """Requests that arrived before ``moment``."""
        found = []
        for waiting in self._keys.values():
            for request in waiting:
                if request.arrival >= moment:
                    break
                found.append(request)
        return found

    def _take(self, request: Request) -> None:
        waiting = self._keys[request.key]
        del waiting[request]
        self._length -= 1
        self.tokens = self.tokens - request.prompt_tokens if self._length else 0.0
        if not waiting:
            del self._keys[request.key]
            if len(self._tag) > 4 * len(self._keys) + 64:
                self._forget()

    def _enter(self, key: str) -> None:
        """Enter a key that has requests into the order."""
        tag = max(self._clock, self._tag.get(key, 0.0))
        self._tag[key] = tag
        self._entries += 1
        heapq.heappush(self._heap, (tag, self._entries, key))

    def _forget(self) -> None:
        """Drop what absent keys had: those behind the virtual time owe nothing."""
        self._tag = {key: tag for key, tag in self._tag.items() if key in self._keys or tag > self._clock}
        self._heap = [entry for entry in self._heap if entry[2] in self._keys and entry[0] == self._tag[entry[2]]]
        heapq.heapify(self._heap)
