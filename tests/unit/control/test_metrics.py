"""The table of metrics and the life of their series."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from sluice.control.metrics import FLEET, TABLE, Kind, Metrics


def lines(metrics: Metrics, prefix: str) -> list[str]:
    return [line for line in metrics.exposition().decode().splitlines() if line.startswith(prefix)]


def test_names_follow_the_conventions() -> None:
    for metric in TABLE:
        assert metric.name.startswith("sluice_")
        assert metric.help.endswith(".")
        assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total"), metric.name
        assert (metric.kind is Kind.HISTOGRAM) == bool(metric.buckets), metric.name
    assert len({metric.name for metric in TABLE}) == len(TABLE)


def test_the_exposition_can_be_parsed() -> None:
    families = {family.name for family in text_string_to_metric_families(Metrics("1.2.3").exposition().decode())}
    assert "sluice_build_info" in families


def test_figures_that_are_not_named_any_longer_go() -> None:
    metrics = Metrics("0")
    one, other = (("class", "chat"),), (("class", "code"),)
    name = "sluice_class_offered_requests_per_second"
    metrics.show_fleet("ns", "fleet", {(name, one): 1.0, (name, other): 2.0})
    metrics.show_fleet("ns", "fleet", {(name, other): 3.0})
    assert lines(metrics, name) == [f'{name}{{class="code",fleet="fleet",namespace="ns"}} 3.0']


def test_a_fleet_that_is_gone_leaves_no_series() -> None:
    metrics = Metrics("0")
    for metric in TABLE:
        if metric.labels[:2] != FLEET:
            continue
        labels = {"namespace": "ns", "fleet": "gone", **dict.fromkeys(metric.labels[2:], "x")}
        match metric.kind:
            case Kind.GAUGE:
                metrics.set(metric.name, 1, **labels)
            case Kind.COUNTER:
                metrics.count(metric.name, 1, **labels)
            case Kind.HISTOGRAM:
                metrics.time(metric.name, 1, **labels)
    assert 'fleet="gone"' in metrics.exposition().decode()
    metrics.forget_fleet("ns", "gone")
    assert 'fleet="gone"' not in metrics.exposition().decode()
