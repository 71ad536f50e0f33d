"""What our own gate tells: time to first token as clients see it, and demand that never reached the router."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.observe.test_observer import CHAT, FILES, FakePrometheus, fleet, observe, term, workload

from sluice.model.fleet import GateUse
from sluice.model.signal import Signal, Source

HOLDS = {
    "envoy_cluster_upstream_rq_total": [
        *term(CHAT, "total", 4.0),
        *term(CHAT, "gate_refused", 2.0),
        *term(CHAT, "gate_gone", 1.0),
    ],
    "sluice_gate_ttft_seconds_sum": [*term(CHAT, "ttft_sum", 6.0), *term(CHAT, "ttft_count", 4.0)],
}


@pytest.mark.parametrize("use", list(GateUse))
async def test_the_gates_own_time_to_first_token_is_read_where_there_is_a_gate(use: GateUse) -> None:
    asked = FakePrometheus(HOLDS)
    one = fleet(replace(FILES, gate=use, gate_address="127.0.0.1:9002"))
    seen = (await observe(asked, [workload("chat", model="own")], one)).classes["chat"].samples
    found = seen.get(Signal.TTFT)
    assert (found is not None) is (use is not GateUse.DISABLED)
    if found:
        assert (found.value, found.source) == (1.5, Source.GATE)
    assert any('"sluice_gate_ttft_seconds_sum"' in text for text, _ in asked.asked) is (use is not GateUse.DISABLED)


async def test_what_the_gate_refused_and_who_left_its_queue_is_demand() -> None:
    one = fleet(replace(FILES, gate=GateUse.ENABLED, gate_address="127.0.0.1:9002"))
    seen = (await observe(FakePrometheus(HOLDS), [workload("chat")], one)).classes["chat"].samples
    assert seen[Signal.OFFERED_RATE].value == 7.0
    assert seen[Signal.REFUSED_RATE].value == 2.0
    assert seen[Signal.ADMITTED_RATE].value == 4.0
