"""The gate's own metrics. Names and labels are an interface: dashboards and ``observe`` read them.

Counts are plain numbers that become metrics when somebody asks: the client library's own
counters would cost a tenth of a request.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.gate.affinity import AffinityCounts
from sluice.gate.request import Refusal, Refused, Request
from sluice.gate.state import Gate

BOUNDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)
_LABELS = [*(str(bound) for bound in BOUNDS), "+Inf"]
PREFIX = "sluice_gate_"


class Durations:
    """A histogram of seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * len(_LABELS)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulated, as the exposition wants them."""
        seen, result = 0, []
        for label, count in zip(_LABELS, self.counts, strict=True):
            seen += count
            result.append((label, float(seen)))
        return result


@dataclass(slots=True)
class ClassCounts:
    """What is counted per class."""

    first_attempts: int = 0
    retries: int = 0
    admitted: int = 0
    late: int = 0
    would_hold: int = 0
    gone: int = 0
    refused: Counter[Refused] = field(default_factory=Counter)
    wait: Durations = field(default_factory=Durations)
    hold: Durations = field(default_factory=Durations)
    ttft: Durations = field(default_factory=Durations)


class Meters(Collector):
    """Everything the gate counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.bypassed: Counter[str] = Counter()
        self.feed_problems: Counter[str] = Counter()
        self.gate: Gate | None = None
        self.fresh = False
        self.clusters: Mapping[str, str] = {}
        """Class to its cluster at the proxy: what ``observe`` knows it by, whose fleet it may be of."""
        self.plan_age: Callable[[], float | None] = lambda: None
        self._classes: dict[str, ClassCounts] = {}
        registry.register(self)

    def arrived(self, request: Request) -> None:
        """Count an arrival."""
        counts = self._of(request.lane)
        if request.attempt == 0:
            counts.first_attempts += 1
        else:
            counts.retries += 1

    def started(self, request: Request) -> None:
        """Count a start."""
        counts = self._of(request.lane)
        counts.admitted += 1
        counts.late += request.late
        counts.would_hold += request.would_wait
        self.bypassed["NoEngine"] += request.engine is None
        counts.wait.add(request.started - request.arrival)

    def first_token(self, request: Request, now: float) -> None:
        """Count a first token."""
        counts = self._of(request.lane)
        counts.hold.add(now - request.started)
        counts.ttft.add(now - request.arrival)

    def refused(self, refusal: Refusal) -> None:
        """Count a refusal."""
        self._of(refusal.request.lane).refused[refusal.reason] += 1

    def went_away(self, request: Request) -> None:
        """Count a request that left the queue by itself."""
        self._of(request.lane).gone += 1

    def collect(self) -> Iterator[Metric]:
        """All metrics as of now."""
        yield from self._of_classes()
        yield _counter("bypassed", "Requests let pass without a decision.", "why", self.bypassed)
        yield _counter("feed_problems", "Plans or manifests that could not be used.", "why", self.feed_problems)
        if self.gate is not None:
            yield from self._of_gate(self.gate)

    def _of(self, name: str) -> ClassCounts:
        counts = self._classes.get(name)
        if counts is None:
            counts = self._classes[name] = ClassCounts()
        return counts

    def _of_classes(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(f"{PREFIX}requests", "Requests seen.", labels=["attempt", "class"])
        text = "Requests answered with 429."
        refused = CounterMetricFamily(f"{PREFIX}refused", text, labels=["class", "proxy_cluster", "reason"])
        text = "Requests whose client or proxy went away while they waited."
        gone = CounterMetricFamily(f"{PREFIX}gone", text, labels=["class", "proxy_cluster"])
        ttft = HistogramMetricFamily(
            f"{PREFIX}ttft_seconds", "From arrival to first token.", labels=["class", "proxy_cluster"]
        )
        for name, counts in self._classes.items():
            requests.add_metric(["first", name], counts.first_attempts)
            requests.add_metric(["retry", name], counts.retries)
            for reason, number in counts.refused.items():
                refused.add_metric([name, self.clusters.get(name, ""), reason.value], number)
            gone.add_metric([name, self.clusters.get(name, "")], counts.gone)
            ttft.add_metric([name, self.clusters.get(name, "")], counts.ttft.buckets(), counts.ttft.total)
        yield from (requests, refused, gone, ttft)
        classes = self._classes.items()
        yield _counter("admitted", "Requests let go.", "class", {name: one.admitted for name, one in classes})
        yield _counter(
            "late", "Let go after their promise was lost.", "class", {name: one.late for name, one in classes}
        )
        text = "Requests not gated that an exact gate would have held."
        yield _counter("would_hold", text, "class", {name: one.would_hold for name, one in classes})
        yield _histogram("wait_seconds", "From arrival to start.", {name: one.wait for name, one in classes})
        yield _histogram("hold_seconds", "From start to first token.", {name: one.hold for name, one in classes})

    def _of_gate(self, gate: Gate) -> Iterator[Metric]:
        lanes = gate.lanes.items()
        yield _gauge("waiting_requests", "Requests that wait.", "class", {name: lane.waiting for name, lane in lanes})
        yield _gauge("waiting_tokens", "Prompt tokens that wait.", "class", {name: lane.tokens for name, lane in lanes})
        text = "Requests let go whose first token is not yet seen."
        yield _gauge("prefill_requests", text, "class", {name: lane.in_prefill for name, lane in lanes})
        text = "Ready replicas known that the class may use; of 0 nothing is held."
        yield _gauge("class_engines", text, "class", {name: len(gate.usable(lane)) for name, lane in lanes})
        unfinished = {name: engine.unfinished_tokens for name, engine in gate.engines.items()}
        yield _gauge("engine_unfinished_tokens", "Unfinished prefill tokens.", "engine", unfinished)
        accounts = gate.accounts
        if accounts.answers.reported:
            here = {name: accounts.answers.resident[name] for name in gate.engines}
            yield _gauge("engine_resident_requests", "Requests whose answer is not over.", "engine", here)
        free = {name: slots for name, one in gate.engines.items() if (slots := one.free_slots()) is not None}
        yield _gauge("engine_free_slots", "Slots that one more request would find free.", "engine", free)
        text = "1 while the proxy reports the ends of answers."
        yield GaugeMetricFamily(f"{PREFIX}ends_reported", text, value=int(accounts.answers.reported))
        text = "Requests that the proxy sent to another replica than the one named, by its own report."
        yield CounterMetricFamily(f"{PREFIX}misplaced", text, value=accounts.misplaced)
        yield from _of_affinity(accounts.affinity)
        freed = {how.value: number for how, number in accounts.freed.items()}
        yield _counter("freed", "Budgets freed, by what freed them.", "how", freed)
        text = "Seconds in which something waited while something idled."
        yield CounterMetricFamily(f"{PREFIX}idle_while_waiting_seconds", text, value=gate.harm.seconds)
        text = "Factor on a class's prompt estimates, by the engines' own counts."
        yield _gauge(
            "prompt_calibration", text, "class", {name: accounts.calibration.factor(name) for name, _ in lanes}
        )
        text = "1 while requests are held, 0 in shadow or open."
        yield GaugeMetricFamily(f"{PREFIX}holding", text, value=1 if gate.holds else 0)
        text = "1 once the gate has stopped holding by itself: something waited while engines idled."
        yield GaugeMetricFamily(f"{PREFIX}stopped_by_harm", text, value=int(gate.harm.tripped))
        if (age := self.plan_age()) is not None:
            yield GaugeMetricFamily(f"{PREFIX}plan_age_seconds", "Time since the plan was read last.", value=age)
        plan = GaugeMetricFamily(f"{PREFIX}plan_info", "1 for the plan in force.", labels=["fresh", "plan_id"])
        plan.add_metric([str(self.fresh).lower(), gate.terms.plan_id], 1)
        yield plan


def _of_affinity(counts: AffinityCounts) -> Iterator[Metric]:
    """Where requests of one key went, and what the engines' caches held of them."""
    text = "Requests with an affinity key, by where they went relative to the key's last one."
    requests = CounterMetricFamily(f"{PREFIX}affinity_requests", text, labels=["class", "placed", "served"])
    for (name, served, placed), number in counts.requests.items():
        requests.add_metric([name, str(placed).lower(), served.value], number)
    yield requests
    for name, text, tokens in (
        (
            "prefix_queried_tokens",
            "Prompt tokens that engines looked up in their prefix caches.",
            counts.queried_tokens,
        ),
        ("prefix_hit_tokens", "Prompt tokens that engines found in their prefix caches.", counts.hit_tokens),
    ):
        yield _counter(name, text, "placed", {str(placed).lower(): number for placed, number in tokens.items()})


def _counter(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histogram(name: str, text: str, values: Mapping[str, Durations]) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, text, labels=["class"])
    for key, value in values.items():
        family.add_metric([key], value.buckets(), value.total)
    return family
