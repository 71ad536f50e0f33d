"""Dashboard, alerts and network policies: off unless asked for, and about series that exist."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from tests.chart.conftest import Render
from tests.chart.test_chart import of_kind
from tests.unit.gate.worlds import engine, lane, request, terms

from sluice.control.metrics import TABLE
from sluice.demo.programs import promtool
from sluice.gate.affinity import Served
from sluice.gate.meters import Meters
from sluice.gate.refusals import refuse
from sluice.gate.request import Refused
from sluice.gate.state import Gate

ALL = (
    "monitoring.dashboard.enabled=true",
    "monitoring.alerts.enabled=true",
    "monitoring.serviceMonitor.enabled=true",
    "networkPolicy.enabled=true",
)
GATE = ("gate.enabled=true", "gate.fleet=chat-fleet")
SERIES = re.compile(r"\bsluice_[a-z0-9_]+")


def exported() -> set[str]:
    """Every series that operator and gate show."""
    found = set()
    for metric in TABLE:
        found |= {metric.name} | {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}
    meters = Meters(CollectorRegistry())
    gate = meters.gate = Gate(terms(lane("chat"), engines=(engine("one"),)))
    meters.plan_age = lambda: 1.0
    meters.bypassed["NoPrefill"] += 1
    meters.feed_problems["Plan"] += 1
    gate.accounts.hear(reported=True)
    gate.accounts.affinity.requests["chat", Served.SAME, True] += 1
    gate.accounts.affinity.looked_up(1.0, 1.0, placed=True)
    one = request(1)
    meters.arrived(one)
    gate.on_arrival(one, 0.0)
    meters.started(one)
    meters.first_token(one, 1.0)
    gate.on_first_chunk(one, 1.0)
    meters.refused(refuse(gate.lanes["chat"], request(2), Refused.QUEUE_FULL))
    for family in meters.collect():
        found |= {family.name} | {sample.name for sample in family.samples}
    return found


def test_without_asking_there_is_neither_dashboard_nor_alert_nor_policy(render: Render) -> None:
    kinds = {document["kind"] for document in render(*GATE)}
    assert kinds.isdisjoint({"ConfigMap", "PrometheusRule", "ServiceMonitor", "NetworkPolicy"})


def dashboard(render: Render) -> dict[str, Any]:
    (found,) = of_kind(render(*ALL), "ConfigMap")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    return dict(json.loads(found["data"]["sluice.json"]))


def test_every_panel_and_every_alert_asks_for_series_that_exist(render: Render) -> None:
    known = exported()
    asked = {target["expr"] for panel in dashboard(render)["panels"] for target in panel.get("targets", ())}
    (rules,) = of_kind(render(*ALL), "PrometheusRule")
    asked |= {rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]}
    unknown = {name for expression in asked for name in SERIES.findall(expression)} - known
    assert not unknown


def test_panels_have_their_own_numbers_and_do_not_overlap(render: Render) -> None:
    panels = dashboard(render)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def rules_file(render: Render, folder: Path) -> Path:
    """The rules as Prometheus reads them from a file."""
    (rules,) = of_kind(render(*ALL), "PrometheusRule")
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(rules["spec"]))
    return path


def test_prometheus_takes_the_rules(render: Render, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(promtool()), "check", "rules", str(rules_file(render, tmp_path))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


FLEET = '{namespace="demo",fleet="one"}'


FIRING = [
    pytest.param("SluiceNotPlanning", f"sluice_last_success_timestamp_seconds{FLEET}", "0x30", 12, id="no plan"),
    pytest.param("SluiceAbsent", "unrelated", "1x30", 12, id="no operator"),
    pytest.param(
        "SluicePassesFail",
        'sluice_passes_total{namespace="demo",fleet="one",outcome="Failed"}',
        "0+1x30",
        12,
        id="failing passes",
    ),
    pytest.param("SluiceObservationOld", f"sluice_observation_age_seconds{FLEET}", "200x30", 12, id="old samples"),
    pytest.param("SluicePromisesRelaxed", f"sluice_promises_relaxed{FLEET}", "1x30", 20, id="conflict"),
    pytest.param("SluiceGateIdleWhileWaiting", "sluice_gate_idle_while_waiting_seconds_total", "0+2x30", 12, id="harm"),
    pytest.param("SluiceGateStoppedHolding", "sluice_gate_stopped_by_harm", "1x30", 12, id="fell back to shadow"),
    pytest.param("SluiceGateNoEngine", 'sluice_gate_bypassed_total{why="NoEngine"}', "0+1x30", 12, id="blind gate"),
    pytest.param("SluiceGatePlanStale", 'sluice_gate_plan_info{fresh="false"}', "1x30", 20, id="stale plan"),
    pytest.param("SluiceGateFeedProblems", 'sluice_gate_feed_problems_total{why="Plan"}', "0+1x60", 40, id="bad plans"),
]
"""Alert, a series, its values, and the minute by which it fires."""


@pytest.mark.parametrize(("alert", "series", "values", "minutes"), FIRING)
def test_an_alert_fires_for_what_it_is_about_and_not_otherwise(
    render: Render, tmp_path: Path, alert: str, series: str, values: str, minutes: int
) -> None:
    rules = rules_file(render, tmp_path)
    assert fired(rules, alert, {series: values}, minutes)
    assert not fired(rules, alert, {"sluice_build_info": "1x60"}, minutes), "an operator is there and nothing is wrong"


@pytest.mark.parametrize(
    ("refused", "fires"),
    [
        pytest.param({"QueueFull": 40}, True, id="two thirds, for one reason"),
        pytest.param({"QueueFull": 20, "WaitTooLong": 20}, True, id="two thirds, for two reasons together"),
        pytest.param({"QueueFull": 20}, False, id="one third"),
        pytest.param({}, False, id="nothing was ever refused"),
    ],
)
def test_a_class_that_is_refused_more_than_half_of_the_time_is_told(
    render: Render, tmp_path: Path, refused: dict[str, int], fires: bool
) -> None:
    """Of 60 requests a minute, retries among them; another class of the same gate is never refused."""
    given = {
        'sluice_gate_requests_total{class="chat",attempt="first"}': "0+40x60",
        'sluice_gate_requests_total{class="chat",attempt="retry"}': "0+20x60",
        'sluice_gate_requests_total{class="code",attempt="first"}': "0+900x60",
    }
    for reason, number in refused.items():
        given[f'sluice_gate_refused_total{{class="chat",proxy_cluster="c",reason="{reason}"}}'] = f"0+{number}x60"
    rules = rules_file(render, tmp_path)
    assert fired(rules, "SluiceGateRefuses", given, 40) is fires
    assert not fired(rules, "SluiceGateRefuses", given, 10), "not in the first quarter of an hour"


def test_every_alert_is_tried(render: Render) -> None:
    (rules,) = of_kind(render(*ALL), "PrometheusRule")
    declared = {rule["alert"] for group in rules["spec"]["groups"] for rule in group["rules"]}
    assert declared == {case.values[0] for case in FIRING} | {"SluiceGateRefuses"}


def fired(rules: Path, alert: str, given: Mapping[str, str], minutes: int) -> bool:
    """Whether ``alert`` fires after so many minutes of some series, by Prometheus's own evaluation."""
    count = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
    document = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": series, "values": values} for series, values in given.items()],
                "promql_expr_test": [
                    {"expr": count, "eval_time": f"{minutes}m", "exp_samples": [{"labels": "{}", "value": 1}]}
                ],
            }
        ],
    }
    path = rules.with_name("test.yaml")
    path.write_text(yaml.safe_dump(document))
    done = subprocess.run([str(promtool()), "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "got:" in done.stdout + done.stderr, done.stdout + done.stderr
    return done.returncode == 0


def test_only_proxies_may_call_the_gate_where_they_are_named(render: Render) -> None:
    named = ("networkPolicy.proxies[0].namespaceSelector.matchLabels.app=envoy",)
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(render(*ALL, *GATE, *named), "NetworkPolicy")}
    http, grpc = policies["chat-fleet-gate"]["ingress"]
    assert http == {"ports": [{"port": "http"}]}
    assert grpc["ports"] == [{"port": "grpc"}]
    assert grpc["from"] == [{"namespaceSelector": {"matchLabels": {"app": "envoy"}}}]
    assert policies["sluice"]["ingress"] == [{"ports": [{"port": "http"}]}]
