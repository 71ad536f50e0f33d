"""Which blocks of tokens prompts begin with: what prefix caches of engines may find again.

A block is a run of so many prompt tokens together with all that comes before it, so two
prompts with the same block share everything up to its end. Only full blocks count: engines
cache no others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

BLOCK_TOKENS = 512
"""Mooncake's."""
MOST_BLOCKS = 20_000_000
"""Of a trace: seventy hours of Mooncake's conversations, and .6 GB for each policy where caches have no bound."""


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """The leading blocks of every request, in order; read by all policies, written by none."""

    starts: NDArray[np.int64]
    """Where in ``ids`` a request's blocks begin, and behind the last one their number."""
    ids: NDArray[np.int32]
    """Names of blocks: 0, 1, ... in no particular order."""
    tokens: int = BLOCK_TOKENS

    @classmethod
    def of(cls, counts: NDArray[np.int64], names: NDArray[np.int64], tokens: int = BLOCK_TOKENS) -> Blocks:
        """From the number of blocks of each request, and their names one after another."""
        _, ids = np.unique(names, return_inverse=True)
        return cls(np.concatenate([[0], np.cumsum(counts)]), ids.astype(np.int32), tokens)

    @property
    def distinct(self) -> int:
        """Different blocks."""
        return int(self.ids.max()) + 1 if len(self.ids) else 0

    def of_request(self, k: int) -> list[int]:
        """Names of one request's blocks."""
        found: list[int] = self.ids[self.starts[k] : self.starts[k + 1]].tolist()
        return found

    def ordered(self, order: NDArray[np.int64]) -> Blocks:
        """The same requests in another order."""
        counts = np.diff(self.starts)[order]
        starts = np.concatenate([[0], np.cumsum(counts)])
        shift = np.repeat(self.starts[:-1][order] - starts[:-1], counts)
        return replace(self, starts=starts, ids=self.ids[np.arange(starts[-1]) + shift])

    def flat(self) -> NDArray[np.int32]:
        """As kernels take it: the starts, counted from the array's own beginning, and behind them the names."""
        return np.concatenate([self.starts + len(self.starts), self.ids]).astype(np.int32)


def joined(parts: Sequence[tuple[int, Blocks | None]]) -> Blocks | None:
    """Traces one after another, each by its number of requests and blocks; no two share a block."""
    if all(blocks is None for _, blocks in parts):
        return None
    counts, ids, names = [], [], 0
    for number, blocks in parts:
        if blocks is None:
            counts.append(np.zeros(number, dtype=np.int64))
            continue
        counts.append(np.diff(blocks.starts))
        ids.append(blocks.ids + np.int32(names))
        names += blocks.distinct
    return Blocks(np.concatenate([[0], np.cumsum(np.concatenate(counts))]), np.concatenate(ids))


def expected_work(prompts: NDArray[np.float64], blocks: Blocks, capacities: Sequence[float]) -> NDArray[np.float64]:
    """Prompt tokens to compute if requests went to replicas in turn, each caching ``capacities`` tokens.

    What a plan is told before anybody has measured: placement by load scatters prompts like
    this. Requests take no time here, and caches have the memory of their batch too.
    """
    caches: list[OrderedDict[int, None]] = [OrderedDict() for _ in capacities]
    work = prompts.copy()
    for k in range(len(prompts)):
        cache, mine = caches[k % len(caches)], blocks.of_request(k)
        found = next((place for place, block in enumerate(mine) if block not in cache), len(mine))
        work[k] -= blocks.tokens * min(found, (int(prompts[k]) - 1) // blocks.tokens)
        for block in reversed(mine):
            cache[block] = None
            cache.move_to_end(block)
        while len(cache) * blocks.tokens > capacities[k % len(caches)]:
            cache.popitem(last=False)
    return work


def hit_rate(requests: np.ndarray[tuple[int, ...], np.dtype[np.void]]) -> float:
    """Share of the prompt tokens of requests that began which engines found in their caches."""
    begun = requests[requests["begun"] >= 0.0]
    return 1.0 - float(begun["work"].sum() / max(1.0, begun["prompt"].sum()))
