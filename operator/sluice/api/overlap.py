"""Whether two classes can claim the same request.

A narrower match inside a wider one overlaps too: which of the two a proxy prefers
depends on the proxy, and a class must mean the same everywhere. A match and a
``routeRef`` are not compared: what the user's own route matches is not ours to know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sluice.api.workload_class import MatchSpec, WorkloadClassResource

Values = tuple[str, ...]


@dataclass(slots=True)
class _Group:
    """Claims that name the same headers, findable by the values of any of those headers."""

    members: list[tuple[int, WorkloadClassResource]] = field(default_factory=list)
    indexes: dict[Values, dict[Values, list[tuple[int, WorkloadClassResource]]]] = field(default_factory=dict)

    def add(self, position: int, entry: WorkloadClassResource, headers: dict[str, str]) -> None:
        self.members.append((position, entry))
        for names, index in self.indexes.items():
            index.setdefault(_values(headers, names), []).append((position, entry))

    def with_values(self, names: Values, values: Values) -> list[tuple[int, WorkloadClassResource]]:
        """The members whose headers ``names`` have ``values``."""
        if names not in self.indexes:
            index: dict[Values, list[tuple[int, WorkloadClassResource]]] = {}
            for position, entry in self.members:
                match = entry.spec.match
                index.setdefault(_values(_headers(match) if match else {}, names), []).append((position, entry))
            self.indexes[names] = index
        return self.indexes[names].get(values, [])


class Claims:
    """What the classes so far match; a thousand classes cost a thousand look-ups, not a million comparisons."""

    def __init__(self) -> None:
        self._count = 0
        self._groups: dict[frozenset[str], _Group] = {}
        self._routes: dict[tuple[str, str], list[WorkloadClassResource]] = {}

    def add(self, entry: WorkloadClassResource) -> None:
        """Take ``entry``'s match or route as claimed."""
        self._count += 1
        if (route := entry.spec.route_ref) is not None:
            self._routes.setdefault((route.name, route.rule_name), []).append(entry)
        if (match := entry.spec.match) is not None:
            headers = _headers(match)
            self._groups.setdefault(frozenset(headers), _Group()).add(self._count, entry, headers)

    def rivals(self, entry: WorkloadClassResource) -> Iterator[tuple[WorkloadClassResource, str]]:
        """Earlier classes that match a request of ``entry``'s, with one such request in words; oldest first."""
        if (route := entry.spec.route_ref) is not None:
            for other in self._routes.get((route.name, route.rule_name), ()):
                yield other, f"HTTPRoute {route.name}, rule {route.rule_name}"
        if (match := entry.spec.match) is None:
            return
        headers = _headers(match)
        found: list[tuple[int, WorkloadClassResource]] = []
        for names, group in self._groups.items():
            common = tuple(sorted(names & headers.keys()))
            found += group.with_values(common, _values(headers, common))
        for _, other in sorted(found, key=lambda claim: claim[0]):
            if other.spec.match is not None and _paths_meet(match, other.spec.match):
                yield other, _words(match, other.spec.match)


def _values(headers: dict[str, str], names: Values) -> Values:
    return tuple(headers[name] for name in names)


def _headers(match: MatchSpec) -> dict[str, str]:
    """Header names ignore case; values do not."""
    return {header.name.lower(): header.value for header in match.headers}


def _segments(match: MatchSpec) -> tuple[str, ...]:
    """The prefix by path segments: /v1 is no prefix of /v10."""
    return tuple(segment for segment in (match.path_prefix or "").split("/") if segment)


def _paths_meet(first: MatchSpec, second: MatchSpec) -> bool:
    """Disjoint only where neither prefix begins the other."""
    shorter, longer = sorted((_segments(first), _segments(second)), key=len)
    return longer[: len(shorter)] == shorter


def _words(first: MatchSpec, second: MatchSpec) -> str:
    """One request that both claim."""
    headers = {**_headers(first), **_headers(second)}
    path = max((first.path_prefix or "/", second.path_prefix or "/"), key=len)
    return ", ".join([f"path {path}", *(f"{name}: {value}" for name, value in sorted(headers.items()))])
