"""The operator's own metrics: one table declares name, type, labels and help.

The registry is a value of its own, so that two operators in one process (tests) share
nothing. Series that carry an object's name are removed when the object goes.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

FLEET = ("namespace", "fleet")
CLASS = (*FLEET, "class")
POOL = (*FLEET, "pool")
INDICATOR = (*CLASS, "signal", "statistic")
OBJECTIVE = (*FLEET, "signal", "statistic")
PROMISE = (*FLEET, "promise")


class Kind(StrEnum):
    """The Prometheus type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

TABLE: tuple[Metric, ...] = (
    Metric("sluice_build_info", Kind.GAUGE, ("version", "python"), "Always 1; the labels tell what runs."),
    Metric(
        "sluice_pass_duration_seconds",
        Kind.HISTOGRAM,
        FLEET,
        "Time of one pass, from gathering to the last write.",
        DURATIONS,
    ),
    Metric("sluice_passes_total", Kind.COUNTER, (*FLEET, "outcome"), "Passes by outcome: Adopted, Kept, Failed."),
    Metric(
        "sluice_solve_duration_seconds",
        Kind.HISTOGRAM,
        FLEET,
        "Time to estimate, solve and stabilise.",
        DURATIONS,
    ),
    Metric("sluice_observation_age_seconds", Kind.GAUGE, FLEET, "Age of the samples that the last pass used."),
    Metric("sluice_plan_age_seconds", Kind.GAUGE, FLEET, "Time since the plan in force was made."),
    Metric("sluice_plan_value_per_second", Kind.GAUGE, FLEET, "Money per second that the plan in force earns."),
    Metric("sluice_plan_upper_bound", Kind.GAUGE, FLEET, "Money per second that no policy can exceed."),
    Metric(
        "sluice_shadow_price",
        Kind.GAUGE,
        (*FLEET, "constraint"),
        "Money per second that one more unit of a binding row would earn; rows are those of the plan in force.",
    ),
    Metric("sluice_pool_replica_value_per_second", Kind.GAUGE, POOL, "Money per second of one more replica, gross."),
    Metric("sluice_class_marginal_value", Kind.GAUGE, CLASS, "Money that one more offered request would earn."),
    Metric(
        "sluice_class_cut_off_ratio",
        Kind.GAUGE,
        CLASS,
        "Share by which the class's prices may fall before it is refused; negative: must rise before it is served.",
    ),
    Metric(
        "sluice_promise_target", Kind.GAUGE, PROMISE, "What was promised: seconds or a ratio, by the kind of promise."
    ),
    Metric("sluice_promise_planned", Kind.GAUGE, PROMISE, "What the plan in force gives of it, in the same unit."),
    Metric("sluice_promise_kept", Kind.GAUGE, PROMISE, "1: the plan in force keeps the promise; 0: it does not."),
    Metric("sluice_promise_price", Kind.GAUGE, PROMISE, "Money per second that one unit of loosening would earn."),
    Metric("sluice_promises_relaxed", Kind.GAUGE, FLEET, "Hard promises relaxed because not all can hold together."),
    Metric(
        "sluice_promises_cost_per_second",
        Kind.GAUGE,
        FLEET,
        "Money per second that the hard promises cost as applied; only while not all can hold together.",
    ),
    Metric(
        "sluice_certificate_residual_ratio",
        Kind.GAUGE,
        (*FLEET, "part"),
        "Our proof of optimality, relative: parts primal, dual and gap. All near 0, or the plan is not applied.",
    ),
    Metric("sluice_last_success_timestamp_seconds", Kind.GAUGE, FLEET, "When a pass last ended with a plan in force."),
    Metric("sluice_pool_replicas", Kind.GAUGE, (*POOL, "role"), "Replicas planned mixed and solo, real numbers."),
    Metric(
        "sluice_condition", Kind.GAUGE, (*FLEET, "type"), "A fleet's condition: 1 True, 0 False, -1 Unknown or absent."
    ),
    Metric("sluice_class_offered_requests_per_second", Kind.GAUGE, CLASS, "Estimated demand, refusals included."),
    Metric("sluice_class_admitted_requests_per_second", Kind.GAUGE, CLASS, "Admitted rate in the plan in force."),
    Metric("sluice_class_rate_limit_requests_per_second", Kind.GAUGE, CLASS, "Rate limit written; absent: no limit."),
    Metric("sluice_class_in_flight_limit", Kind.GAUGE, CLASS, "In-flight limit written; absent: no limit."),
    Metric("sluice_class_weight_ratio", Kind.GAUGE, (*CLASS, "pool"), "Share of the class's traffic sent to a pool."),
    Metric(
        "sluice_class_sli_target", Kind.GAUGE, INDICATOR, "What an indicator promises: seconds, or a ratio of requests."
    ),
    Metric("sluice_class_sli_measured", Kind.GAUGE, INDICATOR, "What is measured of it, in the same unit."),
    Metric("sluice_class_sli_held", Kind.GAUGE, INDICATOR, "1: the measured value keeps the target; 0: it does not."),
    Metric("sluice_fleet_sli_target", Kind.GAUGE, OBJECTIVE, "What the whole fleet is promised: seconds, or a ratio."),
    Metric("sluice_fleet_sli_measured", Kind.GAUGE, OBJECTIVE, "What is measured of it over all classes."),
    Metric("sluice_fleet_sli_held", Kind.GAUGE, OBJECTIVE, "1: the measured value keeps the target; 0: it does not."),
    Metric("sluice_data_plane_writes_total", Kind.COUNTER, FLEET, "Objects or files written to a data plane."),
    Metric("sluice_status_writes_total", Kind.COUNTER, ("kind",), "Status documents written, by kind of object."),
    Metric("sluice_events_total", Kind.COUNTER, ("type",), "Events published, by type."),
    Metric("sluice_watch_events_total", Kind.COUNTER, ("kind",), "Changes received from the watch, by kind of object."),
)


class Metrics:
    """The table as live series."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped there; they only double the series
        self._registry = CollectorRegistry()
        registry = self._registry
        self._gauge = {row.name: Gauge(row.name, row.help, row.labels, registry=registry) for row in _rows(Kind.GAUGE)}
        self._counter = {
            row.name: Counter(row.name, row.help, row.labels, registry=registry) for row in _rows(Kind.COUNTER)
        }
        self._histogram = {
            row.name: Histogram(row.name, row.help, row.labels, buckets=row.buckets, registry=registry)
            for row in _rows(Kind.HISTOGRAM)
        }
        self._labels = {metric.name: metric.labels for metric in TABLE}
        self._shown: dict[tuple[str, str], set[tuple[str, tuple[str, ...]]]] = {}
        self.set("sluice_build_info", 1, version=version, python=platform.python_version())

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._gauge[name].labels(**labels).set(value)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._counter[name].labels(**labels).inc(amount)

    def time(self, name: str, seconds: float, **labels: str) -> None:
        """Put a duration into a histogram."""
        self._histogram[name].labels(**labels).observe(seconds)

    def show_fleet(
        self, namespace: str, fleet: str, values: Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
    ) -> None:
        """Make the gauges of one fleet exactly ``values``; those that are not named go."""
        shown: set[tuple[str, tuple[str, ...]]] = set()
        for (name, extra), value in values.items():
            labels = {"namespace": namespace, "fleet": fleet, **dict(extra)}
            self.set(name, value, **labels)
            shown.add((name, tuple(labels[label] for label in self._labels[name])))
        for name, stale in self._shown.get((namespace, fleet), set()) - shown:
            self._gauge[name].remove(*stale)
        self._shown[(namespace, fleet)] = shown

    def forget_fleet(self, namespace: str, fleet: str) -> None:
        """Remove every series of a fleet that is gone, counters included."""
        self._shown.pop((namespace, fleet), None)
        for name, labels in self._labels.items():
            if labels[:2] == FLEET:
                series = self._gauge.get(name) or self._counter.get(name) or self._histogram[name]
                series.remove_by_labels({"namespace": namespace, "fleet": fleet})

    def exposition(self) -> bytes:
        """The text that a scrape reads."""
        return generate_latest(self._registry)


def _rows(kind: Kind) -> tuple[Metric, ...]:
    return tuple(metric for metric in TABLE if metric.kind is kind)
