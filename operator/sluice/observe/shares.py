"""How each class's requests were spread over the pools: counted, not asked.

Where the proxy can be asked (Envoy files), its own counters per endpoint tell; each endpoint
bears its pool as its locality's zone. They count since the proxy started, so what they grew by
inside the window is taken (:class:`ShareMeter`). Envoy Gateway makes one cluster of all back ends of
a rule and exports nothing per endpoint: there the engines tell, which count first tokens per
scraped address and served model name. Classes that share a model name are told together.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sluice.model.signal import Source
from sluice.model.snapshot import PoolShares
from sluice.observe.promql import Series, alternation, duration

EndpointCounts = Mapping[tuple[str, str], float]
"""(pool, address) -> requests that the endpoint was sent since the proxy started."""

FIRST_TOKENS: Mapping[Source, str] = {
    Source.VLLM: "vllm:time_to_first_token_seconds_count",
    Source.SGLANG: "sglang:time_to_first_token_seconds_count",
}
"""Counted when the first token comes: long answers would otherwise be told long after they were routed."""
SOURCE_LABEL = "sluice_source"


@dataclass(slots=True)
class ShareMeter:
    """Turns counters per endpoint into requests per pool over the last window."""

    _history: deque[tuple[float, Mapping[str, EndpointCounts]]] = field(default_factory=deque)

    def read(
        self, counts: Mapping[str, EndpointCounts], now: float, *, window_seconds: float
    ) -> Mapping[str, PoolShares]:
        """Requests per pool by cluster since the oldest reading inside the window; none at the first reading."""
        while len(self._history) > 1 and self._history[1][0] <= now - window_seconds:
            self._history.popleft()
        known = [(since, before) for since, before in self._history if since < now]
        self._history.append((now, counts))
        found: dict[str, PoolShares] = {}
        for cluster, current in counts.items():
            for since, before in known:  # the oldest that the proxy has not restarted since
                grown = _grown(before.get(cluster, {}), current)
                if grown is not None:
                    found[cluster] = PoolShares(requests=grown, since_seconds=since, source=Source.ENVOY)
                    break
        return found


def _grown(before: EndpointCounts, after: EndpointCounts) -> Mapping[str, float] | None:
    """Growth per pool; None where counting began anew. An endpoint that is new began at zero."""
    if not before or any(after.get(key, count) < count for key, count in before.items()):
        return None
    grown: defaultdict[str, float] = defaultdict(float)
    for (pool, address), count in after.items():
        grown[pool] += count - before.get((pool, address), 0.0)
    return dict(grown)


def engines_query(addresses: Iterable[str], *, window_seconds: float) -> str:
    """First tokens per scraped address and model name over the window, from every engine that counts them."""
    alternatives = alternation(addresses)
    parts = (
        f'label_replace(sum by (instance, model_name) (increase({{__name__="{metric}",instance=~{alternatives}}}'
        f'[{duration(window_seconds)}])), "{SOURCE_LABEL}", "{source.value}", "", "")'
        for source, metric in FIRST_TOKENS.items()
    )
    return "\nor ".join(parts)


def engine_shares(
    series: Iterable[Series], pool_of: Mapping[str, str], classes: Mapping[str, str], since_seconds: float
) -> tuple[Mapping[str, PoolShares], PoolShares | None]:
    """By class, and of all requests together.

    ``pool_of`` tells the pool of an address, ``classes`` the class of a model name that one class alone bears.
    """
    by_class: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    total: defaultdict[str, float] = defaultdict(float)
    source = Source.VLLM
    for one in series:
        pool = pool_of.get(one.labels.get("instance", ""))
        if pool is None:
            continue
        source = Source(one.labels[SOURCE_LABEL])
        total[pool] += one.value
        name = classes.get(one.labels.get("model_name", ""))
        if name is not None:
            by_class[name][pool] += one.value

    def shares(requests: Mapping[str, float]) -> PoolShares:
        return PoolShares(requests=dict(requests), since_seconds=since_seconds, source=source)

    return {name: shares(counted) for name, counted in by_class.items()}, shares(total) if total else None
