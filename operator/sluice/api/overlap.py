"""Whether two classes can claim the same request."""

from __future__ import annotations

from sluice.api.workload_class import MatchSpec, WorkloadClassSpec


def overlaps(first: WorkloadClassSpec, second: WorkloadClassSpec) -> str:
    """What both match, in words; empty where no request belongs to both.

    A narrower match inside a wider one overlaps too: which of the two a proxy prefers
    depends on the proxy, and a class must mean the same everywhere. A match and a
    ``routeRef`` are not compared: what the user's own route matches is not ours to know.
    """
    if first.route_ref and second.route_ref:
        same = first.route_ref == second.route_ref
        return f"HTTPRoute {first.route_ref.name}, rule {first.route_ref.rule_name}" if same else ""
    if first.match and second.match and _meet(first.match, second.match):
        return _words(first.match, second.match)
    return ""


def _headers(match: MatchSpec) -> dict[str, str]:
    """Header names ignore case; values do not."""
    return {header.name.lower(): header.value for header in match.headers}


def _segments(match: MatchSpec) -> tuple[str, ...]:
    """The prefix by path segments: /v1 is no prefix of /v10."""
    return tuple(segment for segment in (match.path_prefix or "").split("/") if segment)


def _meet(first: MatchSpec, second: MatchSpec) -> bool:
    """Disjoint only by one header with two values, or by paths of which neither begins the other."""
    ours, theirs = _headers(first), _headers(second)
    if any(theirs.get(name, value) != value for name, value in ours.items()):
        return False
    shorter, longer = sorted((_segments(first), _segments(second)), key=len)
    return longer[: len(shorter)] == shorter


def _words(first: MatchSpec, second: MatchSpec) -> str:
    """One request that both claim."""
    headers = {**_headers(first), **_headers(second)}
    path = max((first.path_prefix or "/", second.path_prefix or "/"), key=len)
    return ", ".join([f"path {path}", *(f"{name}: {value}" for name, value in sorted(headers.items()))])
