"""What the demo reads off the gate's metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from sluice.demo.gate_watch import parse
from sluice.demo.scene import SCENE
from sluice.gate.meters import Meters


def test_the_gates_own_metrics_are_read() -> None:
    registry = CollectorRegistry()
    meters = Meters(registry)
    meters.bypassed["KillSwitch"] += 2
    reading = parse(generate_latest(registry).decode())
    assert reading.bypassed == {"KillSwitch": 2}
    assert reading.idle_while_waiting_seconds == 0.0


def test_harm_plan_and_queues_are_told_by_name() -> None:
    name = SCENE.services[0].name
    text = (
        "# TYPE sluice_gate_waiting_requests gauge\n"
        f'sluice_gate_waiting_requests{{class="{name}"}} 3.0\n'
        "# TYPE sluice_gate_idle_while_waiting_seconds counter\n"
        "sluice_gate_idle_while_waiting_seconds_total 1.5\n"
        "# TYPE sluice_gate_plan_info gauge\n"
        'sluice_gate_plan_info{fresh="true",plan_id="abc"} 1.0\n'
        "# TYPE sluice_gate_holding gauge\n"
        "sluice_gate_holding 0.0\n"
    )
    reading = parse(text)
    assert reading.waiting == {name: 3}
    assert reading.idle_while_waiting_seconds == 1.5
    assert reading.plan_id == "abc"
    assert not reading.holding
