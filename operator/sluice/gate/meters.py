"""The gate's own metrics. Names and labels are an interface: dashboards and ``observe`` read them."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sluice.gate.request import Freed, Refusal, Request
from sluice.gate.state import Gate

WAIT_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)


class Meters:
    """Everything the gate counts, with label children looked up once per class."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"sluice_gate_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"sluice_gate_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"sluice_gate_{name}", text, ("class",), registry=registry, buckets=WAIT_BUCKETS)

        self._waiting = gauge("waiting_requests", "Requests that wait for their prefill.", "class")
        self._tokens = gauge("waiting_tokens", "Prompt tokens that wait, as estimated.", "class")
        self._prefill = gauge("prefill_requests", "Requests let go whose first token is not yet seen.", "class")
        self._unfinished = gauge("engine_unfinished_tokens", "Unfinished prefill tokens.", "engine")
        self._holding = gauge("holding", "1 while requests are held, 0 in shadow or open.")
        self._plan = gauge("plan_info", "1 for the plan in force.", "plan_id", "fresh")
        self._plan_shown: tuple[str, str] | None = None
        self._requests = counter("requests", "First attempts and retries.", "class", "attempt")
        self._admitted = counter("admitted", "Requests let go.", "class")
        self._refused = counter("refused", "Requests answered with 429.", "class", "reason")
        self._would_wait = counter("would_hold", "Requests not gated that an exact gate would have held.", "class")
        self._late = counter("late", "Requests let go after their promise was lost.", "class")
        self._gone = counter("gone", "Requests whose client or proxy went away while they waited.", "class")
        self._freed = counter("freed", "Budgets freed, by what freed them.", "how")
        self._freed_seen = dict.fromkeys(Freed, 0)
        self.bypassed = counter("bypassed", "Requests let pass without a decision.", "why")
        self._harm = counter("idle_while_waiting_seconds", "Seconds in which something waited while something idled.")
        self._harm_seen = 0.0
        self.feed_problems = counter("feed_problems", "Plans or manifests that could not be used.", "why")
        self._wait = histogram("wait_seconds", "From arrival to start.")
        self._hold = histogram("hold_seconds", "From start to first token.")
        self._ttft = histogram("ttft_seconds", "From arrival to first token: what the proxy's client sees.")
        self._children: dict[tuple[Any, ...], Any] = {}

    def _of(self, family: Any, *labels: str) -> Any:
        key = (family, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = family.labels(*labels)
        return child

    def arrived(self, request: Request) -> None:
        """Count an arrival."""
        self._of(self._requests, request.lane, "first" if request.attempt == 0 else "retry").inc()

    def started(self, request: Request) -> None:
        """Count a start."""
        self._of(self._admitted, request.lane).inc()
        self._of(self._wait, request.lane).observe(request.started - request.arrival)
        if request.late:
            self._of(self._late, request.lane).inc()
        if request.would_wait:
            self._of(self._would_wait, request.lane).inc()

    def first_token(self, request: Request, now: float) -> None:
        """Count a first token."""
        self._of(self._hold, request.lane).observe(now - request.started)
        self._of(self._ttft, request.lane).observe(now - request.arrival)

    def refused(self, refusal: Refusal) -> None:
        """Count a refusal."""
        self._of(self._refused, refusal.request.lane, refusal.reason.value).inc()

    def went_away(self, request: Request) -> None:
        """Count a request that left the queue by itself."""
        self._of(self._gone, request.lane).inc()

    def show(self, gate: Gate, *, fresh: bool) -> None:
        """Bring the gauges up to date."""
        for name, lane in gate.lanes.items():
            self._of(self._waiting, name).set(lane.waiting)
            self._of(self._tokens, name).set(lane.tokens)
            self._of(self._prefill, name).set(lane.in_prefill)
        for name, engine in gate.engines.items():
            self._of(self._unfinished, name).set(engine.unfinished_tokens)
        for how, number in gate.freed.items():
            self._of(self._freed, how.value).inc(number - self._freed_seen[how])
            self._freed_seen[how] = number
        self._harm.inc(gate.harm.seconds - self._harm_seen)
        self._harm_seen = gate.harm.seconds
        self._holding.set(1 if gate.holds else 0)
        plan = (gate.terms.plan_id, str(fresh).lower())
        if plan != self._plan_shown:
            self._plan.clear()
            self._plan.labels(*plan).set(1)
            self._plan_shown = plan
